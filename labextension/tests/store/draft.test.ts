import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { EMPTY_DRAFT, type Draft } from "../../src/rules/spec";
import { ServiceError } from "../../src/service/errors";
import { MAX_FILES } from "../../src/rules/problems";
import { CHECK_MS, DraftStore, REFRESH_MS, RETRY_MS, readSaved } from "../../src/store/draft";
import { preview } from "../jobs";
import { offer } from "../service/catalogue";
import { ScriptedService } from "../service/scripted";
import { CHECK, CHECKED, GOOD } from "./drafts";

let service: ScriptedService;
beforeEach(() => {
  vi.useFakeTimers();
  service = new ScriptedService();
  offer(service);
  service.answers.set(CHECK, CHECKED);
});
afterEach(() => {
  vi.useRealTimers();
});

async function open(draft: Draft = EMPTY_DRAFT): Promise<DraftStore> {
  const store = new DraftStore(service, draft);
  store.watch(() => undefined);
  await vi.advanceTimersByTimeAsync(CHECK_MS);
  return store;
}

const checks = (): number => service.asked.filter((path) => path === CHECK).length;

it("chooses an open site, and suggests an output folder until one is written", async () => {
  const store = await open();
  expect(store.view.draft.site).toBe("local");
  store.change({ image: "host/tool:latest" });
  store.change({ files: ["data/in/a"] });
  expect(store.view.draft.outputDir).toMatch(/^data\/ana\/tool\/[\d-]+-[\da-f]{4}\/$/);
  store.change({ outputDir: "data/mine/" });
  store.change({ image: "host/other" });
  expect(store.view.draft.outputDir).toBe("data/mine/");
});

it("checks once after the last change, and not before enough is filled in", async () => {
  const store = await open();
  expect([checks(), store.view.check.phase]).toEqual([0, "waiting"]);
  store.change({ files: ["data/in/a"] });
  store.change({ image: "host/tool:latest" });
  store.change({ cpus: "2" });
  await vi.advanceTimersByTimeAsync(CHECK_MS);
  expect([checks(), store.view.check.phase]).toEqual([1, "done"]);
  expect(service.posted[0]?.body).toMatchObject({ cpus: 2, input_files: ["data/in/a"] });
});

it("checks again what changed during a check", async () => {
  const store = await open(GOOD);
  let answer = (): void => undefined;
  service.answers.set(
    CHECK,
    () =>
      new Promise(
        (resolve) =>
          (answer = () => {
            resolve(CHECKED);
          }),
      ),
  );
  store.change({ cpus: "2" });
  await vi.advanceTimersByTimeAsync(CHECK_MS);
  store.change({ cpus: "3" });
  await vi.advanceTimersByTimeAsync(CHECK_MS);
  const before = checks();
  answer();
  await vi.advanceTimersByTimeAsync(0);
  expect(checks()).toBe(before + 1);
  expect(service.posted.at(-1)?.body).toMatchObject({ cpus: 3 });
});

it("shows what the service found at its field", async () => {
  const problem = { loc: ["body", "input_files", 1], message: "No checksum" };
  service.answers.set(CHECK, { ...CHECKED, problems: [problem] });
  const store = await open(GOOD);
  expect(store.view.faults).toEqual([
    { place: ["input_files", 1], message: "No checksum", hint: undefined, isFound: true },
  ]);
  const detail = {
    request_validation_detail: [{ type: "", loc: ["body", "image"], msg: "Value error, Odd" }],
  };
  service.answers.set(CHECK, new ServiceError(400, "Invalid", 30010, detail));
  store.change({ cpus: "2" });
  await vi.advanceTimersByTimeAsync(CHECK_MS);
  expect(store.view.faults).toMatchObject([{ place: ["image"], message: "Odd" }]);
});

it("does not ask a service that cannot check", async () => {
  service.lacks.add("/jobs/check all");
  const store = await open(GOOD);
  expect([checks(), store.view.check.phase]).toEqual([0, "missing"]);
});

it("makes one job, however often it is submitted", async () => {
  const store = await open(GOOD);
  service.answers.set("POST jobs", { job_id: "1" });
  await Promise.all([store.submit(), store.submit()]);
  await store.submit();
  expect(store.view.sent).toEqual({ phase: "done", jobId: "1", wasLost: false });
  expect(service.asked.filter((path) => path === "POST jobs")).toHaveLength(1);
});

it("asks again with the same key after a lost answer, and keeps the draft as it was sent", async () => {
  const store = await open(GOOD);
  service.answers.set("POST jobs", new ServiceError(0, "Away"));
  await store.submit();
  expect(store.view.sent.phase).toBe("lost");
  store.change({ cpus: "7" });
  expect(store.view.draft.cpus).toBe("1");
  service.answers.set("POST jobs", { job_id: "1" });
  await store.submit();
  expect(store.view.sent).toEqual({ phase: "done", jobId: "1", wasLost: true });
  const [first, second] = service.posted.filter(({ path }) => path === "jobs");
  expect(first).toEqual(second);
  expect(first?.key).toMatch(/^[0-9a-f]{32}$/);
});

it("takes another key for another submission", async () => {
  const store = await open(GOOD);
  service.answers.set("POST jobs", new ServiceError(503, "Away"));
  await store.submit();
  store.giveUp();
  store.change({ cpus: "7" });
  await store.submit();
  const [first, second] = service.posted.filter(({ path }) => path === "jobs");
  expect(first?.key).not.toBe(second?.key);
});

it("says why a submission was refused, and lets it be changed", async () => {
  const store = await open(GOOD);
  service.answers.set("POST jobs", new ServiceError(400, "Too much", 30001));
  await store.submit();
  expect(store.view.sent).toMatchObject({ phase: "refused", error: { message: "Too much" } });
  store.change({ cpus: "2" });
  expect(store.view.sent.phase).toBe("ready");
});

it("is offline while the service is away, and loses nothing", async () => {
  service.answers.set("images", new ServiceError(0, "Away"));
  const store = await open(GOOD);
  expect(store.view.away).toMatchObject({ status: 0 });
  store.change({ cpus: "2" });
  offer(service);
  await vi.advanceTimersByTimeAsync(RETRY_MS);
  expect(store.view.away).toBeNull();
  expect(store.view.draft.cpus).toBe("2");
  expect(store.view.catalogue.images).toHaveLength(1);
});

it("starts from a job, with its inputs as they are now and a folder of its own", async () => {
  const store = await open();
  const job = preview({ id: "old", labels: { study: "soil" } });
  const files = [{ file: "data/in/a", crc64nvme: "ikLs7sFMNGo=", data_id: "1" }];
  service.answers.set("jobs/old", { ...job, job_input: { ...job.job_input, input_files: files } });
  await store.startFrom("old");
  const { draft } = store.view;
  expect([draft.image, draft.memory, draft.labels[0]?.text]).toEqual([
    "host/tool:1",
    { amount: "40", unit: "GB" },
    "soil",
  ]);
  expect(draft.details).toEqual({ "data/in/a": { data_id: "1" } });
  expect(draft.outputDir).toMatch(/^data\/ana\/tool\//);
});

it("is there again after a reload, as the same submission", async () => {
  const store = await open(GOOD);
  service.answers.set("POST jobs", new ServiceError(0, "Away"));
  await store.submit();
  const kept = readSaved(JSON.parse(JSON.stringify(store.saved)));
  const again = new DraftStore(service);
  if (kept) again.restore(kept);
  expect(again.view.draft).toEqual(GOOD);
  await again.submit();
  const sent = service.posted.filter(({ path }) => path === "jobs");
  expect(sent).toHaveLength(2);
  expect(sent[0]).toEqual(sent[1]);
});

it("keeps the files of a large job for after a reload, of any that may be submitted", async () => {
  const files = Array.from({ length: MAX_FILES }, (_, n) => `data/in/${n}`);
  const { saved } = await open({ ...GOOD, files });
  const again = new DraftStore(service);
  const kept = readSaved(JSON.parse(JSON.stringify(saved)));
  if (kept) again.restore(kept);
  expect(again.view.draft.files).toEqual(files);
});

it("keeps no longer list of files, and takes nothing that is not a form", async () => {
  const files = Array.from({ length: MAX_FILES + 1 }, (_, n) => `data/in/${n}`);
  const store = await open({ ...GOOD, files });
  expect(store.saved.draft.files).toEqual([]);
  for (const odd of [null, 1, {}, { draft: { ...GOOD, files: "x" } }]) expect(readSaved(odd)).toBeNull();
});

it("has a check of the draft as it is, or none", async () => {
  const store = await open(GOOD);
  expect(store.view.check.phase).toBe("done");
  store.change({ cpus: "2" });
  expect(store.view.check.phase).toBe("waiting");
  let answer: (answered: object) => void = () => undefined;
  service.answers.set(CHECK, () => new Promise((resolve) => (answer = resolve)));
  await vi.advanceTimersByTimeAsync(CHECK_MS);
  store.change({ cpus: "3" });
  answer(CHECKED);
  await vi.advanceTimersByTimeAsync(0);
  expect(store.view.check.phase).toBe("waiting");
});

it("is not begun anew while it is sent, and stays the job that it becomes", async () => {
  const store = await open(GOOD);
  let answer: (answered: object) => void = () => undefined;
  service.answers.set("POST jobs", () => new Promise((resolve) => (answer = resolve)));
  service.answers.set("jobs/old", preview({ id: "old" }));
  const submitted = store.submit();
  await vi.advanceTimersByTimeAsync(0);
  store.reset();
  await store.startFrom("old");
  expect(store.view).toMatchObject({ draft: GOOD, sent: { phase: "sending" } });
  answer({ job_id: "1" });
  await submitted;
  expect(store.view.sent).toMatchObject({ phase: "done", jobId: "1" });
});

it("starts from the job that was chosen last, and from none once a person has gone on", async () => {
  const store = await open();
  const answers: Record<string, (job: object) => void> = {};
  for (const id of ["a", "b", "c"]) {
    service.answers.set(`jobs/${id}`, () => new Promise((resolve) => (answers[id] = resolve)));
  }
  const answer = (id: string): void => {
    const job = preview({ id });
    answers[id]?.({
      ...job,
      job_input: { ...job.job_input, image: `host/${id}`, input_files: ["data/in/a"] },
    });
  };
  const both = [store.startFrom("a"), store.startFrom("b")];
  await vi.advanceTimersByTimeAsync(0);
  answer("b");
  answer("a");
  await Promise.all(both);
  expect(store.view.draft.image).toBe("host/b");
  const third = store.startFrom("c");
  await vi.advanceTimersByTimeAsync(0);
  store.change({ image: "host/mine" });
  answer("c");
  await third;
  expect(store.view.draft.image).toBe("host/mine");
});

it("forgets a refusal once it is checked again", async () => {
  const store = await open(GOOD);
  const detail = { request_validation_detail: [{ type: "", loc: ["body", "image"], msg: "Not there" }] };
  service.answers.set("POST jobs", new ServiceError(400, "Invalid", 30010, detail));
  await store.submit();
  expect(store.view.faults).toMatchObject([{ message: "Not there", isFound: true }]);
  store.checkNow();
  await vi.advanceTimersByTimeAsync(0);
  expect(store.view).toMatchObject({ faults: [], sent: { phase: "ready" }, check: { phase: "done" } });
});

it("may have been submitted, whatever else goes wrong with the answer", async () => {
  const store = await open(GOOD);
  service.answers.set("POST jobs", new SyntaxError("cut"));
  await store.submit();
  expect(store.view.sent.phase).toBe("lost");
});

it("suggests a folder to each job, also to those of one second", async () => {
  const [some, other] = [await open({ ...GOOD, outputDir: "" }), await open({ ...GOOD, outputDir: "" })];
  vi.setSystemTime(0);
  some.another();
  other.another();
  await vi.advanceTimersByTimeAsync(0);
  expect(some.view.draft.outputDir).not.toBe(other.view.draft.outputDir);
});

it("brings back what was filled in before a reset", async () => {
  const store = await open(GOOD);
  store.reset();
  expect(store.view.draft.files).toEqual([]);
  store.change({ cpus: "3" });
  store.undo();
  expect(store.view.draft).toEqual(GOOD);
  const empty = await open();
  empty.reset();
  expect(empty.view.previous).toBeNull();
});

it("goes on without a part of the catalogue, and reads it by the button that checks", async () => {
  service.answers.set("refdata", new ServiceError(500, "Broken"));
  const store = await open(GOOD);
  expect(store.view).toMatchObject({
    away: null,
    lacking: { message: "Broken" },
    check: { phase: "done" },
    catalogue: { user: "ana" },
  });
  offer(service);
  store.checkNow();
  await vi.advanceTimersByTimeAsync(CHECK_MS);
  expect(store.view).toMatchObject({ lacking: null, check: { phase: "done" } });
});

it("reads the catalogue again for another job, and when a person comes back later", async () => {
  const store = await open(GOOD);
  const reads = (): number => service.asked.filter((path) => path === "images").length;
  store.refresh();
  await vi.advanceTimersByTimeAsync(0);
  expect(reads()).toBe(1);
  await vi.advanceTimersByTimeAsync(REFRESH_MS);
  store.refresh();
  await vi.advanceTimersByTimeAsync(0);
  expect(reads()).toBe(2);
  store.another();
  await vi.advanceTimersByTimeAsync(0);
  expect(reads()).toBe(3);
});

it("keeps a submission whole before it is sent, and is lost after a reload", async () => {
  const files = Array.from({ length: MAX_FILES + 1 }, (_, n) => `data/in/${n}`);
  const store = await open({ ...GOOD, files });
  const kept: unknown[] = [];
  store.keep = () => {
    kept.push(
      JSON.parse(JSON.stringify(store.saved)),
      service.posted.some(({ path }) => path === "jobs"),
    );
    return Promise.reject(new Error("There is no room"));
  };
  service.answers.set("POST jobs", { job_id: "1" });
  await store.submit();
  expect(kept[1]).toBe(false);
  const saved = readSaved(kept[0]);
  const again = new DraftStore(service);
  if (saved) again.restore(saved);
  expect(again.view).toMatchObject({ draft: { files }, sent: { phase: "lost" } });
  await again.submit();
  const [first, second] = service.posted.filter(({ path }) => path === "jobs");
  expect(second).toEqual(first);
  expect(again.view.sent).toMatchObject({ phase: "done", wasLost: true });
});
