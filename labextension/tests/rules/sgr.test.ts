import { expect, it } from "vitest";

import { markSpans, plainText, spansOf } from "../../src/rules/sgr";

it.each([
  ["plain", [["plain", ""]]],
  [
    "\u001b[1;31mred\u001b[0m!",
    [
      ["red", "cts-bold cts-fg-red"],
      ["!", ""],
    ],
  ],
  ["\u001b[92mok\u001b[39m", [["ok", "cts-fg-green"]]],
  [
    "\u001b[41;3;4;2mx\u001b[22;23;24;49my",
    [
      ["x", "cts-dim cts-italic cts-underlined cts-bg-red"],
      ["y", ""],
    ],
  ],
  ["\u001b[38;5;4mx", [["x", "cts-fg-blue"]]],
  // Colours that may be hard to read on the theme are left out, and what follows them is not.
  ["\u001b[38;5;200;1mx", [["x", "cts-bold"]]],
  ["\u001b[38;2;9;31;40;1mx", [["x", "cts-bold"]]],
  ["\u001b[mx", [["x", ""]]],
  // What moves a cursor, clears a screen or names a window has nothing to act on.
  [
    "a\u001b[2K\u001b[1Gb\u001b]0;title\u0007c",
    [
      ["a", ""],
      ["b", ""],
      ["c", ""],
    ],
  ],
])("%j", (line, spans) => {
  expect(spansOf(line).map(({ text, look }) => [text, look])).toEqual(spans);
});

it("shows other control characters as pictures", () => {
  expect(plainText("\u001bPx\u0007\u007f\ty\u0000")).toBe("␛Px␇␡\ty␀");
});

it("marks what is wanted over the bounds of looks", () => {
  const marked = markSpans(spansOf("an \u001b[31mEr\u001b[0mror, error"), "error");
  expect(marked.map(({ text, look, isFound }) => [text, look, isFound])).toEqual([
    ["an ", "", false],
    ["Er", "cts-fg-red", true],
    ["ror", "", true],
    [", ", "", false],
    ["error", "", true],
  ]);
  expect(markSpans(spansOf("x"), "")).toEqual([{ text: "x", look: "", isFound: false }]);
});
