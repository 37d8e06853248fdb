import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { digestOf, keyOf } from "../../src/rules/digest";
import { DraftStore } from "../../src/store/draft";
import { bind } from "../../src/widget/binding";
import { ScriptedService } from "../service/scripted";
import { FakeModel } from "./model";

let model: FakeModel;
let draft: DraftStore;
beforeEach(() => {
  vi.useFakeTimers();
  model = new FakeModel();
  draft = new DraftStore(new ScriptedService());
});
afterEach(() => {
  vi.useRealTimers();
});

const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(200);

it("fills in what the notebook gave, and tells what the form makes of it", async () => {
  model.traits["_spec"] = { image: "host/tool", params: { args: ["x"] }, memory: 2_000_000_000 };
  bind(model, draft);
  expect(draft.view.draft).toMatchObject({ image: "host/tool", memory: { amount: "2", unit: "GB" } });
  await settle();
  expect(model.traits["_spec"]).toMatchObject({ image: "host/tool", memory: 2_000_000_000, cpus: 1 });
  expect(model.traits["_spec"]).not.toHaveProperty("input_files");
});

it("takes what the notebook sets, and no echo of its own", async () => {
  bind(model, draft);
  model.change("_spec", { image: "host/other", params: {} });
  expect(draft.view.draft.image).toBe("host/other");
  await settle();
  const before = draft.view.draft;
  model.change("_spec", JSON.parse(JSON.stringify(model.traits["_spec"])));
  expect(draft.view.draft).toBe(before);
});

it("asks for files by their digest, and takes them with what is known of them", () => {
  bind(model, draft);
  const entries = ["b/1", { file: "b/2", data_id: "two" }];
  model.change("_digest", digestOf(entries.map(keyOf)));
  expect(model.sent).toEqual([{ cts: "files?" }]);
  model.tell({ cts: "files", files: entries });
  expect(draft.view.draft.files).toEqual(["b/1", "b/2"]);
  expect(draft.view.draft.details["b/2"]).toEqual({ data_id: "two" });
});

it("tells only which files were added and removed", async () => {
  bind(model, draft);
  draft.change({ files: ["b/1", "b/2"] });
  await settle();
  const first = digestOf(["b/1", "b/2"].map(keyOf));
  expect(model.traits["_digest"]).toBe(first);
  model.sent.length = 0;
  draft.change({ files: ["b/2", "b/3"] });
  await settle();
  expect(model.sent).toEqual([
    {
      cts: "files",
      base: first,
      digest: digestOf(["b/2", "b/3"].map(keyOf)),
      removed: [keyOf("b/1")],
      added: ["b/3"],
    },
  ]);
  model.tell({ cts: "files?" });
  expect(model.sent.at(-1)).toMatchObject({ base: digestOf([]), removed: [], added: ["b/2", "b/3"] });
});

it("shows a job that the notebook sets, and tells of one that was submitted", async () => {
  bind(model, draft);
  model.change("_job_id", "job-1");
  expect(draft.view.sent).toMatchObject({ phase: "done", jobId: "job-1" });
  await settle();
  expect(model.traits["_job_id"]).toBe("job-1");
  model.change("_spec", { image: "host/next", params: {} });
  expect(draft.view).toMatchObject({ sent: { phase: "ready" }, draft: { image: "host/next" } });
});

describe("a job that is there when a page is loaded", () => {
  const entries = [{ file: "b/1", data_id: "one" }];
  beforeEach(() => {
    model.traits["_spec"] = { image: "host/tool", params: {} };
    model.traits["_digest"] = digestOf(entries.map(keyOf));
    model.traits["_job_id"] = "job-1";
    bind(model, draft);
  });

  it("stays when its files come, and when another page asks for them", async () => {
    for (let times = 0; times < 2; times += 1) {
      model.tell({ cts: "files", files: entries });
      await settle();
      expect(draft.view.sent).toMatchObject({ phase: "done", jobId: "job-1" });
    }
    expect(draft.view.draft).toMatchObject({ image: "host/tool", files: ["b/1"] });
    expect(model.traits["_job_id"]).toBe("job-1");
  });

  it("makes room for a new one once the notebook chooses other files", () => {
    model.tell({ cts: "files", files: entries });
    model.change("_digest", digestOf([keyOf("b/2")]));
    model.tell({ cts: "files", files: ["b/2"] });
    expect(draft.view).toMatchObject({
      sent: { phase: "ready" },
      draft: { image: "host/tool", files: ["b/2"] },
    });
  });
});

it("keeps what is being typed when files come, and takes none that were changed since", () => {
  bind(model, draft);
  model.traits["_digest"] = digestOf([keyOf("b/1")]);
  draft.change({ image: "host/typed" });
  model.tell({ cts: "files", files: ["b/1"] });
  expect(draft.view.draft).toMatchObject({ image: "host/typed", files: ["b/1"] });
  model.tell({ cts: "files", files: ["b/old"] });
  expect(draft.view.draft.files).toEqual(["b/1"]);
});

it("says that a draft is not checked while it changes, and asks for no check itself by that", async () => {
  const check = vi.spyOn(draft, "checkNow");
  bind(model, draft);
  model.change("checked", true);
  draft.change({ image: "host/tool" });
  await settle();
  expect(model.traits["checked"]).toBeNull();
  model.change("checked", null);
  expect(check).not.toHaveBeenCalled();
  model.change("checked", true);
  model.change("checked", null);
  expect(check).toHaveBeenCalledOnce();
});

it("keeps the key of a submission before it is sent, and asks again by it after a reload", async () => {
  const service = new ScriptedService();
  let answer: (answered: object) => void = () => undefined;
  service.answers.set("POST jobs", () => new Promise((resolve) => (answer = resolve)));
  draft = new DraftStore(service);
  bind(model, draft);
  draft.change({ image: "host/tool", files: ["b/1"] });
  const submitted = draft.submit();
  const key = model.traits["_sent_key"];
  expect(key).toMatch(/^[0-9a-f]{32}$/);
  expect(model.traits["_digest"]).toBe(digestOf([keyOf("b/1")]));
  expect(service.posted).toEqual([]);
  await vi.advanceTimersByTimeAsync(0);

  // The same kernel, as a page that is loaded meanwhile finds it.
  const reloaded = new FakeModel();
  Object.assign(reloaded.traits, model.traits);
  const again = new DraftStore(service);
  bind(reloaded, again);
  await settle();
  expect([again.view.sent.phase, reloaded.traits["_sent_key"]]).toEqual(["ready", key]);
  reloaded.tell({ cts: "files", files: ["b/1"] });
  expect(again.view.sent.phase).toBe("lost");
  service.answers.set("POST jobs", { job_id: "1" });
  await again.submit();
  await settle();
  const [first, second] = service.posted.filter(({ path }) => path === "jobs");
  expect(second).toEqual(first);
  expect(reloaded.traits).toMatchObject({ _job_id: "1", _sent_key: "" });

  answer({ job_id: "1" });
  await submitted;
  await settle();
  expect(model.traits).toMatchObject({ _job_id: "1", _sent_key: "" });
});

it("makes one job of what two pages submit, and another of what a page submits again", async () => {
  const service = new ScriptedService();
  service.answers.set("POST jobs", { job_id: "1" });
  const pages = [new FakeModel(), new FakeModel()].map((one) => {
    Object.assign(one.traits, { _seed: "5eed", _spec: { image: "host/tool", params: {} } });
    const form = new DraftStore(service);
    bind(one, form);
    form.change({ files: ["b/1"], outputDir: "b/out/" });
    return form;
  });
  for (const form of pages) await form.submit();
  const keys = (): string[] =>
    service.posted.filter(({ path }) => path === "jobs").map(({ key }) => String(key));
  expect(new Set(keys()).size).toBe(1);
  // The kernel is too busy to hear of the job.
  pages[0]?.reset(pages[0].view.draft);
  await pages[0]?.submit();
  expect(keys()).toHaveLength(3);
  expect(new Set(keys()).size).toBe(2);
});

describe("a form that is closed", () => {
  it("tells what was typed last, and then neither hears nor tells anything", () => {
    const end = bind(model, draft);
    draft.change({ image: "host/typed" });
    end();
    expect(model.traits["_spec"]).toMatchObject({ image: "host/typed" });
    expect(model.listening).toBe(0);
    expect(draft.isWatched).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
    model.sent.length = 0;
    draft.change({ image: "host/later", files: ["b/1"] });
    expect(vi.getTimerCount()).toBe(0);
    expect(model.sent).toEqual([]);
  });

  it("tells of the job whose answer comes after that", async () => {
    const service = new ScriptedService();
    let answer: (answered: object) => void = () => undefined;
    service.answers.set("POST jobs", () => new Promise((resolve) => (answer = resolve)));
    draft = new DraftStore(service);
    const end = bind(model, draft);
    draft.change({ image: "host/tool", files: ["b/1"] });
    const submitted = draft.submit();
    await vi.advanceTimersByTimeAsync(0);
    end();
    answer({ job_id: "1" });
    await submitted;
    expect(model.traits["_job_id"]).toBe("1");
    expect(model.listening).toBe(0);
    expect(draft.isWatched).toBe(false);
  });
});
