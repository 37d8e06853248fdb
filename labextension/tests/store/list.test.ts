import { beforeEach, expect, it, vi } from "vitest";

import type { JobPreview } from "../../src/api/types";
import { ServiceError } from "../../src/service/errors";
import { EventStream, everybodysStream } from "../../src/service/stream";
import { JobList, PAGE } from "../../src/store/list";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

let service: ScriptedService;
let list: JobList;
beforeEach(() => {
  service = new ScriptedService();
  service.answers.set("jobs", { jobs: [preview({ id: "b" }), preview({ id: "a", state: "complete" })] });
  const everybodys = everybodysStream(service);
  list = new JobList(service, new EventStream(service, {}), () => everybodys);
});

const ids = (): string[] => list.view.jobs.map(({ id }) => id);
const start = async (): Promise<() => void> => {
  const stop = list.watch(() => undefined);
  await vi.waitUntil(() => !list.view.isLoading && service.streams.length, { interval: 1 });
  return stop;
};

it("lists jobs, and goes by their events", async () => {
  await start();
  expect(ids()).toEqual(["b", "a"]);
  list.onProgress({ job_id: "b", containers: { complete: 1 } });
  expect(list.view.jobs[0]?.containers).toEqual({ complete: 1 });
  list.onTransition({ job_id: "b", state: "upload_submitted", time: "2026-01-02T03:05:00Z", trans_id: "1" });
  expect(list.view.jobs[0]?.state).toBe("upload_submitted");
});

it("asks for a job that it does not know, and for what an end tells", async () => {
  await start();
  service.answers.set("jobs", {
    jobs: [preview({ id: "new" }), preview({ id: "b", state: "error", error: "why" })],
  });
  list.onTransition({ job_id: "new", state: "created", time: "2026-01-02T03:05:00Z", trans_id: "1" });
  await vi.waitUntil(() => ids().includes("new"));
  expect(ids().sort()).toEqual(["a", "b", "new"]);
  expect(list.view.jobs.find(({ id }) => id === "b")?.error).toBe("why");
});

it("asks for what events tell also while they do not pause", async () => {
  await start();
  service.answers.set("jobs", { jobs: [preview({ id: "new" })] });
  const events = setInterval(() => {
    list.onTransition({ job_id: "x", state: "created", time: "2026-01-02T03:05:00Z", trans_id: "1" });
  }, 50);
  await vi.waitUntil(() => ids().includes("new"));
  clearInterval(events);
});

it("asks the service for what is searched and chosen", async () => {
  await start();
  list.setFilter({ text: "checkm", moods: ["failed", "done"], label: "ana=c2", site: "kbase" });
  await vi.waitUntil(() => service.asked.some((path) => path.includes("checkm")));
  const asked = service.asked.find((path) => path.includes("checkm")) ?? "";
  expect(asked).toContain("text=checkm");
  expect(decodeURIComponent(asked)).toContain("error,complete&");
  expect(decodeURIComponent(asked)).toContain("label=ana=c2&cluster=kbase");
});

it("drops a job that the filter no longer lets through", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "b" })] });
  await start();
  list.setFilter({ moods: ["running"] });
  list.onTransition({ job_id: "b", state: "complete", time: "2026-01-02T03:05:00Z", trans_id: "1" });
  expect(ids()).toEqual([]);
});

it("loads one page after the other, each job once", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "b" })], next: "c1" });
  await start();
  expect(list.view.hasMore).toBe(true);
  service.answers.set("jobs", { jobs: [preview({ id: "b" }), preview({ id: "a" })] });
  await Promise.all([list.more(), list.more()]);
  expect(service.asked.filter((path) => path.includes("cursor=c1"))).toHaveLength(1);
  expect(ids()).toEqual(["b", "a"]);
  expect(list.view.hasMore).toBe(false);
});

it("keeps one description of an image for all of its jobs, also of later pages", async () => {
  const { image } = preview({});
  const jobs = ["b", "a"].map((id) => preview({ id, image: { ...image } }));
  service.answers.set("jobs", { jobs, next: "c1" });
  await start();
  const other = preview({ id: "other", image: { ...image, digest: "sha256:other" } });
  service.answers.set("jobs", { jobs: [preview({ id: "c", image: { ...image } }), other] });
  await list.more();
  expect(ids()).toEqual(["b", "a", "c", "other"]);
  expect(new Set(list.view.jobs.map((job) => job.image)).size).toBe(2);
  expect(list.view.jobs.at(-1)?.image.digest).toBe("sha256:other");
});

it("keeps what it has when the service is away", async () => {
  await start();
  service.answers.set("jobs", new ServiceError(503, "Away"));
  list.reload();
  await vi.waitUntil(() => list.view.error);
  expect(ids()).toEqual(["b", "a"]);
});

it("takes what ended for seen", async () => {
  service.answers.set("PUT jobs/last_look", null);
  await start();
  await vi.waitUntil(() => list.view.news.length);
  await list.see();
  expect(service.asked).toContain("PUT jobs/last_look");
  expect(list.view.news).toEqual([]);
});

it("appends no page of a filter before", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "b" })], next: "c1" });
  await start();
  let answer: (page: unknown) => void = () => undefined;
  service.answers.set("jobs", ({ cursor }: { cursor?: string }) =>
    cursor === undefined
      ? { jobs: [preview({ id: "found" })] }
      : new Promise((resolve) => (answer = resolve)),
  );
  const more = list.more();
  list.setFilter({ site: "kbase" });
  await vi.waitUntil(() => ids().includes("found"));
  answer({ jobs: [preview({ id: "a" })], next: "c2" });
  await more;
  expect(ids()).toEqual(["found"]);
  expect(list.view.hasMore).toBe(false);
});

it("asks for what is typed also where events come meanwhile", async () => {
  await start();
  list.setFilter({ text: "checkm" });
  list.onGap();
  await vi.waitUntil(() =>
    service.asked.some((path) => path.includes("limit=200") && path.includes("checkm")),
  );
});

it("lists everybody's jobs for an admin, by user, goes by their events, and comes back", async () => {
  service.answers.set("admin/jobs", ({ user }: { user?: string }) => ({
    jobs: [preview({ id: "his", user: "bob" }), preview({ id: "b" })].filter(
      (job) => user !== "bob" || job.user === user,
    ),
  }));
  await start();
  expect(service.asked.some((path) => path.startsWith("admin/"))).toBe(false);
  list.setEverybodys(true);
  await vi.waitUntil(() => ids().includes("his"));
  expect(service.asked).toContainEqual(expect.stringMatching(/^admin\/jobs\?containers=true/));
  await vi.waitUntil(() => list.view.status.state === "live");
  expect(service.streams.map(({ path, signal }) => [path, signal.aborted])).toEqual([
    ["events", true],
    ["admin/events", false],
  ]);
  service.streams[1]?.event("transition", {
    job_id: "his",
    state: "complete",
    time: "2026-01-02T03:06:00Z",
    trans_id: "1",
  });
  await vi.waitUntil(() => list.view.jobs.find(({ id }) => id === "his")?.state === "complete");
  list.setFilter({ user: " bob " });
  await vi.waitUntil(() => ids().join() === "his");
  expect(list.view.news).toEqual([]);
  list.setEverybodys(false);
  await vi.waitUntil(() => ids().join() === "b,a");
  expect(list.view.filter.user).toBe("");
  expect(service.streams.at(-1)?.path).toBe("events");
});

it("asks for everybody's jobs now and then where the service has no stream of theirs", async () => {
  vi.useFakeTimers();
  service.lacks.add("/admin/events");
  service.answers.set("", {});
  service.answers.set("admin/jobs", { jobs: [] });
  const stop = list.watch(() => undefined);
  list.setEverybodys(true);
  await vi.advanceTimersByTimeAsync(300_000);
  expect(list.view.status.state).toBe("asking");
  const count = (): number => service.asked.filter((path) => path.startsWith("admin/jobs")).length;
  const before = count();
  await vi.advanceTimersByTimeAsync(300_000);
  // Each 30 s, a quarter more or less.
  expect(count() - before).toBeGreaterThanOrEqual(7);
  expect(count() - before).toBeLessThanOrEqual(14);
  stop();
  const last = count();
  await vi.advanceTimersByTimeAsync(300_000);
  expect(count()).toBe(last);
  vi.useRealTimers();
});

it("asks once for many events, which do not put it off", async () => {
  vi.useFakeTimers();
  const stop = list.watch(() => undefined);
  await vi.advanceTimersByTimeAsync(10_000);
  const before = service.asked.filter((path) => path.startsWith("jobs?containers")).length;
  for (let n = 0; n < 20; n += 1) {
    list.onTransition({
      job_id: `new-${n}`,
      state: "created",
      time: "2026-01-02T03:05:00Z",
      trans_id: `${n}`,
    });
    await vi.advanceTimersByTimeAsync(100);
  }
  const asked = service.asked.filter((path) => path.startsWith("jobs?containers")).length - before;
  expect(asked).toBeGreaterThanOrEqual(3);
  expect(asked).toBeLessThanOrEqual(4);
  stop();
  vi.useRealTimers();
});

it("asks about a job that has ended and of which it is told again, and moves it not back", async () => {
  const stop = await start();
  const before = list.view.jobs;
  service.answers.set("jobs", { jobs: [preview({ id: "a", state: "created" })] });
  list.onTransition({ job_id: "a", state: "job_submitted", time: "2026-01-02T03:05:00Z", trans_id: "1" });
  expect(list.view.jobs).toBe(before);
  await vi.waitUntil(() => list.view.jobs.find(({ id }) => id === "a")?.state === "created");
  stop();
});

/** So many jobs of a name, newest first, which were updated in the minutes up to one. */
function past(name: string, count: number, minute: number): JobPreview[] {
  return Array.from({ length: count }, (_, n) => {
    const time = new Date(Date.UTC(2026, 0, 2, 3, minute - n)).toISOString();
    return preview({ id: `${name}-${n}`, transition_times: [{ state: "created", time }] });
  });
}

/** Answers jobs page by page; a cursor is the number of those before it. */
function answerPages(jobs: () => readonly JobPreview[]): void {
  service.answers.set("jobs", ({ limit, cursor }: { limit: number; cursor?: string }) => {
    const end = Number(cursor ?? 0) + limit;
    return { jobs: jobs().slice(end - limit, end), ...(end < jobs().length && { next: String(end) }) };
  });
}

it.each([
  ["asks on until it reaches what it knew", 120, 3],
  ["begins anew where too much happened", 900, 6],
])("leaves no job out after a gap: %s", async (_, count, requests) => {
  const old = past("old", 500, 0);
  let jobs = old;
  answerPages(() => jobs);
  const stop = await start();
  await list.more();
  // The gap of a stream that has just begun.
  await vi.waitUntil(() => service.asked.some((path) => path.includes("limit=50")), { interval: 1 });
  jobs = [...past("new", count, count), ...old];
  // One that was known moves meanwhile, and is the newest of the list.
  const moved = preview({ id: "old-7", state: "upload_submitted" });
  moved.transition_times = [{ state: "upload_submitted", time: "2026-02-01T00:00:00Z" }];
  jobs = [moved, ...jobs.filter(({ id }) => id !== "old-7")];
  service.asked.length = 0;
  list.onTransition({
    job_id: "old-7",
    state: "upload_submitted",
    time: "2026-02-01T00:00:00Z",
    trans_id: "1",
  });
  list.onGap();
  await vi.waitUntil(() => ids()[1] === "new-0", { timeout: 3_000 });
  const listed = (): number => service.asked.filter((path) => path.startsWith("jobs?containers")).length;
  expect(listed()).toBe(requests - Number(count < 200));
  if (count > PAGE) expect(ids()).toEqual(jobs.slice(0, PAGE).map(({ id }) => id));
  while (list.view.hasMore) await list.more();
  expect(ids()).toEqual(jobs.map(({ id }) => id));
  stop();
});
