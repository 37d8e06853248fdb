// Formats states, sizes, durations and times for people. Python's formatting.py reads the same table of states.

const response = await fetch(new URL("states.json", import.meta.url));
if (!response.ok) throw new Error(`states.json: ${response.status}`);
const STATES = await response.json();

// A newer service may have states that are not in the table: they are shown by their name and count as running.
export const formatState = (state) => STATES[state]?.words ?? state.replaceAll("_", " ");
export const hasEnded = (state) => STATES[state]?.ended === true;

// What a state looks like: waiting, running, done, failed or cancelled.
export const moodOf = (state) => STATES[state]?.mood ?? "running";

// A job waits only while all of its containers do; the service's own state is that of the slowest.
export function shownState(state, counts) {
  const isWaiting = (other) => moodOf(other) === "waiting";
  const begun = Object.entries(counts).some(([other, n]) => n && !isWaiting(other));
  return isWaiting(state) && begun ? "job_submitted" : state;
}

export function formatSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 999.95 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${Math.round(bytes * 10) / 10} ${units[unit]}`;
}

export function formatDuration(seconds, { tenths = true } = {}) {
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

export function parseDuration(iso) {
  const match = /^P(?:([\d.]+)D)?(?:T(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?)?$/.exec(iso);
  if (!match) return null;
  const [days, hours, minutes, seconds] = match.slice(1).map((text) => Number(text ?? 0));
  return ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
}

export function formatTime(iso) {
  const time = new Date(iso);
  const today = new Date().toDateString() === time.toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}

export const formatCount = (count, noun) =>
  `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
