import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { english } from "../../src/rules/translator";
import { type End, Ends } from "../../src/store/ends";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function end(n: number, state = "complete"): Parameters<Ends["onTransition"]>[0] {
  return { job_id: `job-${n}`, state: state as never, time: "", trans_id: String(n) };
}

it("tells of three by themselves and of the others together, each once", async () => {
  const told: End[] = [];
  const service = new ScriptedService();
  const ends = new Ends(service, english, (one) => told.push(one));
  service.answers.set("jobs/job-0", preview({ id: "job-0", state: "error", error: "No memory" }));
  ends.onTransition(end(9, "job_submitted"));
  ends.onTransition(end(0, "error"));
  for (let n = 0; n < 8; n += 1) ends.onTransition(end(n));
  await vi.advanceTimersByTimeAsync(20_000);
  expect(told.map(({ text }) => text)).toEqual([
    "host/tool:1: Failed. No memory",
    "A job ended: Done",
    "A job ended: Done",
    "5 other jobs ended",
  ]);
});

it("keeps the stream of a hidden tab open", () => {
  expect(new Ends(new ScriptedService(), english, () => undefined).needsHidden).toBe(true);
});
