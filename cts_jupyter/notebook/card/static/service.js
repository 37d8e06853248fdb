// A client of the CTS service of this page's Jupyter server: requests, and one stream of events for all cards.

// This file is served from <base>/cts/static/, whatever the base of the Jupyter server is.
const ROOT = new URL("../", import.meta.url);

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;
const SLEEP_GAP_MS = 30_000;
// The service sends a ping every 15 seconds; a proxy may keep a stream open whose server is gone.
const SILENCE_MS = 40_000;
const PARALLEL_REQUESTS = 2;
// The Jupyter server answered, but its own token for a service elsewhere is missing or refused.
const NO_SERVICE_TOKEN = 10000;

export class ServiceError extends Error {
  constructor(status, message, appcode) {
    super(message);
    this.status = status;
    this.appcode = appcode;
  }
  get isSignedOut() {
    return this.status === 401 && this.appcode !== NO_SERVICE_TOKEN;
  }
  get isUnknownJob() {
    return this.status === 403 || this.status === 404;
  }
  get isOffline() {
    return this.status === 0 || this.status >= 500 || this.appcode === NO_SERVICE_TOKEN;
  }
}

export const urlOf = (path) => new URL(path, ROOT).href;

// A browser opens six connections to a host for all of Jupyter: cards use at most two of them.
let running = 0;
const waiting = [];
async function queued(task) {
  if (running >= PARALLEL_REQUESTS) await new Promise((resolve) => waiting.push(resolve));
  else running += 1;
  try {
    return await task();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running -= 1;
  }
}

// Jobs' times are by the service's clock; this is how far it is ahead of the browser's, in ms.
let clockOffset = 0;
export const serviceNow = () => Date.now() + clockOffset;

function xsrfToken() {
  return /(?:^|;\s*)_xsrf=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}

async function send(path, { method = "GET", signal } = {}) {
  let response;
  try {
    response = await fetch(urlOf(path), {
      method,
      // Below a hub, Jupyter may ask for it also where nothing is changed.
      headers: { "X-XSRFToken": xsrfToken() },
      signal, credentials: "same-origin", cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "The Jupyter server cannot be reached");
  }
  const date = Date.parse(response.headers.get("date"));
  if (date) clockOffset = Math.abs(date - Date.now()) < 2_000 ? 0 : date - Date.now();
  if (response.ok) return response;
  let message = `The service answered ${response.status}`;
  let appcode;
  try {
    const { error } = await response.json();
    message = error?.message ?? message;
    appcode = error?.appcode;
  } catch {
    // Not a response of CTS, but of a proxy, say: it has a status alone.
  }
  throw new ServiceError(response.status, message, appcode);
}

export const getJSON = (path) => queued(async () => (await send(path)).json());
export const put = (path) => queued(() => send(path, { method: "PUT" }));

// The last `keep` characters of a text that may be long, and whether that is all of it.
export async function getTail(path, keep, signal) {
  return queued(async () => {
    const response = await send(path, { signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    let whole = true;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { text: text.slice(-keep), whole: whole && text.length <= keep };
      text += value;
      if (text.length > 4 * keep) {
        text = text.slice(-keep);
        whole = false;
      }
    }
  });
}

// One EventSource for all listeners. It is closed while there are none or the tab is hidden, and then resumes
// at its cursor. Listeners have jobId, onTransition(event), onProgress(event), onStream(state), refresh().
class EventStream {
  #listeners = new Set();
  #source = null;
  #cursor = null;
  #retry = FIRST_RETRY_MS;
  #timer = null;
  #lastTick = Date.now();
  #lastHeard = Date.now();
  #failedOpens = 0;
  state = "connecting"; // or "live", "asking", "offline", "signed-out"
  reason = ""; // why it is offline
  since = Date.now();

  constructor() {
    document.addEventListener("visibilitychange", () => this.#reopen());
    window.addEventListener("online", () => this.#reopen());
    window.addEventListener("pagehide", () => this.#close());
    window.addEventListener("pageshow", () => this.#reopen());
    setInterval(() => this.#tick(), 1_000);
  }

  add(listener) {
    if (this.#listeners.has(listener)) return;
    this.#listeners.add(listener);
    listener.onStream(this);
    if (this.#source) {
      // Changes before it was added went to the others alone.
      if (this.state === "live") listener.refresh();
    } else if (!this.#timer) this.#open();
  }

  remove(listener) {
    this.#listeners.delete(listener);
    if (!this.#listeners.size) this.#close();
  }

  #set(state, reason = "") {
    if (state === this.state && reason === this.reason) return;
    if (state !== this.state) this.since = Date.now();
    this.state = state;
    this.reason = reason;
    for (const listener of this.#listeners) listener.onStream(this);
  }

  #close() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#source?.close();
    this.#source = null;
  }

  #reopen() {
    this.#close();
    this.#retry = FIRST_RETRY_MS;
    this.#open();
  }

  #open() {
    if (this.#source || !this.#listeners.size || document.hidden) return;
    // An EventSource sends no headers of ours.
    const query = new URLSearchParams({ _xsrf: xsrfToken() });
    if (this.#cursor) query.set("after", this.#cursor);
    const source = new EventSource(urlOf(`events?${query}`));
    this.#source = source;
    this.#lastHeard = Date.now();
    for (const event of ["open", "begin", "ping", "transition", "progress"]) {
      source.addEventListener(event, () => {
        this.#lastHeard = Date.now();
      });
    }
    source.addEventListener("open", () => {
      this.#retry = FIRST_RETRY_MS;
      this.#failedOpens = 0;
      this.#set("live");
      // Changes before the stream was open are not in it.
      for (const listener of [...this.#listeners]) listener.refresh();
    });
    source.addEventListener("error", () => this.#lost());
    source.addEventListener("begin", (event) => {
      this.#cursor = event.lastEventId;
    });
    source.addEventListener("transition", (event) => {
      if (event.lastEventId) this.#cursor = event.lastEventId;
      this.#notify("onTransition", JSON.parse(event.data));
    });
    source.addEventListener("progress", (event) => this.#notify("onProgress", JSON.parse(event.data)));
  }

  #notify(method, event) {
    for (const listener of [...this.#listeners]) {
      if (listener.jobId === event.job_id) listener[method](event);
    }
  }

  // EventSource would reconnect by itself, but reports neither when nor why it failed, and gives up on a refusal.
  async #lost() {
    this.#close();
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#open();
    }, this.#retry * (0.75 + Math.random() / 2));
    this.#retry = Math.min(this.#retry * 2, LAST_RETRY_MS);
    let state = "connecting";
    let reason = "";
    try {
      await getJSON("whoami");
      this.#failedOpens += 1;
      // The service answers and the stream fails repeatedly: deployed services have no stream.
      if (this.#failedOpens > 1) state = "asking";
    } catch (error) {
      state = error.isSignedOut || error.status === 403 ? "signed-out" : "offline";
      reason = error.message;
    }
    if (this.#source?.readyState === EventSource.OPEN) return;
    this.#set(state, reason);
    if (state === "asking") for (const listener of [...this.#listeners]) listener.refresh();
  }

  #tick() {
    const now = Date.now();
    // After a laptop has slept, the connection may be dead without an error.
    if (now - this.#lastTick > SLEEP_GAP_MS) this.#reopen();
    this.#lastTick = now;
    if (this.#source && now - this.#lastHeard > SILENCE_MS) {
      this.#set("connecting");
      this.#lost();
    }
    for (const listener of this.#listeners) listener.onTick();
  }
}

export const stream = new EventStream();
