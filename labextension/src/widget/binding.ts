// Keeps a form and the traits of its widget in the kernel the same, whichever of the two is changed.

import { type Entry, digestOf, keyOf } from "../rules/digest";
import type { Submission } from "../api/types";
import { EMPTY_DRAFT, toDraft, toSubmission } from "../rules/spec";
import type { Channel } from "../service/kernel";
import { type DraftStore, type DraftView, isFrozen } from "../store/draft";

/** What anywidget hands to a view. */
export interface Model extends Channel {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: "msg:custom", callback: (content: unknown, buffers: readonly DataView[]) => void): void;
  on(event: `change:${string}`, callback: () => void): void;
}

/** A person who types is left to finish a word. */
const TYPING_MS = 150;

interface FilesMessage {
  cts: "files";
  files: Entry[];
}

export function bind(model: Model, draft: DraftStore): void {
  // What both sides have, as far as this side knows.
  let spec = "";
  let files: Entry[] = [];
  let digest = digestOf([]);
  let timer: ReturnType<typeof setTimeout> | undefined;

  const take = (given: Partial<Submission>, inputs: Entry[]): void => {
    const base = toSubmission(EMPTY_DRAFT);
    const params = { ...base.params, ...given.params };
    const next = toDraft({ ...base, ...given, params, input_files: inputs as Submission["input_files"] });
    if (isFrozen(draft.view.sent)) draft.reset(next);
    else draft.change(next);
  };
  const readSpec = (): void => {
    const given = model.get("_spec");
    if (JSON.stringify(given) === spec) return;
    spec = JSON.stringify(given);
    take(given as Partial<Submission>, files);
  };
  const readDigest = (): void => {
    if (model.get("_digest") !== digest) model.send({ cts: "files?" });
  };
  const readJob = (): void => {
    const id = model.get("_job_id");
    const { sent } = draft.view;
    if (typeof id === "string" && id && !(sent.phase === "done" && sent.jobId === id)) {
      draft.restore({ draft: draft.view.draft, jobId: id });
    }
  };
  const readChecked = (): void => {
    if (model.get("checked") === null) draft.checkNow();
  };

  const send = (isWhole: boolean): void => {
    const { input_files: now, ...rest } = toSubmission(draft.view.draft);
    const text = JSON.stringify(rest);
    if (text !== spec) {
      spec = text;
      model.set("_spec", JSON.parse(text));
    }
    sendFiles(now, isWhole);
    const { phase } = draft.view.check;
    if (phase === "done" || phase === "waiting") model.set("checked", checkedOf(draft.view));
    const { sent } = draft.view;
    model.set("_job_id", sent.phase === "done" ? sent.jobId : "");
    model.save_changes();
  };
  const sendFiles = (now: Entry[], isWhole: boolean): void => {
    const keys = now.map(keyOf);
    const next = digestOf(keys);
    if (next === digest && !isWhole) return;
    const before = new Set(isWhole ? [] : files.map(keyOf));
    const after = new Set(keys);
    model.send({
      cts: "files",
      base: isWhole ? digestOf([]) : digest,
      digest: next,
      removed: [...before].filter((key) => !after.has(key)),
      added: now.filter((entry) => !before.has(keyOf(entry))),
    });
    files = now;
    digest = next;
    model.set("_digest", digest);
  };

  model.on("change:_spec", readSpec);
  model.on("change:_digest", readDigest);
  model.on("change:_job_id", readJob);
  model.on("change:checked", readChecked);
  model.on("msg:custom", (content) => {
    const message = content as FilesMessage | { cts: "files?" | "piece" };
    if (message.cts === "files?") send(true);
    else if (message.cts === "files") {
      files = message.files;
      digest = digestOf(files.map(keyOf));
      take(JSON.parse(spec) as Partial<Submission>, files);
    }
  });
  readSpec();
  readDigest();
  readJob();
  draft.watch(() => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      send(false);
    }, TYPING_MS);
  });
}

/** Whether the service found nothing wrong with it; null as long as it was not asked. */
function checkedOf({ check, faults }: DraftView): boolean | null {
  return check.phase === "done" ? faults.length === 0 : null;
}
