import { expect, it } from "vitest";

import { english } from "../../src/rules/translator";
import { usageOf } from "../../src/rules/usage";
import { preview } from "../jobs";

it("says what would have done where far too much was asked for", () => {
  const job = preview({ max_memory: 20e9, max_anonymous_memory: 6e9, cpu_factor: 0.1 });
  job.job_input.cpus = 16;
  const [memory, cpus] = usageOf(job, [], english);
  expect(memory?.hint).toBe("Asked for 40 GB, used 6 GB at most: 8 GB would do.");
  expect(cpus?.hint).toBe("Asked for 16 cpus, kept 1.6 busy: 2 would do.");
});

it("says nothing where it was about right, or little", () => {
  const job = preview({ max_memory: 20e9, cpu_factor: 0.9 });
  expect(usageOf(job, [], english).map(({ hint }) => hint)).toEqual(["", ""]);
  const small = preview({ max_memory: 1e6 });
  small.job_input.memory = 1e9;
  expect(usageOf(small, [], english)[0]?.hint).toBe("");
});

it("compares the longest container with the limit, and shows only what was measured", () => {
  const container = { number: 0, state: "complete", transition_times: [], wall_seconds: 600 } as const;
  const usage = usageOf(preview(), [{ ...container, transition_times: [] }], english);
  expect(usage.map(({ title, text }) => [title, text])).toEqual([["Time", "10 min at most, of 1 h"]]);
  expect(usageOf(preview(), [], english)).toEqual([]);
});
