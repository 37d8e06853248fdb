import { beforeEach, expect, it, vi } from "vitest";

import type { StoredObject } from "../../src/api/types";
import { ServiceError } from "../../src/service/errors";
import { FileBrowser, type Row } from "../../src/store/files";
import { MAX_FILES } from "../../src/rules/problems";
import { Selection } from "../../src/store/selection";
import { ScriptedService } from "../service/scripted";
import { Bucket, stored } from "./bucket";

const MANY = 100_000;

let service: ScriptedService;
let selection: Selection;
let browser: FileBrowser;
let bucket: Bucket;

function fill(...files: StoredObject[]): void {
  bucket = new Bucket(files);
  service.answers.set("files", bucket.list);
}

beforeEach(() => {
  service = new ScriptedService();
  service.answers.set("files/roots", { roots: [{ path: "b/", perm: "write" }] });
  selection = new Selection();
  browser = new FileBrowser(service, selection);
});

async function settle(): Promise<void> {
  await vi.waitFor(() => {
    expect(browser.view.isLoading || browser.view.rows.some(isLoading)).toBe(false);
  });
}
const isLoading = (row: Row): boolean => row.kind === "rest" && row.state === "loading";
const names = (): string[] => browser.view.rows.map((row) => (row.kind === "rest" ? row.state : row.path));

function toggle(path: string): void {
  const row = browser.view.rows.find(({ key }) => key === path);
  if (row?.kind === "folder") browser.toggle(row);
}

async function openOnly(): Promise<void> {
  await browser.start();
  await settle();
}

it("looks into the only root, and lists folders and files by their names", async () => {
  fill(stored("b/z.gz"), stored("b/in/1"), stored("b/in/2"), stored("b/a.gz"));
  await openOnly();
  expect(browser.view.folder).toBe("b/");
  expect(names()).toEqual(["b/a.gz", "b/in/", "b/z.gz"]);
  expect(browser.view.rows.map(({ place, siblings }) => [place, siblings.size])).toEqual([
    [1, 3],
    [2, 3],
    [3, 3],
  ]);
});

it("lets one choose among several roots first, and lists nothing before", async () => {
  service.answers.set("files/roots", { roots: [{ path: "b/" }, { path: "c/ana/" }] });
  fill(stored("c/ana/1"));
  await browser.start();
  expect(names()).toEqual(["b/", "c/ana/"]);
  expect(service.asked).toEqual(["files/roots"]);
  browser.open("c/ana/");
  await settle();
  expect(names()).toEqual(["c/ana/1"]);
});

it("opens folders in their place", async () => {
  fill(stored("b/in/1"), stored("b/in/deep/2"), stored("b/last"));
  await openOnly();
  toggle("b/in/");
  await settle();
  expect(browser.view.rows.map(({ key, level }) => [key, level])).toEqual([
    ["b/in/", 1],
    ["b/in/1", 2],
    ["b/in/deep/", 2],
    ["b/last", 1],
  ]);
  toggle("b/in/");
  expect(names()).toEqual(["b/in/", "b/last"]);
});

it("reads a folder of 100,000 files page by page", async () => {
  fill(...Array.from({ length: MANY }, (_, n) => stored(`b/${String(n).padStart(6, "0")}`)));
  await openOnly();
  expect(browser.view.rows).toHaveLength(1001);
  expect(browser.view.rows.at(-1)).toMatchObject({ kind: "rest", state: "more" });
  expect(browser.view.rows[0]?.siblings.size).toBe(-1);
  await Promise.all([browser.more("b/"), browser.more("b/")]);
  expect(browser.view.rows).toHaveLength(2001);
  while (browser.view.rows.at(-1)?.kind === "rest" && !browser.view.isWhole) {
    const before = browser.view.rows.length;
    await browser.more("b/");
    if (browser.view.rows.length === before) break;
  }
  expect(browser.view.rows).toHaveLength(MANY);
  expect(new Set(browser.view.rows.map(({ key }) => key)).size).toBe(MANY);
}, 30_000);

it("has the service search, on over pages without a hit", async () => {
  const far = stored("b/zz.faa");
  fill(...Array.from({ length: 60_000 }, (_, n) => stored(`b/${String(n).padStart(6, "0")}.fna`)), far);
  await openOnly();
  browser.setFilter({ match: " *.faa " });
  await vi.waitFor(() => {
    expect(names()).toEqual(["b/zz.faa"]);
  });
  expect(browser.view).toMatchObject({ scanned: 60_001, isWhole: true });
  expect(service.asked.at(-1)).not.toContain("folders");
});

it("stops a search, keeps what it found, and goes on only when asked", async () => {
  fill(...Array.from({ length: 60_000 }, (_, n) => stored(`b/${String(n).padStart(6, "0")}.fna`)));
  await openOnly();
  let pages = 0;
  service.answers.set("files", (query: Parameters<Bucket["list"]>[0]) => {
    pages += 1;
    if (pages === 2) browser.stop();
    return bucket.list(query);
  });
  browser.setFilter({ match: "*.faa" });
  await vi.waitFor(() => {
    expect(browser.view.rows.at(-1)).toMatchObject({ state: "stopped" });
  });
  expect(browser.view).toMatchObject({ scanned: 20_000, isWhole: false });
  await browser.more("b/");
  expect(browser.view).toMatchObject({ scanned: 60_000, isWhole: true, rows: [] });
});

it("finds files without a checksum", async () => {
  fill(stored("b/1"), stored("b/2", { checksum: "missing" }));
  await openOnly();
  browser.setFilter({ isMissing: true });
  await vi.waitFor(() => {
    expect(names()).toEqual(["b/2"]);
  });
});

it("chooses all that match, also what is not listed yet", async () => {
  fill(
    ...Array.from({ length: 3_500 }, (_, n) => stored(`b/${String(n).padStart(6, "0")}.fna`)),
    stored("b/readme.txt"),
  );
  await openOnly();
  browser.setFilter({ match: "*.fna" });
  await vi.waitFor(() => {
    expect(browser.view.scanned).not.toBeNull();
  });
  await settle();
  await browser.chooseAll();
  expect(selection.view).toMatchObject({ from: "b/*.fna", bytes: 3_500_000_000 });
  expect(selection.view.files).toHaveLength(3_500);
  expect(browser.view.choosing).toBeNull();
});

it("chooses hardly more files than a job takes, and tells that they are too many", async () => {
  fill(...Array.from({ length: MANY }, (_, n) => stored(`b/${String(n).padStart(6, "0")}`)));
  await openOnly();
  await browser.chooseAll();
  expect(selection.view.files.length).toBeGreaterThan(MAX_FILES);
  expect(selection.view.files.length).toBeLessThanOrEqual(MAX_FILES + 1_000);
  expect(selection.view).toMatchObject({ isFull: true, all: null });
  service.answers.set("files/summary", {
    objects: MANY,
    bytes: 1,
    missing: 0,
    scanned: MANY,
    complete: true,
  });
  await browser.sum();
  await browser.chooseAll();
  expect(selection.view).toMatchObject({ isFull: true, all: MANY });
  selection.clear();
  expect(selection.view).toMatchObject({ isFull: false, all: null });
});

it("chooses all below a folder, whatever the filter", async () => {
  fill(stored("b/in/1"), stored("b/in/deep/2"), stored("b/last"));
  await openOnly();
  await browser.chooseAll("b/in/");
  expect(selection.view.files.map(({ path }) => path)).toEqual(["b/in/1", "b/in/deep/2"]);
  expect(selection.countBelow("b/in/")).toBe(2);
  expect(selection.countBelow("b/in/deep/")).toBe(1);
  selection.removeBelow("b/in/deep/");
  expect(selection.countBelow("b/")).toBe(1);
});

it("adds up a folder, and goes on where one answer is not all", async () => {
  fill(stored("b/1"));
  const totals = { objects: 20_000, bytes: 5, missing: 1, scanned: 20_000, complete: false, next: "b/x" };
  service.answers.set("files/summary", totals);
  await openOnly();
  await vi.waitFor(() => {
    expect(browser.view.totals).toEqual(totals);
  });
  service.answers.set("files/summary", { objects: 7, bytes: 1, missing: 0, scanned: 7, complete: true });
  await browser.sum();
  expect(service.asked.at(-1)).toBe("files/summary?prefix=b%2F&match=undefined&after=b%2Fx");
  expect(browser.view.totals).toMatchObject({ objects: 20_007, bytes: 6, missing: 1, complete: true });
});

it("says why a folder cannot be read, and reads it when asked again", async () => {
  service.answers.set("files", new ServiceError(403, "Not your folder"));
  await openOnly();
  await vi.waitFor(() => {
    expect(browser.view.error?.message).toBe("Not your folder");
  });
  fill(stored("b/1"));
  browser.reload();
  await settle();
  expect(browser.view.error).toBeNull();
  expect(names()).toEqual(["b/1"]);
});

it("keeps what is listed while the service is away", async () => {
  fill(...Array.from({ length: 1_500 }, (_, n) => stored(`b/${String(n).padStart(6, "0")}`)));
  await openOnly();
  service.answers.set("files", new ServiceError(0, "Cannot be reached"));
  await browser.more("b/");
  expect(browser.view.rows).toHaveLength(1001);
  expect(browser.view.rows.at(-1)).toMatchObject({ state: "more", error: { status: 0 } });
  service.answers.set("files", bucket.list);
  await browser.more("b/");
  expect(browser.view.rows).toHaveLength(1_500);
});

it("asks an older service for nothing that it lacks", async () => {
  for (const path of ["/files/roots", "/files match", "/files/summary"]) service.lacks.add(path);
  fill(stored("b/1"));
  await browser.start();
  expect(browser.view).toMatchObject({ roots: [], offers: { roots: false, search: false, summary: false } });
  browser.open("b/");
  await settle();
  browser.setFilter({ match: "*.gz" });
  await new Promise((resolve) => setTimeout(resolve, 350));
  expect(service.asked.every((path) => path.startsWith("files?limit=1000&prefix=b%2F&folders=true"))).toBe(
    true,
  );
});

it("looks again at what is chosen: changed, gone, as before", async () => {
  fill(stored("b/1"), stored("b/2"), stored("b/3"), stored("b/in/x"));
  selection.setPaths(["b/3", "b/1", "b/2", "b/in/x", "b/in/none"]);
  expect(selection.view.unknown).toBe(5);
  await browser.look();
  expect(selection.view).toMatchObject({ unknown: 0, bytes: 4_000_000, changed: [] });
  expect(selection.view.gone.map(({ path }) => path)).toEqual(["b/in/none"]);
  bucket.replace("b/2", { etag: "other", crc64nvme: "other" });
  // The same content with a checksum that was computed meanwhile.
  bucket.replace("b/1", { etag: "after-a-copy" });
  await browser.look();
  expect(selection.view.changed.map(({ path }) => path)).toEqual(["b/2"]);
  selection.accept();
  expect(selection.view.changed).toEqual([]);
  expect(selection.get("b/2")?.crc64nvme).toBe("other");
});
