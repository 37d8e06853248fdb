import { afterEach, beforeEach, expect, it, vi } from "vitest";

import type { JobPreview, QueuedJob } from "../../src/api/types";
import { english } from "../../src/rules/translator";
import { ServiceError } from "../../src/service/errors";
import { QUEUE_MS, Queue } from "../../src/store/queue";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

const PATH = "sites/kbase/load";

let service: ScriptedService;
let queue: Queue;
beforeEach(() => {
  vi.useFakeTimers();
  service = new ScriptedService();
  queue = new Queue(service);
});
afterEach(() => {
  vi.useRealTimers();
});

function waiting(changes: Partial<JobPreview> = {}): JobPreview {
  const job = preview({ id: "a", state: "download_submitted", ...changes });
  return { ...job, job_input: { ...job.job_input, cluster: "kbase" } };
}

function answer(...jobs: Partial<QueuedJob>[]): void {
  const told = jobs.map((job) => ({ job_id: "a", state: "download_submitted", ...job }));
  service.answers.set(PATH, { cluster: "kbase", waiting: 213, running: 1, jobs: told });
}

async function told(job: JobPreview): Promise<string> {
  queue.watch("kbase", () => undefined);
  await vi.advanceTimersByTimeAsync(0);
  return queue.of(job, english);
}

it.each<[Partial<QueuedJob>, string]>([
  [{ ahead: 212 }, "Waiting for its turn at kbase: 212 containers before it"],
  [{ ahead: 1 }, "Waiting for its turn at kbase: 1 container before it"],
  [{ ahead: 0 }, "Waiting for its turn at kbase: it is next"],
  [{ ahead: 212, waits_for: "On hold at the site: why" }, "On hold at the site: why"],
  [{}, ""],
  [{ ahead: 2, state: "created" }, ""],
  [{ ahead: 2, job_id: "another" }, ""],
])("says what a job waits for: %j", async (entry, text) => {
  answer(entry);
  expect(await told(waiting())).toBe(text);
});

it("says nothing of its turn once some of a job has begun, and nothing of one that has ended", async () => {
  answer({ ahead: 2 });
  const begun = { download_submitted: 1, job_submitted: 1 };
  expect(await told(waiting({ containers: begun }))).toBe("");
  expect(queue.of(waiting({ containers: { download_submitted: 2 } }), english)).not.toBe("");
  expect(queue.of(waiting({ state: "complete", waits_for: "why" }), english)).toBe("");
});

it("asks a site once for all of its jobs, again while one is in sight, and then no more", async () => {
  answer({ ahead: 2 });
  const seen = vi.fn();
  const ends = [queue.watch("kbase", seen), queue.watch("kbase", () => undefined)];
  await vi.advanceTimersByTimeAsync(QUEUE_MS);
  expect(service.asked).toEqual([PATH, PATH]);
  expect(seen).toHaveBeenCalledTimes(2);
  for (const end of ends) end();
  await vi.advanceTimersByTimeAsync(2 * QUEUE_MS);
  expect(service.asked).toHaveLength(2);
  queue.watch("kbase", seen);
  await vi.advanceTimersByTimeAsync(0);
  expect(service.asked).toHaveLength(3);
});

it("tells what the job itself says where the site does not answer, or tells less", async () => {
  const job = waiting({ waits_for: "NERSC is away" });
  service.answers.set(PATH, new ServiceError(503, "away"));
  expect(await told(job)).toBe("NERSC is away");
  service.answers.set(PATH, { cluster: "kbase", waiting: 2, running: 0, ahead: 2 });
  await vi.advanceTimersByTimeAsync(QUEUE_MS);
  expect(queue.of(job, english)).toBe("NERSC is away");
});

it("asks an older service for nothing", async () => {
  service.lacks.add("/sites/{site}/load");
  expect(await told(waiting())).toBe("");
  expect(service.asked).toEqual([]);
});
