// The live card of a job. It is mounted over the snapshot that the kernel has put into the notebook, and shows
// that snapshot for as long as it knows nothing better. All text goes in as text, never as HTML.

import { ServiceError, getJSON, getTail, put, serviceNow, stream, urlOf } from "./service.js";
import {
  hasEnded, moodOf, readDuration, sayCount, sayDuration, saySize, sayState, sayTime, shownState,
} from "./words.js";

const MAX_OUTPUTS = 50;
const OPEN_OUTPUTS = 10;
const MAX_FAILED_NAMED = 10;
const ERROR_TAIL = 2_000;
const LOG_TAIL = 64_000;
const MOODS = ["done", "failed", "cancelled", "running", "waiting"];
const MOOD_WORDS = { done: "done", failed: "failed", cancelled: "cancelled", running: "running", waiting: "waiting" };

const sheet = new CSSStyleSheet();
const styled = fetch(new URL("card.css", import.meta.url))
  .then((response) => response.text())
  .then((css) => sheet.replace(css));

// A notebook makes an output anew whenever the kernel updates it: the card goes on as it was.
const remembered = new Map();
const opened = new Map();

function el(tag, { on = {}, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "className" || name === "open" || name === "value") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, handler] of Object.entries(on)) element.addEventListener(event, handler);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function lastLines(text, limit = 20) {
  return text.trimEnd().split("\n").slice(-limit).join("\n");
}

class JobCard extends HTMLElement {
  #job = null;
  #counts = null;
  #failure = null;
  #parts = null;
  #loading = null;
  #stale = false;
  #seen = new Set();
  jobId = "";
  service = "";

  connectedCallback() {
    // A notebook takes what is scrolled away out of the page and puts it back: then only go on.
    if (!this.shadowRoot) {
      this.attachShadow({ mode: "open" }).append(el("slot"));
      this.shadowRoot.adoptedStyleSheets = [sheet];
    }
    const known = this.#job ? null : remembered.get(this.jobId);
    if (known) {
      [this.#job, this.#counts, this.#failure] = known;
      this.#build();
      this.#update();
    }
    if (!this.#job || !hasEnded(this.#job.state)) this.refresh();
  }

  disconnectedCallback() {
    stream.remove(this);
  }

  // One request at a time: what is asked for meanwhile is asked once more at its end.
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
      this.#counts = containers ? count(containers) : { [job.state]: 1 };
      if (job.state === "error" && !this.#failure) this.#failure = await this.#loadFailure(id, containers);
      remembered.set(this.jobId, [this.#job, this.#counts, this.#failure]);
      if (!this.#parts) this.#build();
      this.#update();
      if (live && this.isConnected) stream.add(this);
      else stream.remove(this);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.#explain(error);
    }
  }

  // A service older than this card may not have the list of containers; the card does without.
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
      // No log is no news: a container that never ran has none.
      if (!(error instanceof ServiceError)) throw error;
    }
    return { failed, first, stderr: lastLines(stderr) };
  }

  onTransition(event) {
    if (!this.#job || this.#seen.has(event.trans_id)) return;
    this.#seen.add(event.trans_id);
    if (hasEnded(event.state)) {
      this.refresh();
      return;
    }
    const times = this.#job.transition_times;
    if (times.some((known) => known.state === event.state)) return;
    times.push({ state: event.state, time: event.time });
    this.#job.state = event.state;
    if (this.#job.job_input.num_containers === 1) this.#counts = { [event.state]: 1 };
    this.#update();
  }

  onProgress(event) {
    if (!this.#job || hasEnded(this.#job.state)) return;
    this.#counts = event.containers;
    this.#update();
  }

  onStream() {
    if (this.#parts) this.#updateStream();
  }

  onTick() {
    if (this.#parts) this.#updateElapsed();
  }

  // There is nothing live to show: the snapshot stays, with a line that says why.
  #explain(error) {
    if (error.isOffline) stream.add(this);
    if (this.#parts) {
      this.#say(error.isOffline ? "" : error.message);
      return;
    }
    const why = error.isSignedOut
      ? "Not live: you are signed out of Jupyter. Reload the page to sign in."
      : error.isUnknownJob
        ? "Not live: this Jupyter server's CTS does not know the job. This is what was saved."
        : "Not live: the Jupyter server cannot be reached. This is what was saved; trying again.";
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
        className: name, open: opened.get(key) ?? isOpen,
        on: { toggle: () => opened.set(key, parts[name].open) },
      }, parts[`${name}Title`], parts[`${name}Body`]));
    };
    const card = el("section", { className: "card", "aria-label": `CTS job ${this.jobId}` },
      el("header", {},
        el("div", { className: "what" }, section("image", {}, "strong"), section("origin")),
        el("div", { className: "how" },
          section("state", { role: "status" }, "span"), section("elapsed", {}, "span"))),
      section("progress"), section("error", { role: "alert" }), section("warnings"), section("asked"),
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
    const { image, origin, state, card, asked } = this.#parts;
    const job = this.#job;
    const shown = shownState(job.state, this.#counts);
    card.dataset.mood = moodOf(shown);
    image.textContent = job.job_input.image;
    image.title = `${job.image.name}@${job.image.digest}`;
    origin.replaceChildren(
      el("code", { title: job.id }, job.id.slice(0, 8)), ` \u00b7 ${job.user} \u00b7 ${this.service}`);
    if (state.textContent !== sayState(shown)) state.textContent = sayState(shown);
    state.title = job.state;
    asked.replaceChildren(...this.#asked());
    this.#updateProgress();
    this.#updateError();
    this.#updateWarnings();
    this.#updateOutputs();
    this.#updateTimeline();
    this.#updateElapsed();
    this.#updateStream();
    this.#parts.logs.hidden = moodOf(shown) === "waiting";
    if (hasEnded(job.state) || job.state === "canceling") this.#showActions();
  }

  #asked() {
    const job = this.#job;
    const input = job.job_input;
    const asked = [
      `${sayCount(job.input_file_count, "file")} in ${sayCount(input.num_containers, "container")}`,
      `${sayCount(input.cpus, "cpu")}, ${saySize(input.memory)} and up to ` +
        `${sayDuration(readDuration(input.runtime) ?? 0, { tenths: false })} each`,
      `at ${input.cluster}`,
    ];
    // Where outputs are is said with them.
    if (!job.outputs?.length) asked.push(`outputs into ${input.output_dir}`);
    const used = [];
    if (job.max_memory) used.push(`${saySize(job.max_memory)} of memory at most`);
    if (job.cpu_hours !== undefined) used.push(`${sayDuration(job.cpu_hours * 3600)} of cpu time`);
    return [
      el("div", {}, asked.join(" \u00b7 ")),
      used.length ? el("div", {}, `Used ${used.join(" and ")}`) : null,
    ].filter(Boolean);
  }

  #updateProgress() {
    const total = this.#job.job_input.num_containers;
    const byMood = Object.fromEntries(MOODS.map((mood) => [mood, 0]));
    for (const [state, n] of Object.entries(this.#counts)) byMood[moodOf(state)] += n;
    const shown = MOODS.filter((mood) => byMood[mood]);
    const words = shown
      .filter((mood) => mood !== "done")
      .map((mood) => `${byMood[mood].toLocaleString("en")} ${MOOD_WORDS[mood]}`);
    const text = [`${byMood.done.toLocaleString("en")} of ${sayCount(total, "container")} done`, ...words].join(", ");
    this.#parts.progress.replaceChildren(
      el("div", {
        className: "bar", role: "progressbar", "aria-label": "Containers done",
        "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": byMood.done, "aria-valuetext": text,
      }, ...shown.map((mood) => {
        const part = el("span", { className: mood });
        part.style.flexGrow = byMood[mood];
        return part;
      })),
      el("div", { className: "count" }, text));
  }

  #updateError() {
    const { error } = this.#parts;
    const job = this.#job;
    error.hidden = job.state !== "error";
    if (error.hidden || error.childElementCount) return;
    const failure = this.#failure;
    const lines = [];
    if (!failure) lines.push(el("p", {}, job.error ?? "The job failed."));
    else {
      // The service's own sentence only says that some container failed.
      const { failed, first, stderr } = failure;
      const code = first.exit_code === undefined ? "" : `exit code ${first.exit_code}`;
      const name = el("strong", {}, `Container ${first.number}`);
      if (first.error) lines.push(el("p", {}, name, `: ${first.error}${code ? ` (${code})` : ""}`));
      else lines.push(el("p", {}, name, ` ended with ${code || "an error"}`));
      if (failed.length > 1) {
        const named = failed.slice(0, MAX_FAILED_NAMED).map((c) => c.number).join(", ");
        const more = failed.length > MAX_FAILED_NAMED ? ", \u2026" : "";
        lines.push(el("p", {}, `${sayCount(failed.length, "container")} failed: ${named}${more}`));
      }
      if (stderr) {
        lines.push(
          el("p", { className: "label" }, `The end of its stderr`),
          el("pre", { tabindex: 0, "aria-label": `End of the stderr of container ${first.number}` }, stderr));
      }
    }
    error.replaceChildren(...lines);
  }

  #updateWarnings() {
    const { warnings } = this.#parts;
    const texts = this.#job.warnings ?? [];
    warnings.hidden = !texts.length;
    warnings.replaceChildren(...texts.map((text) => el("p", {}, text)));
  }

  #updateOutputs() {
    const { outputs, outputsTitle, outputsBody } = this.#parts;
    const files = this.#job.outputs ?? [];
    outputs.hidden = !files.length;
    if (outputs.hidden || outputsBody.childElementCount) return;
    const folder = this.#job.job_input.output_dir.replace(/\/*$/, "/");
    outputsTitle.textContent = `${sayCount(files.length, "output")} in ${folder}`;
    const rows = files.slice(0, MAX_OUTPUTS).map(({ file, crc64nvme }) => {
      const name = file.startsWith(folder) ? file.slice(folder.length) : file;
      const href = urlOf(`files/content?path=${encodeURIComponent(file)}`);
      return el("tr", {},
        el("td", {}, el("a", { href, download: file.split("/").pop(), title: file }, name)),
        el("td", {}, el("code", {}, crc64nvme ?? "")));
    });
    outputsBody.replaceChildren(
      el("table", {},
        el("thead", {}, el("tr", {},
          el("th", { scope: "col" }, "File"), el("th", { scope: "col" }, "CRC64/NVME"))),
        el("tbody", {}, ...rows)));
    const hidden = files.length - rows.length;
    if (hidden) outputsBody.append(el("p", {}, `and ${hidden.toLocaleString("en")} more: %cts files ${this.jobId.slice(0, 8)}`));
  }

  #updateTimeline() {
    const times = this.#job.transition_times;
    const start = Date.parse(times[0].time);
    this.#parts.timelineBody.replaceChildren(el("ol", {}, ...times.map(({ state, time }) =>
      el("li", { className: moodOf(state) },
        el("span", {}, sayState(state)),
        el("time", { datetime: time, title: time },
          `${sayTime(time)} (+${sayDuration((Date.parse(time) - start) / 1000)})`)))));
  }

  #updateElapsed() {
    const times = this.#job.transition_times;
    const end = hasEnded(this.#job.state) ? Date.parse(times.at(-1).time) : serviceNow();
    const seconds = (end - Date.parse(times[0].time)) / 1000;
    const text = sayDuration(seconds, { tenths: hasEnded(this.#job.state) });
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
      "offline": `Offline since ${since}: the Jupyter server cannot be reached. Trying again.`,
      "signed-out": "Not live: you are signed out of Jupyter. Reload the page to sign in.",
    }[stream.state];
    this.#parts.card.dataset.stream = stream.state;
    if (part.textContent !== words) part.replaceChildren(el("span", { className: "dot" }), words);
  }

  #say(text) {
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
    this.#say("");
    try {
      await put(`jobs/${encodeURIComponent(this.jobId)}/cancel`);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      // A job that has ended meanwhile has nothing left to cancel: what it became says enough.
      if (!error.isUnknownJob) this.#say(`Not cancelled: ${error.message}`);
    }
    this.#showActions();
    this.refresh();
  }

  #openLogs() {
    const { logsBody } = this.#parts;
    if (logsBody.childElementCount) return;
    const last = this.#job.job_input.num_containers - 1;
    const text = el("pre", { tabindex: 0, "aria-label": "Log" });
    const note = el("p", { className: "label", role: "status" });
    const number = el("input", {
      type: "number", min: 0, max: last, value: this.#failure?.first.number ?? 0, "aria-label": "Container",
      on: { change: () => load() },
    });
    const name = el("select", { "aria-label": "Log of the container", on: { change: () => load() } },
      el("option", { value: "stdout" }, "stdout"), el("option", { value: "stderr" }, "stderr"));
    if (this.#failure) name.value = "stderr";
    let request = null;
    const load = async () => {
      request?.abort();
      const mine = (request = new AbortController());
      const container = Math.min(Math.max(Math.trunc(number.value) || 0, 0), last);
      number.value = container;
      note.textContent = "Loading \u2026";
      try {
        const path = `jobs/${encodeURIComponent(this.jobId)}/log/${container}/${name.value}`;
        const log = await getTail(path, LOG_TAIL, mine.signal);
        text.textContent = log.text;
        note.textContent = log.text ? (log.whole ? "" : "The end of a longer log") : "Nothing was written";
      } catch (error) {
        if (error.name === "AbortError") return;
        if (!(error instanceof ServiceError)) throw error;
        text.textContent = "";
        note.textContent = error.isUnknownJob ? "Nothing was written yet" : error.message;
      }
      text.hidden = !text.textContent;
      text.scrollTop = text.scrollHeight;
    };
    logsBody.replaceChildren(
      el("div", { className: "controls" },
        last ? el("label", {}, "Container ", number) : null, name,
        el("button", { type: "button", on: { click: load } }, "Reload")),
      note, text);
    load();
  }
}

function count(containers) {
  const counts = {};
  for (const { state } of containers) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}

if (!customElements.get("cts-job-card")) customElements.define("cts-job-card", JobCard);

// Puts a live card over the snapshot in `root`, which names the job in data-job and the service in data-service.
export function mount(root) {
  if (root.querySelector("cts-job-card")) return;
  const card = document.createElement("cts-job-card");
  card.jobId = root.dataset.job;
  card.service = root.dataset.service;
  card.append(...root.childNodes);
  root.append(card);
}
