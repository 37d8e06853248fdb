// The logs of a job's containers: controls for container and stream, and the end of that log.

import { el } from "./dom.js";
import { ServiceError, getTail } from "./service.js";

const LOG_TAIL = 64_000;

// Puts the controls and the log into `body`, and loads the log of container `first`.
export function showLogs(body, { jobId, containers, first, stream }) {
  const last = containers - 1;
  const text = el("pre", { tabindex: 0, "aria-label": "Log" });
  const note = el("p", { className: "label", role: "status" });
  const number = el("input", {
    type: "number", min: 0, max: last, value: first, "aria-label": "Container",
    on: { change: () => load() },
  });
  const name = el("select", { "aria-label": "Log of the container", on: { change: () => load() } },
    el("option", { value: "stdout" }, "stdout"), el("option", { value: "stderr" }, "stderr"));
  name.value = stream;
  let request = null;
  const load = async () => {
    request?.abort();
    const own = (request = new AbortController());
    const container = Math.min(Math.max(Math.trunc(number.value) || 0, 0), last);
    number.value = container;
    note.textContent = "Loading \u2026";
    try {
      const path = `jobs/${encodeURIComponent(jobId)}/log/${container}/${name.value}`;
      const log = await getTail(path, LOG_TAIL, own.signal);
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
  body.replaceChildren(
    el("div", { className: "controls" },
      last ? el("label", {}, "Container ", number) : null, name,
      el("button", { type: "button", on: { click: load } }, "Reload")),
    note, text);
  load();
}
