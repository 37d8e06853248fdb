import { beforeEach, expect, it, vi } from "vitest";

import type { ChecksumTask, FileResult } from "../../src/api/types";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { Checksums } from "../../src/store/checksums";
import { Selection } from "../../src/store/selection";
import { ScriptedService } from "../service/scripted";
import { stored } from "./bucket";

let service: ScriptedService;
let selection: Selection;
let checksums: Checksums;

const paths = (count: number): string[] => Array.from({ length: count }, (_, n) => `b/${n}`);
const task = (state: ChecksumTask["state"], ...files: Partial<FileResult>[]): ChecksumTask => ({
  id: "t",
  user: "ana",
  state,
  created: "2026-01-02T03:04:05Z",
  files: files.map((file, n) => ({ file: `b/${n}`, etag: `e-b/${n}`, state: "waiting", ...file })),
});

beforeEach(() => {
  service = new ScriptedService();
  service.answers.set("checksums", { tasks: [] });
  service.answers.set("POST checksums", { id: "t" });
  selection = new Selection();
  selection.add(paths(3).map((path) => stored(path, { checksum: "missing" })));
  checksums = new Checksums(service, new EventStream(service, {}), selection);
});

async function watch(): Promise<void> {
  checksums.watch(() => undefined);
  await vi.waitFor(() => {
    expect(checksums.view.isOffered).not.toBeNull();
    expect(service.streams).toHaveLength(1);
  });
}

it("asks for those that are missing, and follows them to their end", async () => {
  await watch();
  service.answers.set("checksums/t", task("running", {}, {}, {}));
  await checksums.compute(selection.view.missing);
  expect(service.posted).toEqual([
    {
      path: "checksums",
      key: expect.any(String) as string,
      body: { files: paths(3).map((file) => ({ file, etag: `e-${file}` })) },
    },
  ]);
  expect(checksums.view.running).toHaveLength(1);
  expect(checksums.view.marks.get("b/1")).toBe("waiting");

  const asked = service.asked.length;
  service.streams[0]?.event("checksum", {
    checksums_id: "t",
    state: "running",
    files: {},
    changed: [[1, "done"]],
  });
  await vi.waitFor(() => {
    expect(selection.view.missing.map(({ path }) => path)).toEqual(["b/0", "b/2"]);
  });
  expect(service.asked).toHaveLength(asked);

  const error = "b/2 has changed since it was chosen: look at it again";
  service.answers.set(
    "checksums/t",
    task(
      "ended",
      { state: "done", crc64nvme: "A" },
      { state: "done", crc64nvme: "B" },
      { state: "failed", error },
    ),
  );
  service.streams[0]?.event("checksum", { checksums_id: "t", state: "ended", files: {} });
  await vi.waitFor(() => {
    expect(checksums.view.running).toEqual([]);
  });
  expect(selection.get("b/1")).toMatchObject({ checksum: "stored", crc64nvme: "B" });
  expect(checksums.view.failed.map((file) => file.error)).toEqual([error]);
  // Its ETag is another one since, at some stores: that is no change.
  selection.see([stored("b/1", { etag: "new", crc64nvme: "B" })]);
  expect(selection.view.changed).toEqual([]);
});

it("goes on with requests of pages that were closed", async () => {
  service.answers.set("checksums", {
    tasks: [
      { id: "t", state: "running" },
      { id: "old", state: "ended" },
    ],
  });
  service.answers.set("checksums/t", task("running", { state: "done", crc64nvme: "A" }, {}));
  checksums.watch(() => undefined);
  await vi.waitFor(() => {
    expect(checksums.view.running).toHaveLength(1);
  });
  expect(service.asked).not.toContain("checksums/old");
  expect(selection.view.missing.map(({ path }) => path)).toEqual(["b/1", "b/2"]);
});

it("cancels one", async () => {
  await watch();
  service.answers.set("checksums/t", task("running", {}, {}));
  await checksums.compute(selection.view.missing.slice(0, 2));
  service.answers.set("DELETE checksums/t", null);
  service.answers.set("checksums/t", task("canceled", {}, {}));
  await checksums.cancel("t");
  expect(checksums.view.running).toEqual([]);
  expect(checksums.view.marks.get("b/0")).toBeUndefined();
  expect(selection.view.missing).toHaveLength(3);
});

it("says why one is refused", async () => {
  await watch();
  service.answers.set("POST checksums", new ServiceError(429, "10 requests run"));
  await checksums.compute(selection.view.missing);
  expect(checksums.view.error?.message).toBe("10 requests run");
});

it("asks an older service for nothing", async () => {
  service.lacks.add("/checksums");
  await watch();
  expect(checksums.view.isOffered).toBe(false);
  expect(service.asked).toEqual([]);
});

it("makes one request of two clicks", async () => {
  await watch();
  service.answers.set("checksums/t", task("running", {}, {}, {}));
  await Promise.all([checksums.compute(selection.view.missing), checksums.compute(selection.view.missing)]);
  expect(service.posted).toHaveLength(1);
  await checksums.compute(selection.view.missing);
  expect(service.posted).toHaveLength(2);
});

it("makes one request of what is asked for again after a lost answer", async () => {
  await watch();
  service.answers.set("checksums/t", task("running", {}, {}, {}));
  service.answers.set("POST checksums", new ServiceError(0, "The Jupyter server cannot be reached"));
  await checksums.compute(selection.view.missing);
  expect(checksums.view).toMatchObject({ isAsking: false, running: [] });
  service.answers.set("POST checksums", { id: "t" });
  await checksums.compute(selection.view.missing);
  expect(checksums.view.running).toHaveLength(1);
  await checksums.compute(selection.view.missing);
  await checksums.compute(selection.view.missing.slice(1));
  const [lost, again, ...others] = service.posted.map(({ key }) => key);
  expect(again).toBe(lost);
  expect(new Set([lost, ...others]).size).toBe(3);
});

it("goes by the latest of the answers, in whichever order they come", async () => {
  await watch();
  const answers: ((task: ChecksumTask) => void)[] = [];
  service.answers.set("checksums/t", task("running", {}));
  await checksums.compute(selection.view.missing.slice(0, 1));
  service.answers.set("checksums/t", () => new Promise((resolve) => answers.push(resolve)));
  for (const state of ["running", "ended"] as const) {
    checksums.onChecksum({ checksums_id: "t", state, files: {} });
  }
  await vi.waitUntil(() => answers.length === 2);
  answers[1]?.(task("ended", { state: "done", crc64nvme: "A" }));
  await vi.waitFor(() => {
    expect(checksums.view.running).toEqual([]);
  });
  answers[0]?.(task("running", {}));
  await new Promise((resolve) => setTimeout(resolve));
  expect(checksums.view.running).toEqual([]);
});
