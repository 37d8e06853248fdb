// The live card of a job. It is mounted over the snapshot that the kernel has put into the notebook, and shows
// the snapshot until it has loaded the job. All text is inserted as text, never as HTML.

import { makeRequest, makeFailure, makeOutputs, makeProgress, makeTimeline } from "./card_parts.js";
import { el } from "./dom.js";
import { showLogs } from "./log_view.js";
import { Recent } from "./recent.js";
import { ServiceError, getJSON, getTail, put, serviceNow, stream } from "./service.js";
import { hasEnded, moodOf, formatCount, formatDuration, formatState, shownState } from "./words.js";

// The numbers of jobs that a page caches, and of sections of their cards that a user opened or closed.
export const MAX_REMEMBERED = 100;
const MAX_OPENED = 300;
const OPEN_OUTPUTS = 10;
const ERROR_TAIL = 2_000;

const sheet = new CSSStyleSheet();
const styled = fetch(new URL("card.css", import.meta.url))
  .then((response) => response.text())
  .then((css) => sheet.replace(css));

// A notebook recreates an output whenever the kernel updates it: the new card continues as the old one was.
const recentJobs = new Recent(MAX_REMEMBERED);
const openSections = new Recent(MAX_OPENED);

function lastLines(text, limit = 20) {
  return text.trimEnd().split("\n").slice(-limit).join("\n");
}

const sentence = (text) => (text.endsWith(".") ? text : `${text}.`);

class JobCard extends HTMLElement {
  #job = null;
  #counts = null;
  #containers = [];
  #failure = null;
  #parts = null;
  #loading = null;
  #stale = false;
  #seen = new Set();
  jobId = "";
  service = "";

  connectedCallback() {
    // A notebook removes outputs that are scrolled out of view and puts them back: then only continue.
    if (!this.shadowRoot) {
      this.attachShadow({ mode: "open" }).append(el("slot"));
      this.shadowRoot.adoptedStyleSheets = [sheet];
    }
    const cached = this.#job ? null : recentJobs.get(this.jobId);
    if (cached) {
      [this.#job, this.#counts, this.#failure, this.#containers] = cached;
      this.#build();
      this.#update();
    }
    if (!this.#job || !hasEnded(this.#job.state)) this.refresh();
  }

  disconnectedCallback() {
    stream.remove(this);
  }

  // One request at a time: a refresh that is wanted meanwhile follows at its end.
  refresh() {
    if (this.#loading) {
      this.#stale = true;
      return;
    }
    this.#loading = this.#load().finally(() => {
      this.#loading = null;
      if (this.#stale && this.isConnected) {
        this.#stale = false;
        this.refresh();
      }
    });
  }

  async #load() {
    const id = encodeURIComponent(this.jobId);
    try {
      await styled;
      const job = await getJSON(`jobs/${id}`);
      const live = !hasEnded(job.state);
      const needed = job.job_input.num_containers > 1 || job.state === "error";
      const containers = needed ? await this.#loadContainers(id) : null;
      this.#job = job;
      this.#containers = containers ?? [];
      this.#counts = containers ? count(containers) : { [job.state]: 1 };
      if (job.state === "error" && !this.#failure) this.#failure = await this.#loadFailure(id, containers);
      recentJobs.set(this.jobId, [this.#job, this.#counts, this.#failure, this.#containers]);
      if (!this.#parts) this.#build();
      this.#update();
      if (live && this.isConnected) stream.add(this);
      else stream.remove(this);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.#explain(error);
    }
  }

  // A service older than this card may lack the list of containers; the card works without it.
  async #loadContainers(id) {
    try {
      return (await getJSON(`jobs/${id}/containers`)).containers;
    } catch (error) {
      if (error instanceof ServiceError && error.status === 404) return null;
      throw error;
    }
  }

  async #loadFailure(id, containers) {
    const failed = (containers ?? []).filter((c) => moodOf(c.state) === "failed");
    if (!failed.length) return null;
    const first = failed[0];
    let stderr = "";
    try {
      stderr = (await getTail(`jobs/${id}/log/${first.number}/stderr`, ERROR_TAIL)).text;
    } catch (error) {
      // A container that never ran has no log.
      if (!(error instanceof ServiceError)) throw error;
    }
    return { failed, first, stderr: lastLines(stderr) };
  }

  onTransition(event) {
    // A response that is being loaded may be older than this event: load again after it.
    if (this.#loading) this.#stale = true;
    if (!this.#job || this.#seen.has(event.trans_id)) return;
    this.#seen.add(event.trans_id);
    if (hasEnded(event.state)) {
      this.refresh();
      return;
    }
    const times = this.#job.transition_times;
    if (times.some((transition) => transition.state === event.state)) return;
    times.push({ state: event.state, time: event.time });
    this.#job.state = event.state;
    if (this.#job.job_input.num_containers === 1) this.#counts = { [event.state]: 1 };
    this.#update();
  }

  onProgress(event) {
    if (!this.#job || hasEnded(this.#job.state)) return;
    const before = shownState(this.#job.state, this.#counts);
    this.#counts = event.containers;
    this.#update();
    // The timeline says when the first container began.
    if (shownState(this.#job.state, this.#counts) !== before) this.refresh();
  }

  onStream() {
    if (this.#parts) this.#updateStream();
  }

  onTick() {
    if (this.#parts) this.#updateElapsed();
  }

  // Keeps the snapshot, with a line that says why the card is not live.
  #explain(error) {
    if (error.isOffline) stream.add(this);
    if (this.#parts) {
      this.#showMessage(error.isOffline ? "" : error.message);
      return;
    }
    const why = error.isSignedOut
      ? "Not live: you are signed out of Jupyter. Reload the page to sign in."
      : error.isUnknownJob
        ? "Not live: this Jupyter server's CTS does not know the job. This is what was saved."
        : `Not live. ${sentence(error.message)} This is what was saved; trying again.`;
    this.shadowRoot.replaceChildren(el("slot"), el("p", { className: "note", role: "status" }, why));
  }

  #build() {
    const parts = {};
    const section = (name, properties = {}, tag = "div") =>
      (parts[name] = el(tag, { className: name, ...properties }));
    const details = (name, title, isOpen = false) => {
      parts[`${name}Title`] = el("summary", {}, title);
      parts[`${name}Body`] = el("div", { className: "body" });
      const key = `${this.jobId} ${name}`;
      return (parts[name] = el("details", {
        className: name, open: openSections.get(key) ?? isOpen,
        on: { toggle: () => openSections.set(key, parts[name].open) },
      }, parts[`${name}Title`], parts[`${name}Body`]));
    };
    const card = el("section", { className: "card", "aria-label": `CTS job ${this.jobId}` },
      el("header", {},
        el("div", { className: "what" }, section("image", {}, "strong"), section("origin")),
        el("div", { className: "how" },
          section("state", { role: "status" }, "span"), section("elapsed", {}, "span"))),
      section("progress"), section("error", { role: "alert" }), section("warnings"), section("request"),
      details("outputs", "Outputs", (this.#job.outputs ?? []).length <= OPEN_OUTPUTS), details("logs", "Logs"), details("timeline", "Timeline"),
      el("footer", {}, section("stream"), section("actions")),
      section("message", { role: "alert" }));
    parts.card = card;
    parts.logs.addEventListener("toggle", () => parts.logs.open && this.#openLogs());
    this.#parts = parts;
    this.shadowRoot.replaceChildren(card);
    this.#showActions();
  }

  #update() {
    const { image, origin, state, card, request, progress, timelineBody } = this.#parts;
    const job = this.#job;
    const shown = shownState(job.state, this.#counts);
    card.dataset.mood = moodOf(shown);
    image.textContent = job.job_input.image;
    image.title = `${job.image.name}@${job.image.digest}`;
    origin.replaceChildren(
      el("code", { title: job.id }, job.id.slice(0, 8)), ` \u00b7 ${job.user} \u00b7 ${this.service}`);
    if (state.textContent !== formatState(shown)) state.textContent = formatState(shown);
    state.title = job.state;
    request.replaceChildren(...makeRequest(job));
    progress.replaceChildren(...makeProgress(job.job_input.num_containers, this.#counts));
    this.#updateError();
    this.#updateWarnings();
    this.#updateOutputs();
    timelineBody.replaceChildren(makeTimeline(job.transition_times, this.#containers));
    this.#updateElapsed();
    this.#updateStream();
    this.#parts.logs.hidden = moodOf(shown) === "waiting";
    if (hasEnded(job.state) || job.state === "canceling") this.#showActions();
  }

  #updateError() {
    const { error } = this.#parts;
    error.hidden = this.#job.state !== "error";
    if (error.hidden || error.childElementCount) return;
    error.replaceChildren(...makeFailure(this.#job, this.#failure));
  }

  #updateWarnings() {
    const { warnings } = this.#parts;
    const texts = this.#job.warnings ?? [];
    warnings.hidden = !texts.length;
    warnings.replaceChildren(...texts.map((text) => el("p", {}, text)));
  }

  #updateOutputs() {
    const { outputs, outputsTitle, outputsBody } = this.#parts;
    const count = this.#job.outputs?.length ?? 0;
    outputs.hidden = !count;
    if (outputs.hidden || outputsBody.childElementCount) return;
    const folder = this.#job.job_input.output_dir.replace(/\/*$/, "/");
    outputsTitle.textContent = `${formatCount(count, "output")} in ${folder}`;
    outputsBody.replaceChildren(...makeOutputs(this.#job, folder));
  }

  #updateElapsed() {
    const times = this.#job.transition_times;
    const end = hasEnded(this.#job.state) ? Date.parse(times.at(-1).time) : serviceNow();
    const seconds = (end - Date.parse(times[0].time)) / 1000;
    const text = formatDuration(seconds, { tenths: hasEnded(this.#job.state) });
    if (this.#parts.elapsed.textContent !== text) this.#parts.elapsed.textContent = text;
  }

  #updateStream() {
    const part = this.#parts.stream;
    if (hasEnded(this.#job.state)) {
      part.replaceChildren();
      return;
    }
    const since = new Date(stream.since).toLocaleTimeString();
    const words = {
      "connecting": "Connecting \u2026",
      "live": "Live",
      "asking": "Asked for now and then: this service tells of no changes by itself",
      "offline": `Offline since ${since}. ${sentence(stream.reason)} Trying again.`,
      "signed-out": "Not live: you are signed out of Jupyter. Reload the page to sign in.",
    }[stream.state];
    this.#parts.card.dataset.stream = stream.state;
    if (part.textContent !== words) part.replaceChildren(el("span", { className: "dot" }), words);
  }

  #showMessage(text) {
    this.#parts.message.textContent = text;
  }

  #showActions({ confirming = false } = {}) {
    const { actions } = this.#parts;
    const { state } = this.#job;
    if (hasEnded(state) || state === "canceling") {
      actions.replaceChildren();
      return;
    }
    if (!confirming) {
      actions.replaceChildren(el("button", {
        type: "button", on: { click: () => this.#showActions({ confirming: true }) },
      }, "Cancel"));
      return;
    }
    const back = () => {
      this.#showActions();
      actions.querySelector("button")?.focus();
    };
    const keep = el("button", { type: "button", on: { click: back } }, "Keep it");
    const cancel = el("button", {
      type: "button", className: "danger", on: { click: () => this.#cancel() },
    }, "Cancel the job");
    actions.replaceChildren(el("span", {
      className: "confirm", role: "group", "aria-label": "Cancel the job?",
      on: { keydown: (event) => event.key === "Escape" && back() },
    }, cancel, keep));
    keep.focus();
  }

  async #cancel() {
    for (const button of this.#parts.actions.querySelectorAll("button")) button.disabled = true;
    this.#showMessage("");
    try {
      await put(`jobs/${encodeURIComponent(this.jobId)}/cancel`);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      // A job that has ended meanwhile cannot be cancelled: its state says enough.
      if (!error.isUnknownJob) this.#showMessage(`Not cancelled: ${error.message}`);
    }
    this.#showActions();
    this.refresh();
  }

  #openLogs() {
    const { logsBody } = this.#parts;
    if (logsBody.childElementCount) return;
    showLogs(logsBody, {
      jobId: this.jobId,
      containers: this.#job.job_input.num_containers,
      first: this.#failure?.first.number ?? 0,
      stream: this.#failure ? "stderr" : "stdout",
    });
  }
}

function count(containers) {
  const counts = {};
  for (const { state } of containers) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}

if (!customElements.get("cts-job-card")) customElements.define("cts-job-card", JobCard);

// Mounts a live card over the snapshot in `root`, whose data-job is the job's id and data-service the service's name.
export function mount(root) {
  if (root.querySelector("cts-job-card")) return;
  const card = document.createElement("cts-job-card");
  card.jobId = root.dataset.job;
  card.service = root.dataset.service;
  card.append(...root.childNodes);
  root.append(card);
}
