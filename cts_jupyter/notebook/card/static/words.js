// How states, sizes, durations and times are said. The table is that of cts_jupyter/formatting.py; a test compares them.

export const STATE_WORDS = {
  "created": "Accepted",
  "download_submitted": "Waiting for its turn",
  "job_submitting": "Inputs verified, starting",
  "job_submitted": "Running",
  "upload_submitting": "Checksumming outputs",
  "upload_submitted": "Storing outputs",
  "complete": "Done",
  "canceling": "Being cancelled",
  "canceled": "Cancelled",
  "error_processing_submitting": "Failed, keeping the logs",
  "error_processing_submitted": "Failed, keeping the logs",
  "error": "Failed"
};

const ENDED = new Set(["complete", "canceled", "error"]);
const WAITING = new Set(["created", "download_submitted"]);
const FAILED = new Set(["error_processing_submitting", "error_processing_submitted", "error"]);
const CANCELLED = new Set(["canceling", "canceled"]);

// A newer service may know states that we do not: they are said by their name and count as running.
export const sayState = (state) => STATE_WORDS[state] ?? state.replaceAll("_", " ");
export const hasEnded = (state) => ENDED.has(state);

// What a state looks like: waiting, running, done, failed or cancelled.
export function moodOf(state) {
  if (state === "complete") return "done";
  if (WAITING.has(state)) return "waiting";
  if (FAILED.has(state)) return "failed";
  return CANCELLED.has(state) ? "cancelled" : "running";
}

// A job waits only while all of its containers do; the service's own state is that of the slowest.
export function shownState(state, counts) {
  const begun = Object.entries(counts).some(([other, n]) => n && !WAITING.has(other));
  return WAITING.has(state) && begun ? "job_submitted" : state;
}

export function saySize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 999.95 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${Math.round(bytes * 10) / 10} ${units[unit]}`;
}

export function sayDuration(seconds, { tenths = true } = {}) {
  seconds = Math.max(seconds, 0);
  if (tenths && seconds < 9.95) return `${seconds.toFixed(1)} s`;
  let rest = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count || parts.length) parts.push([count, unit]);
  }
  const shown = parts.slice(0, 2).filter(([count]) => count);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ") || "0 s";
}

export function readDuration(iso) {
  const match = /^P(?:([\d.]+)D)?(?:T(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?)?$/.exec(iso);
  if (!match) return null;
  const [days, hours, minutes, seconds] = match.slice(1).map((text) => Number(text ?? 0));
  return ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
}

export function sayTime(iso) {
  const time = new Date(iso);
  const today = new Date().toDateString() === time.toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}

export const sayCount = (count, noun) =>
  `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
