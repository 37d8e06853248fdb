// Where the cells of a strip of containers are, and what can be said of a container in a line.

import type { Container } from "../api/types";
import type { Translator } from "./translator";
import { formatDuration, formatState, moodOf, number } from "./words";

/** The least width of a cell with its gap, and the height of a row, in pixels. */
const MIN_PITCH = 5;
const ROW_PX = 12;
const ONE_ROW_PX = 16;

export interface StripLayout {
  columns: number;
  rows: number;
  /** The width and height that a cell takes up, with its gap. */
  pitch: number;
  rowHeight: number;
}

/** As few rows as there can be. */
export function layOut(count: number, width: number): StripLayout {
  const columns = Math.max(1, Math.min(count, Math.floor(width / MIN_PITCH)));
  const rows = Math.ceil(count / columns);
  // As even as the rows can be.
  const even = Math.ceil(count / rows);
  return { columns: even, rows, pitch: width / even, rowHeight: rows > 1 ? ROW_PX : ONE_ROW_PX };
}

/** The cell at a point; null beside all cells. */
export function cellAt(layout: StripLayout, count: number, x: number, y: number): number | null {
  const column = Math.floor(x / layout.pitch);
  const row = Math.floor(y / layout.rowHeight);
  if (column < 0 || column >= layout.columns || row < 0) return null;
  const cell = row * layout.columns + column;
  return cell < count ? cell : null;
}

/** ``Container 17 of 120: failed, exit code 137``. */
export function describeContainer(container: Container, total: number, tr: Translator): string {
  const parts = [formatState(container.state, tr).toLowerCase()];
  if (container.exit_code !== undefined && moodOf(container.state) === "failed") {
    parts.push(tr.__("exit code %1", container.exit_code));
  }
  return tr.__("Container %1 of %2: %3", container.number, number(total), parts.join(", "));
}

/** The seconds that a container has run, up to `now` for one that does; null for one that has not begun. */
export function secondsOf(
  { wall_seconds: wall, transition_times: times, state }: Container,
  now: number,
): number | null {
  if (wall !== undefined) return wall;
  const begun = times.find((step) => step.state === "job_submitted");
  const ended = times.find((step) => moodOf(step.state) !== "running" && moodOf(step.state) !== "waiting");
  if (!begun) return null;
  if (!ended && moodOf(state) !== "running") return null;
  return Math.max(0, ((ended ? Date.parse(ended.time) : now) - Date.parse(begun.time)) / 1000);
}

export function formatSeconds(seconds: number | null): string {
  return seconds === null ? "" : formatDuration(seconds, { tenths: false });
}

const ORDER = ["failed", "running", "waiting", "cancelled", "done"];

/** The containers in the order of what a person looks for: those that failed first. */
export function sortContainers(containers: readonly Container[]): Container[] {
  const rank = ({ state }: Container): number => ORDER.indexOf(moodOf(state));
  return [...containers].sort((a, b) => rank(a) - rank(b) || a.number - b.number);
}

/** The next number after another, round about; null where there is none. */
export function nextOf(numbers: readonly number[], after: number): number | null {
  return numbers.find((each) => each > after) ?? numbers[0] ?? null;
}
