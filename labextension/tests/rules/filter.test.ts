import { expect, it } from "vitest";

import { ALL, countFilters, isKept, toQuery, toTyped } from "../../src/rules/filter";
import { statesOf } from "../../src/rules/words";
import { preview } from "../jobs";

it("asks for all jobs without a filter", () => {
  expect(Object.values(toQuery(ALL)).flat().filter(Boolean)).toEqual([]);
  expect(countFilters({ ...ALL, text: "checkm" })).toBe(0);
  // A label that is not typed to its end filters nothing.
  expect(countFilters({ ...ALL, label: "study=" })).toBe(0);
});

it("asks for the states of each chosen mood, for an image, a label and a site", () => {
  const filter = { ...ALL, moods: ["failed", "done"] as const, image: " x ", label: "a=b", site: "kbase" };
  expect(toQuery(filter)).toMatchObject({
    state: [...statesOf("failed"), "complete"],
    image: "x",
    label: "a=b",
    cluster: "kbase",
  });
  expect(countFilters(filter)).toBe(4);
});

it("sends no label before its value is typed", () => {
  for (const typed of ["ana", "ana="]) {
    const { label } = toQuery({ ...ALL, label: typed });
    expect(label).toBeUndefined();
  }
});

it.each(["", "x", '""', '"x"', '"', 'a"b"', "=", " x ", 'a="b"'])(
  "asks for the label that it shows: %j",
  (value) => {
    const { label } = toQuery({ ...ALL, label: toTyped("checked", value) });
    expect(label).toBe(`checked=${value}`);
  },
);

it("asks for a label with an empty value", () => {
  expect(toTyped("checked", "x")).toBe("checked=x");
  const filter = { ...ALL, label: toTyped("checked", "") };
  expect(filter.label).toBe('checked=""');
  expect(toQuery(filter)).toMatchObject({ label: "checked=" });
  expect(countFilters(filter)).toBe(1);
});

it("asks for whole days of the browser's zone", () => {
  const { after, before } = toQuery({ ...ALL, from: "2026-01-31", until: "2026-01-31" });
  expect(after).toBe(new Date(2026, 0, 31).toISOString());
  expect(before).toBe(new Date(2026, 1, 1).toISOString());
  const { after: none } = toQuery({ ...ALL, from: "2026-" });
  expect(none).toBeUndefined();
});

it("keeps a job that an event has changed while it is in the states and days", () => {
  const done = preview({ state: "complete" });
  expect(isKept({ ...ALL, moods: ["done"] }, done)).toBe(true);
  expect(isKept({ ...ALL, moods: ["running"] }, done)).toBe(false);
  expect(isKept({ ...ALL, from: "2026-01-01", until: "2026-01-03" }, done)).toBe(true);
  expect(isKept({ ...ALL, from: "2026-01-05" }, done)).toBe(false);
  expect(isKept({ ...ALL, until: "2025-12-30" }, done)).toBe(false);
});
