import { describe, expect, it } from "vitest";

import { english } from "../../src/rules/translator";
import {
  formatDuration,
  formatProgress,
  formatSize,
  formatState,
  hasEnded,
  moodOf,
  parseDuration,
  shownState,
} from "../../src/rules/words";
import table from "../words.json";

const progress = table.progress as [number, Record<string, number>, string][];
const shown = table.shown as [string, Record<string, number>, string][];

// Python's formatting is held to the same table.
describe("the table of words", () => {
  it.each(table.durations as [number, string][])("%d s is %s", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });
  it.each(table.sizes as [number, string][])("%d bytes are %s", (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
  it.each(progress)("%d containers with %j", (total, counts, text) => {
    expect(formatProgress(total, counts, english)).toBe(text);
  });
  it.each(shown)("%s with %j is shown as %s", (state, counts, text) => {
    expect(shownState(state, counts)).toBe(text);
  });
});

it("reads ISO durations", () => {
  expect(parseDuration("P1DT1H1M1.5S")).toBe(90_061.5);
  expect(parseDuration("PT30S")).toBe(30);
  expect(parseDuration("no duration")).toBe(0);
});

it("shows a state of a newer service by its name, as running", () => {
  expect(formatState("being_archived", english)).toBe("being archived");
  expect(moodOf("being_archived")).toBe("running");
  expect(hasEnded("being_archived")).toBe(false);
});
