import { act, cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import axe from "axe-core";
import { beforeEach, expect, it, vi } from "vitest";

import type { StoredObject } from "../../../src/api/types";
import { FileChooser } from "../../../src/components/files/FileChooser";
import { type FilesModel, makeFiles } from "../../../src/components/files/model";
import { ServiceError } from "../../../src/service/errors";
import { EventStream } from "../../../src/service/stream";
import { ScriptedService } from "../../service/scripted";
import { Bucket, stored } from "../../store/bucket";

const EVIL = '<img src=x onerror="window.hacked=1">';

let service: ScriptedService;
let files: FilesModel;

beforeEach(() => {
  service = new ScriptedService();
  service.answers.set("files/roots", { roots: [{ path: "b/", perm: "write" }] });
  service.answers.set("files/summary", {
    objects: 3,
    bytes: 3_000_000,
    missing: 1,
    scanned: 3,
    complete: true,
  });
  service.answers.set("checksums", { tasks: [] });
  // jsdom lays nothing out: the lists are as high as this says.
  Object.defineProperty(HTMLElement.prototype, "clientHeight", { configurable: true, value: 300 });
  Object.defineProperty(HTMLElement.prototype, "offsetHeight", { configurable: true, value: 300 });
  Object.defineProperty(HTMLElement.prototype, "offsetWidth", { configurable: true, value: 300 });
});

function show(...objects: StoredObject[]): void {
  if (!service.answers.has("files")) service.answers.set("files", new Bucket(objects).list);
  files = makeFiles(service, new EventStream(service, {}));
  render(<FileChooser files={files} />);
}

const some = (count: number): StoredObject[] =>
  Array.from({ length: count }, (_, n) => stored(`b/${String(n).padStart(6, "0")}.fna`));
const chosen = (): string[] => files.selection.view.files.map(({ path }) => path);
const item = (name: string | RegExp): Promise<HTMLElement> => screen.findByRole("treeitem", { name });
async function press(key: string, options: object = {}): Promise<void> {
  fireEvent.keyDown(document.activeElement ?? document.body, { key, ...options });
  await act(() => Promise.resolve());
}

it("chooses by click and by range, and only rows in sight are in the page", async () => {
  show(...some(2_000));
  fireEvent.click(await item(/000001/));
  fireEvent.click(await item(/000004/), { shiftKey: true });
  expect(chosen()).toEqual([1, 2, 3, 4].map((n) => `b/00000${n}.fna`));
  fireEvent.click(await item(/000002/));
  expect(chosen()).not.toContain("b/000002.fna");
  expect(await screen.findByText("3 files chosen · 3 MB")).toBeTruthy();
  expect(screen.getAllByRole("treeitem").length).toBeLessThan(60);
  expect((await item(/000004/)).getAttribute("aria-selected")).toBe("true");
});

it("is used by keys alone, with one tab stop", async () => {
  show(stored("b/a"), stored("b/b"), stored("b/c"), stored("b/in/x"));
  (await item(/^a/)).focus();
  await press("ArrowDown");
  await press(" ");
  expect(chosen()).toEqual(["b/b"]);
  await press("ArrowUp", { shiftKey: true });
  await press("ArrowDown", { shiftKey: true });
  await press("ArrowDown", { shiftKey: true });
  expect(chosen()).toEqual(["b/b", "b/c"]);
  await press("End");
  expect(document.activeElement?.textContent).toContain("in/");
  await press("ArrowRight");
  await item(/^x/);
  await press("ArrowRight");
  expect(document.activeElement?.textContent).toContain("x");
  expect(document.activeElement?.getAttribute("aria-level")).toBe("2");
  await press("ArrowLeft");
  expect(document.activeElement?.getAttribute("aria-expanded")).toBe("true");
  await press("ArrowLeft");
  expect(screen.queryByRole("treeitem", { name: /^x/ })).toBeNull();
  const tree = screen.getByRole("tree");
  expect(tree.querySelectorAll('[tabindex="0"]')).toHaveLength(1);
  await press("/");
  expect(document.activeElement).toBe(screen.getByRole("searchbox"));
});

it("opens by Enter, and closes a file by Escape", async () => {
  show(stored("b/a.txt"), stored("b/c.bin"), stored("b/in/x.txt"));
  const bytes = new TextEncoder().encode("first line");
  service.answers.set("files/content", { bytes, isWhole: true, header: () => null });
  (await item(/^a/)).focus();
  await press("Enter");
  expect(await screen.findByText("first line")).toBeTruthy();
  expect(chosen()).toEqual([]);
  await press("Escape");
  expect(screen.queryByRole("group", { name: "Preview of a.txt" })).toBeNull();
  await press("ArrowDown");
  await press("Enter");
  expect(screen.queryByRole("group", { name: /Preview/ })).toBeNull();
  fireEvent.click(within(await item(/^a/)).getByText("Look"));
  const preview = await screen.findByRole("group", { name: "Preview of a.txt" });
  within(preview).getByRole("button", { name: "Close" }).focus();
  await press("Escape");
  expect(screen.queryByRole("group", { name: /Preview/ })).toBeNull();
  expect(document.activeElement?.textContent).toContain("c.bin");
  await press("End");
  await press("Enter");
  expect(await item(/^x.txt/)).toBeTruthy();
  expect(files.browser.view.folder).toBe("b/in/");
});

it("chooses all that match a pattern", async () => {
  show(...some(1_500), stored("b/readme.txt"));
  await item(/000001/);
  fireEvent.change(screen.getByRole("searchbox"), { target: { value: "*.txt" } });
  const row = await item(/readme/);
  row.focus();
  await press("*");
  await screen.findByText("from b/*.txt");
  expect(chosen()).toEqual(["b/readme.txt"]);
  expect(screen.getByText("1,501 looked at: all there are")).toBeTruthy();
});

it("says that a job takes fewer files than are chosen", async () => {
  show(...some(10_500));
  await item(/000001/);
  fireEvent.click(screen.getByRole("button", { name: "Choose all in this folder" }));
  expect(await screen.findByText(/A job takes at most 10,000 files. Make 2 jobs\?/)).toBeTruthy();
});

it("computes missing checksums, and shows how far they are", async () => {
  show(stored("b/a", { checksum: "missing" }), stored("b/b"));
  expect((await item(/^b/)).textContent).toContain("has a checksum");
  fireEvent.click(await item(/^a/));
  service.answers.set("POST checksums", { id: "t" });
  service.answers.set("checksums/t", {
    id: "t",
    state: "running",
    files: [{ file: "b/a", etag: "e-b/a", state: "waiting" }],
  });
  fireEvent.click(await screen.findByRole("button", { name: "Compute it (1 MB)" }));
  expect(
    await screen.findByText(/Computing 1 checksum: 0 done, 0 B of 1 MB. It goes on if you close this./),
  ).toBeTruthy();
  expect((await item(/^a/)).textContent).toContain("its checksum is being computed");
});

it("says what changed since it was chosen, and takes it as it is now", async () => {
  const objects = [stored("b/a"), stored("b/b")];
  const bucket = new Bucket(objects);
  service.answers.set("files", bucket.list);
  show();
  fireEvent.click(await item(/^a/));
  bucket.replace("b/a", { etag: "other", crc64nvme: "other" });
  fireEvent.click(screen.getByRole("button", { name: "Look again" }));
  expect(await screen.findByText(/1 changed since it was chosen: b\/a/)).toBeTruthy();
  fireEvent.click(screen.getByRole("button", { name: "Take as now" }));
  expect(screen.queryByText(/changed since it was chosen/)).toBeNull();
});

it("shows names as text", async () => {
  show(stored(`b/${EVIL}`, { checksum: "missing" }), stored(`b/${EVIL}/in`));
  fireEvent.click(await item(new RegExp("^<img .*has no checksum")));
  expect(await screen.findByTitle(`b/${EVIL}/`)).toBeTruthy();
  expect(document.querySelector("img")).toBeNull();
  expect((window as { hacked?: number }).hacked).toBeUndefined();
});

it.each([
  ["an empty folder", [], "This folder is empty."],
  [
    "a folder that may not be read",
    new ServiceError(403, "Not your folder"),
    "Not your folder. You may look into: b/",
  ],
  [
    "an outage",
    new ServiceError(0, "The Jupyter server cannot be reached"),
    "The Jupyter server cannot be reached. You may look into: b/",
  ],
])("says what is the matter with %s", async (_, answer, text) => {
  if (answer instanceof Error) service.answers.set("files", answer);
  show();
  expect(await screen.findByText(text)).toBeTruthy();
});

it("says that nothing matches", async () => {
  show(stored("b/a"));
  await item(/^a/);
  fireEvent.change(screen.getByRole("searchbox"), { target: { value: "*.gz" } });
  expect(await screen.findByText("Nothing here that matches *.gz.")).toBeTruthy();
});

it("asks for a folder where an older service tells none, and says what that one lacks", async () => {
  for (const path of ["/files/roots", "/files match", "/files/summary", "/checksums"])
    service.lacks.add(path);
  show(stored("b/in/a", { checksum: "missing" }));
  const box = await screen.findByLabelText("Folder to look into");
  fireEvent.change(box, { target: { value: "/b/in" } });
  fireEvent.keyDown(box, { key: "Enter" });
  fireEvent.click(await item(/^a/));
  expect(screen.getByText(/This service does not search its files/)).toBeTruthy();
  expect(await screen.findByText(/This service does not compute checksums in the background/)).toBeTruthy();
  expect(screen.queryByRole("searchbox")).toBeNull();
});

it("removes a file from the chosen ones by its button and by key", async () => {
  show(stored("b/a"), stored("b/b"));
  fireEvent.click(await item(/^a/));
  fireEvent.click(await item(/^b/));
  const list = within(screen.getByRole("list"));
  fireEvent.click(list.getByRole("button", { name: "Remove b/a" }));
  expect(chosen()).toEqual(["b/b"]);
  list.getByRole("button", { name: "Remove b/b" }).focus();
  await press("Delete");
  expect(chosen()).toEqual([]);
});

it("leaves the focus to the row that comes in the place of a removed one", async () => {
  show(stored("b/a"), stored("b/b"), stored("b/c"));
  for (const name of [/^a/, /^b/, /^c/]) fireEvent.click(await item(name));
  const button = (name: string): HTMLElement =>
    within(screen.getByRole("list")).getByRole("button", { name: `Remove ${name}` });
  button("b/a").focus();
  await press("ArrowDown");
  await press("Delete");
  expect(document.activeElement).toBe(button("b/c"));
  await press("Delete");
  expect(document.activeElement).toBe(button("b/a"));
});

it("has no serious fault of accessibility", async () => {
  show(stored("b/a", { checksum: "missing" }), stored("b/in/x"), stored("b/z"));
  fireEvent.click(await item(/^a/));
  await screen.findByRole("button", { name: /Compute it/ });
  const { violations } = await axe.run(document.body, {
    rules: { "color-contrast": { enabled: false }, region: { enabled: false } },
  });
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)).toEqual([]);
  cleanup();
  vi.restoreAllMocks();
});

it("ends a search once nobody looks", async () => {
  const stop = vi.fn();
  show(...some(1));
  await item(/000000/);
  files.browser.stop = stop;
  cleanup();
  expect(stop).toHaveBeenCalled();
});
