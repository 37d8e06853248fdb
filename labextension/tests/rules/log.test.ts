import { expect, it } from "vitest";

import {
  EMPTY,
  ROW_BYTES,
  WINDOW_BYTES,
  WINDOW_ROWS,
  append,
  around,
  endOf,
  findRow,
  prepend,
  rowAt,
  rowPlace,
  rowText,
  windowOf,
} from "../../src/rules/log";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const texts = (window: typeof EMPTY): string[] => window.rows.map((_, row) => rowText(window, row));

it("has a row for each line", () => {
  expect(texts(windowOf(bytes("a\n\nb\r\nc"), 0))).toEqual(["a", "", "b", "c"]);
  expect(texts(EMPTY)).toEqual([]);
});

it("shows the last state of a line that was written over", () => {
  expect(texts(windowOf(bytes(" 1%\r 50%\r100%\nnext\r\n"), 0))).toEqual(["100%", "next"]);
  expect(texts(windowOf(bytes(" 1%\r 50%\r"), 0))).toEqual([" 50%"]);
});

it("splits very long lines, and no character", () => {
  const text = "é".repeat(ROW_BYTES);
  const window = windowOf(bytes(`x${text}`), 0);
  expect(window.rows.length).toBe(3);
  expect(texts(window).join("")).toBe(`x${text}`);
});

it("begins after a character of which it has the end", () => {
  expect(texts(windowOf(bytes("é!").slice(1), 7))).toEqual(["!"]);
});

it("finds the first or the last row that has a text as it is shown", () => {
  const window = windowOf(bytes("one\nan Er\u001b[31mror\u001b[0m\n[31m\nerror again\nend"), 10);
  expect([findRow(window, "ERROR", 1), findRow(window, "error", -1)]).toEqual([1, 3]);
  expect(findRow(window, "nowhere", 1)).toBe(-1);
  // Of a sequence nothing is shown; of one without its beginning all is.
  expect([findRow(window, "[31m", 1), findRow(window, "\n", 1)]).toEqual([2, -1]);
});

it("has no more rows around one than a window holds", () => {
  const window = windowOf(bytes("x\n".repeat(3 * WINDOW_ROWS)), 10);
  const middle = around(window, 2 * WINDOW_ROWS);
  expect([middle.rows.length, rowAt(middle, 10 + 4 * WINDOW_ROWS)]).toEqual([WINDOW_ROWS, WINDOW_ROWS / 2]);
  expect(around(window, 3).start).toBe(10);
});

it("joins what comes before and after", () => {
  let window = windowOf(bytes("dle\nend"), 103);
  window = prepend(window, bytes("first\nmid"));
  window = append(window, bytes("ing\nlast"));
  expect(texts(window)).toEqual(["first", "middle", "ending", "last"]);
  expect([window.start, endOf(window)]).toEqual([94, 118]);
  expect([rowPlace(window, 1), rowAt(window, 102), rowAt(window, 99), rowAt(window, 0)]).toEqual([
    100, 1, 0, 0,
  ]);
});

it("is bounded, and keeps the side that was added to", () => {
  const lines = (count: number, text: string): Uint8Array => bytes(`${text}\n`.repeat(count));
  const full = windowOf(lines(19_000, "a".repeat(99)), 5_000_000);
  const later = append(full, lines(2_000, "b".repeat(99)));
  expect(later.bytes.length).toBeLessThanOrEqual(WINDOW_BYTES);
  expect(endOf(later)).toBe(7_100_000);
  expect(rowText(later, later.rows.length - 1)).toBe("b".repeat(99));
  expect(rowText(later, 0)).toBe("a".repeat(99));
  const earlier = prepend(full, lines(2_000, "c".repeat(99)));
  expect(earlier.bytes.length).toBeLessThanOrEqual(WINDOW_BYTES);
  expect(earlier.start).toBe(4_800_000);
  expect(rowText(earlier, 0)).toBe("c".repeat(99));
  expect(append(EMPTY, lines(WINDOW_ROWS + 7, "")).start).toBe(7);
  expect(prepend(windowOf(bytes("x"), 100_000), lines(WINDOW_ROWS + 7, "")).rows.length).toBe(WINDOW_ROWS);
  // A line without an end is cut where it must be.
  expect(append(EMPTY, bytes("x".repeat(WINDOW_BYTES + 5))).bytes.length).toBeLessThanOrEqual(WINDOW_BYTES);
});
