import { beforeEach, expect, it, vi } from "vitest";

import type { JobState } from "../../src/api/types";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore, MAX_REMEMBERED } from "../../src/store/jobs";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

let service: ScriptedService;
let store: JobStore;
beforeEach(() => {
  service = new ScriptedService();
  store = new JobStore(service, new EventStream(service, {}));
});

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

/** Shows a job for a moment, and returns whether it was known at once. */
async function look(id: string): Promise<boolean> {
  const wasKnown = store.view(id).job !== null;
  const stop = store.watch(id, () => undefined);
  await vi.waitUntil(() => store.view(id).job, { interval: 1 });
  stop();
  return wasKnown;
}

it("loads an ended job once, and opens no stream for it", async () => {
  service.answers.set("jobs/a", preview({ id: "a", state: "complete", output_file_count: 60 }));
  service.answers.set("jobs/a/outputs", {
    outputs: [{ file: "out/1", job_id: "a" }],
    jobs: ["a"],
    open_inputs: 0,
  });
  await look("a");
  await settled();
  await look("a");
  await settled();
  expect(service.asked).toEqual(["jobs/a?files=false", "jobs/a/outputs?limit=50"]);
  expect(service.streams).toHaveLength(0);
  expect(store.view("a").outputs?.count).toBe(60);
});

it("keeps the latest jobs alone", async () => {
  const ids = Array.from({ length: MAX_REMEMBERED + 1 }, (_, n) => `job-${n}`);
  for (const id of ids) {
    service.answers.set(`jobs/${id}`, preview({ id, state: "complete" }));
    expect(await look(id)).toBe(false);
    await settled();
  }
  expect(await look("job-1")).toBe(true);
  expect(await look("job-0")).toBe(false);
});

it("goes by events without a request", async () => {
  service.answers.set("jobs/a", preview({ id: "a", state: "download_submitted" }));
  store.watch("a", () => undefined);
  // It is loaded again once the stream is open, as something may have happened before.
  await vi.waitUntil(() => service.asked.length === 2);
  await settled();
  const asked = service.asked.length;
  service.streams[0]?.event("transition", {
    job_id: "a",
    state: "job_submitted",
    time: "2026-01-02T03:04:06Z",
    trans_id: "1",
  });
  service.streams[0]?.event("transition", {
    job_id: "b",
    state: "error",
    time: "2026-01-02T03:04:06Z",
    trans_id: "2",
  });
  await vi.waitUntil(() => store.view("a").job?.state === "job_submitted");
  expect(store.view("a").counts).toEqual({ job_submitted: 1 });
  expect(service.asked).toEqual(service.asked.slice(0, asked));
});

it("misses nothing of a job that it comes to know while others listen already", async () => {
  const listener = { onTransition: vi.fn(), onProgress: vi.fn(), onGap: vi.fn(), onStatus: vi.fn() };
  store.stream.add(listener);
  await vi.waitUntil(() => store.status.state === "live");
  // It moves on between its first answer and the moment from which the store listens.
  const states: JobState[] = ["job_submitting"];
  service.answers.set("jobs/a", () => preview({ id: "a", state: states.shift() ?? "job_submitted" }));
  store.watch("a", () => undefined);
  await vi.waitUntil(() => store.view("a").job?.state === "job_submitted");
});

it("asks again when an event came during a request", async () => {
  service.answers.set("jobs/a", preview({ id: "a", state: "job_submitted" }));
  store.watch("a", () => undefined);
  // It is loaded again once the stream is open, as something may have happened before.
  await vi.waitUntil(() => service.asked.length === 2);
  await settled();
  const asked = service.asked.length;
  store.refresh("a");
  store.onTransition({ job_id: "a", state: "canceling", time: "2026-01-02T03:04:07Z", trans_id: "x" });
  await vi.waitUntil(() => service.asked.length === asked + 2);
});

it("says why a job failed where the service does not", async () => {
  service.answers.set("jobs/a", preview({ id: "a", state: "error", error: "Some container failed" }));
  const containers = [
    { number: 0, state: "complete", transition_times: [], inputs: [] },
    { number: 1, state: "error", exit_code: 137, transition_times: [], inputs: [] },
  ];
  service.answers.set("jobs/a/containers", { containers });
  service.answers.set("jobs/a/log/1/stderr", Array.from({ length: 30 }, (_, n) => `line ${n}`).join("\n"));
  await look("a");
  const { reasons, counts } = store.view("a");
  expect(counts).toEqual({ complete: 1, error: 1 });
  expect(reasons).toMatchObject([{ exit_code: 137, containers: [1] }]);
  expect(reasons[0]?.stderr?.split("\n")).toHaveLength(20);
});

it("tells the reasons that the service says", async () => {
  service.answers.set("jobs/a", preview({ id: "a", state: "error" }));
  const reason = { reason: "Killed", containers: [1], inputs: ["x"], input_count: 1, hint: "Ask for more" };
  service.answers.set("jobs/a/why", { state: "error", reasons: [reason] });
  await look("a");
  expect(store.view("a").reasons).toEqual([reason]);
});

it("shows the job of a service that lacks containers and outputs", async () => {
  const outputs = [{ file: "out/1", crc64nvme: "AAAAAAAAAAA=" }];
  service.answers.set("jobs/a", { ...preview({ id: "a", state: "complete" }), outputs });
  await look("a");
  expect(store.view("a").outputs).toEqual({ shown: outputs, count: 1 });
});

it("tries a job again that could not be loaded, but not one that the service does not know", async () => {
  service.answers.set("jobs/away", new ServiceError(503, "Away"));
  store.watch("away", () => undefined);
  store.watch("unknown", () => undefined);
  await vi.waitUntil(() => store.view("away").error && service.streams.length);
  await settled();
  expect(store.view("unknown").error?.isUnknown).toBe(true);
  service.answers.set("jobs/away", preview({ id: "away", state: "job_submitted" }));
  store.onGap();
  await vi.waitUntil(() => store.view("away").job);
  expect(store.view("away").error).toBeNull();
});

it("cancels, and takes a job that has ended meanwhile as it is", async () => {
  service.answers.set("PUT jobs/a/cancel", new ServiceError(404, "It has ended"));
  await store.cancel("a");
  service.answers.set("PUT jobs/a/cancel", new ServiceError(503, "Away"));
  await expect(store.cancel("a")).rejects.toThrow("Away");
});

const REFUSED = new ServiceError(403, "Not yours", 20000);

it("reads another user's job as an admin, follows it by everybody's events, and cancels it so", async () => {
  service.answers.set("jobs/his", REFUSED);
  service.answers.set("PUT jobs/his/cancel", REFUSED);
  service.answers.set("whoami", { user: "ana", roles: ["full_admin"] });
  const details = preview({ id: "his", user: "bob" });
  service.answers.set("admin/jobs/his", details);
  service.answers.set("PUT admin/jobs/his/cancel", null);
  const stop = store.watch("his", () => undefined);
  await vi.waitUntil(() => service.streams.length);
  expect(store.view("his")).toMatchObject({ isOthers: true, error: null, outputs: null });
  expect(service.streams.map(({ path }) => path)).toEqual(["admin/events"]);
  await store.cancel("his");
  expect(service.asked).toContain("PUT admin/jobs/his/cancel");
  service.answers.set("admin/jobs/his", {
    ...details,
    state: "error",
    error: "An unexpected error occurred",
    admin_error: "No disk",
  });
  service.streams[0]?.event("transition", {
    job_id: "his",
    state: "error",
    time: "2026-01-02T03:06:00Z",
    trans_id: "1",
  });
  await vi.waitUntil(() => store.view("his").job?.state === "error");
  expect(store.view("his").reasons.map(({ reason }) => reason)).toEqual(["No disk"]);
  expect(service.asked.filter((path) => path.startsWith("jobs/his/"))).toEqual([]);
  await vi.waitUntil(() => service.streams[0]?.signal.aborted);
  stop();
});

it("takes a refusal of a job's outputs for no refusal of the job", async () => {
  service.answers.set("jobs/mine", preview({ id: "mine", state: "complete" }));
  service.answers.set("jobs/mine/outputs", REFUSED);
  service.answers.set("whoami", { user: "ana", roles: ["full_admin"] });
  const stop = store.watch("mine", () => undefined);
  await vi.waitUntil(() => store.view("mine").error);
  expect(store.view("mine").error).toBe(REFUSED);
  expect(service.asked.filter((path) => path.includes("admin"))).toEqual([]);
  stop();
});

it.each([[{ user: "ana", roles: [] }], [new ServiceError(404, "No whoami")]])(
  "asks no admin's route for a user who is none: %s",
  async (whoami) => {
    service.answers.set("jobs/his", REFUSED);
    service.answers.set("whoami", whoami);
    store.watch("his", () => undefined);
    await vi.waitUntil(() => store.view("his").error);
    expect(store.view("his").error).toBe(REFUSED);
    expect(service.asked.filter((path) => path.includes("admin"))).toEqual([]);
  },
);
