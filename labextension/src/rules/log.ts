// A log of any size, of which a window is held: its bytes, and where its rows begin.

import { decode, join } from "./bytes";
import { occurrences, plainText, withoutSequences } from "./sgr";

/** The bytes and rows that a window holds at most; a row is a line, or a part of a very long one. */
export const WINDOW_BYTES = 2_000_000;
export const WINDOW_ROWS = 50_000;
export const ROW_BYTES = 2_000;

const NEWLINE = 10;

export interface LogWindow {
  readonly bytes: Uint8Array;
  /** The place of the first byte in the log. */
  readonly start: number;
  /** Where rows begin, in `bytes`. */
  readonly rows: readonly number[];
}

export const EMPTY: LogWindow = { bytes: new Uint8Array(), start: 0, rows: [] };

export function windowOf(bytes: Uint8Array, start: number): LogWindow {
  return { bytes, start, rows: rowsOf(bytes) };
}

export function endOf({ bytes, start }: LogWindow): number {
  return start + bytes.length;
}

/** The window with what follows it; what is too much is dropped from its beginning. */
export function append(window: LogWindow, bytes: Uint8Array): LogWindow {
  const all = windowOf(join([window.bytes, bytes]), window.start);
  const byRows = all.rows[all.rows.length - WINDOW_ROWS] ?? 0;
  const excess = all.bytes.length - WINDOW_BYTES;
  const byBytes = excess > 0 ? (all.rows.find((row) => row >= excess) ?? excess) : 0;
  const cut = Math.max(byRows, byBytes);
  return cut ? windowOf(all.bytes.slice(cut), all.start + cut) : all;
}

/** The window with what is before it; what is too much is dropped from its end. */
export function prepend(window: LogWindow, bytes: Uint8Array): LogWindow {
  const all = windowOf(join([bytes, window.bytes]), window.start - bytes.length);
  const cut = Math.min(all.rows[WINDOW_ROWS] ?? Infinity, WINDOW_BYTES);
  return cut < all.bytes.length ? windowOf(all.bytes.slice(0, cut), all.start) : all;
}

/** The text of a row, without its end of line. */
export function rowText({ bytes, rows }: LogWindow, index: number): string {
  const row = bytes.subarray(rows[index], rows[index + 1]);
  const text = decode(row).replace(/\r?\n$/, "");
  // A line that was written over again, as progress is: its last state.
  return text.slice(text.replace(/\r+$/, "").lastIndexOf("\r") + 1).replace(/\r+$/, "");
}

/** Whether a row has a text as it is shown, whatever the cases. */
export function hasText(window: LogWindow, row: number, wanted: string): boolean {
  return occurrences(plainText(rowText(window, row)), wanted).length > 0;
}

/** The first row that has a text, or the last for -1 as `step`; -1 if none has it. */
export function findRow(window: LogWindow, wanted: string, step: 1 | -1): number {
  // Of a large log most windows do not have it at all, and that is seen in a tenth of the time.
  const text = withoutSequences(decode(window.bytes)).toLowerCase();
  if (!text.includes(wanted.toLowerCase())) return -1;
  const has = (_: number, row: number): boolean => hasText(window, row, wanted);
  return step > 0 ? window.rows.findIndex(has) : window.rows.findLastIndex(has);
}

/** The part of a window that is around a row, of no more rows than a window holds. */
export function around({ bytes, start, rows }: LogWindow, row: number): LogWindow {
  const first = Math.max(0, row - WINDOW_ROWS / 2);
  const begin = rows[first] ?? 0;
  return windowOf(bytes.slice(begin, rows[first + WINDOW_ROWS]), start + begin);
}

/** Whether more of a window's last row may follow in the log. */
export function isOpen({ bytes }: LogWindow): boolean {
  return bytes.at(-1) !== NEWLINE;
}

/** The place in the log where a row begins, which tells it apart from all others. */
export function rowPlace({ start, rows }: LogWindow, index: number): number {
  return start + (rows[index] ?? 0);
}

/** The row that a place in the log is in. */
export function rowAt({ start, rows }: LogWindow, place: number): number {
  let low = 0;
  let high = rows.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (start + (rows[middle] ?? 0) <= place) low = middle;
    else high = middle;
  }
  return low;
}

function isWithinCharacter(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}

function rowsOf(bytes: Uint8Array): number[] {
  let begin = 0;
  // The first byte may be in the middle of a character.
  while (begin < 3 && isWithinCharacter(bytes[begin])) begin += 1;
  const rows = [];
  while (begin < bytes.length) {
    rows.push(begin);
    const newline = bytes.subarray(begin, begin + ROW_BYTES).indexOf(NEWLINE);
    let end = begin + (newline < 0 ? ROW_BYTES : newline + 1);
    if (newline < 0) for (let back = 0; back < 3 && isWithinCharacter(bytes[end]); back += 1) end -= 1;
    begin = end;
  }
  return rows;
}
