// Formats states, sizes, durations and times for people. Python's formatting.py reads the same table of states.

import table from "../../../cts_jupyter/states.json";
import type { Translator } from "./translator";

/** How a state looks. */
export type Mood = "waiting" | "running" | "done" | "failed" | "cancelled";
export const MOODS: readonly Mood[] = ["done", "failed", "cancelled", "running", "waiting"];
/** The number of containers in each state. */
export type Counts = Readonly<Record<string, number>>;

interface StateEntry {
  words: string;
  mood: string;
  ended: boolean;
}
const STATES: ReadonlyMap<string, StateEntry> = new Map(Object.entries(table));

/** The words for a state; a newer service may have states that are not in the table, which are shown by name. */
export function formatState(state: string, tr: Translator): string {
  return tr.__(STATES.get(state)?.words ?? state.replaceAll("_", " "));
}

export function hasEnded(state: string): boolean {
  return STATES.get(state)?.ended === true;
}

/** The mood of a state; one that is not in the table counts as running. */
export function moodOf(state: string): Mood {
  return (STATES.get(state)?.mood ?? "running") as Mood;
}

/** The word for a mood. */
export function nameMood(mood: Mood, tr: Translator): string {
  const names: Record<Mood, string> = {
    waiting: tr.__("Waiting"),
    running: tr.__("Running"),
    done: tr.__("Done"),
    failed: tr.__("Failed"),
    cancelled: tr.__("Cancelled"),
  };
  return names[mood];
}

/** The states of a mood, for a request that selects by state. */
export function statesOf(mood: Mood): string[] {
  return [...STATES].filter(([, entry]) => entry.mood === mood).map(([state]) => state);
}

/** A job waits only while all of its containers do; the service's own state is that of the slowest. */
export function shownState(state: string, counts: Counts): string {
  const begun = Object.entries(counts).some(([other, count]) => count > 0 && moodOf(other) !== "waiting");
  return moodOf(state) === "waiting" && begun ? "job_submitted" : state;
}

/** The number of containers in each mood. */
export function countMoods(counts: Counts): Record<Mood, number> {
  const moods = { done: 0, failed: 0, cancelled: 0, running: 0, waiting: 0 };
  for (const [state, count] of Object.entries(counts)) moods[moodOf(state)] += count;
  return moods;
}

export function formatProgress(total: number, counts: Counts, tr: Translator): string {
  const moods = countMoods(counts);
  const done = tr._n(
    "%2 of %1 container done",
    "%2 of %3 containers done",
    total,
    number(moods.done),
    number(total),
  );
  const rest: [number, string][] = [
    [moods.failed, tr.__("%1 failed", number(moods.failed))],
    [moods.cancelled, tr.__("%1 cancelled", number(moods.cancelled))],
    [moods.waiting, tr.__("%1 waiting", number(moods.waiting))],
    [moods.running, tr.__("%1 running", number(moods.running))],
  ];
  return [done, ...rest.filter(([count]) => count).map(([, words]) => words)].join(", ");
}

export function number(count: number): string {
  return count.toLocaleString("en");
}

/** ``1 file``, ``2 files``: for the nouns that are translated. */
export function formatCount(
  count: number,
  noun: "container" | "cpu" | "file" | "output",
  tr: Translator,
): string {
  const shown = number(count);
  switch (noun) {
    case "container":
      return tr._n("%2 container", "%2 containers", count, shown);
    case "cpu":
      return tr._n("%2 cpu", "%2 cpus", count, shown);
    case "file":
      return tr._n("%2 file", "%2 files", count, shown);
    case "output":
      return tr._n("%2 output", "%2 outputs", count, shown);
  }
}

const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];

export function formatSize(bytes: number): string {
  let unit = 0;
  while (bytes >= 999.95 && unit < SIZES.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${Math.round(bytes * 10) / 10} ${SIZES[unit] ?? ""}`;
}

const UNITS: readonly [string, number][] = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
  ["s", 1],
];

export function formatDuration(seconds: number, { tenths = true } = {}): string {
  seconds = Math.max(seconds, 0);
  if (tenths && seconds < 9.95) return `${seconds.toFixed(1)} s`;
  let rest = Math.round(seconds);
  const parts: [number, string][] = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count || parts.length) parts.push([count, unit]);
  }
  const shown = parts.slice(0, 2).filter(([count]) => count);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ") || "0 s";
}

const ISO_DURATION = /^P(?:([\d.]+)D)?(?:T(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?)?$/;

/** The seconds of a duration such as ``PT1H30M``; 0 for any other text. */
export function parseDuration(iso: string): number {
  const [days = 0, hours = 0, minutes = 0, seconds = 0] = (ISO_DURATION.exec(iso) ?? [])
    .slice(1)
    .map((text) => Number((text as string | undefined) ?? 0));
  return ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
}

/** A time in the browser's zone, without the day if it is today. */
export function formatTime(time: string | number, now = Date.now()): string {
  const date = new Date(time);
  const isToday = new Date(now).toDateString() === date.toDateString();
  return isToday ? date.toLocaleTimeString() : date.toLocaleString();
}

export function shortId(id: string): string {
  return id.slice(0, 8);
}

/** A sentence as it is, or with its full stop. */
export function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
