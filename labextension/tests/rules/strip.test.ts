import { expect, it } from "vitest";

import type { Container } from "../../src/api/types";
import { cellAt, describeContainer, layOut, nextOf, secondsOf, sortContainers } from "../../src/rules/strip";
import { english } from "../../src/rules/translator";

function container(number: number, state: string, changes: Partial<Container> = {}): Container {
  return { number, state, transition_times: [], ...changes } as Container;
}

it.each([
  [3, 600, 1, 3],
  [120, 600, 1, 120],
  [1000, 600, 9, 112],
  [1000, 300, 17, 59],
  [7, 0, 7, 1],
])("lays out %i containers in %i pixels: %i rows of %i", (count, width, rows, columns) => {
  const layout = layOut(count, width);
  expect([layout.rows, layout.columns]).toEqual([rows, columns]);
  expect(layout.rows * layout.columns).toBeGreaterThanOrEqual(count);
});

it("finds the cell at a point", () => {
  const layout = layOut(1000, 600);
  expect(cellAt(layout, 1000, 1, 1)).toBe(0);
  expect(cellAt(layout, 1000, 599, 1)).toBe(111);
  expect(cellAt(layout, 1000, 1, 13)).toBe(112);
  expect(cellAt(layout, 1000, 599, 8 * 12 + 1)).toBeNull();
  expect(cellAt(layout, 1000, 601, 1)).toBeNull();
  expect(cellAt(layout, 1000, -1, 1)).toBeNull();
});

it("says what a container is", () => {
  expect(describeContainer(container(17, "error", { exit_code: 137 }), 120, english)).toBe(
    "Container 17 of 120: failed, exit code 137",
  );
  expect(describeContainer(container(0, "complete", { exit_code: 0 }), 1000, english)).toBe(
    "Container 0 of 1,000: done",
  );
});

it("knows how long a container has run", () => {
  const at = (state: string, seconds: number): { state: never; time: string } => ({
    state: state as never,
    time: new Date(seconds * 1000).toISOString(),
  });
  const begun = [at("job_submitting", 5), at("job_submitted", 10)];
  expect(secondsOf(container(0, "job_submitted", { transition_times: begun }), 70_000)).toBe(60);
  expect(secondsOf(container(0, "error", { transition_times: [...begun, at("error", 30)] }), 70_000)).toBe(
    20,
  );
  expect(secondsOf(container(0, "complete", { wall_seconds: 4 }), 70_000)).toBe(4);
  expect(secondsOf(container(0, "created"), 70_000)).toBeNull();
});

it("has those that failed first, and the next one round about", () => {
  const states = ["complete", "created", "error", "job_submitted", "canceled", "error"];
  const sorted = sortContainers(states.map((state, number) => container(number, state)));
  expect(sorted.map(({ number }) => number)).toEqual([2, 5, 3, 1, 4, 0]);
  expect([nextOf([2, 5], 2), nextOf([2, 5], 5), nextOf([], 1)]).toEqual([5, 2, null]);
});
