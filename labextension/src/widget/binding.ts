// Keeps a form and the traits of its widget in the kernel the same, whichever of the two is changed.

import { type Entry, digestOf, keyOf } from "../rules/digest";
import type { Submission } from "../api/types";
import { type Draft, EMPTY_DRAFT, toDraft, toSubmission } from "../rules/spec";
import { type Channel, sendTo } from "../service/kernel";
import { newKey } from "../service/key";
import { type DraftStore, type DraftView, isFrozen } from "../store/draft";

/** What anywidget hands to a view. */
export interface Model extends Channel {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, callback: (content: unknown, buffers: readonly DataView[]) => void): void;
  off(event: string, callback: (content: unknown, buffers: readonly DataView[]) => void): void;
}

/** A person who types is left to finish a word. */
const TYPING_MS = 150;

interface FilesMessage {
  cts: "files";
  files: Entry[];
}

/** Returns what ends it; the answer to a submission that is on its way is told before. */
export function bind(model: Model, draft: DraftStore): () => void {
  // What both sides have, as far as this side knows.
  let spec = "";
  let files: Entry[] = [];
  let digest = digestOf([]);
  let checked = model.get("checked");
  let timer: ReturnType<typeof setTimeout> | undefined;
  // The key of a submission that another page, or this one before it was loaded again, sent and had no answer to.
  const kept = model.get("_sent_key");
  // A kernel of an older version keeps none.
  let pending = typeof kept === "string" ? kept : "";
  // The job that this page made by a seed: the kernel may be too busy to give another one.
  let made = { seed: "", jobId: "" };
  let isSending = false;
  // The files of the job that is shown.
  let submitted = "";

  /** Begins anew where there is a job: the notebook wants another. */
  const take = (changes: Partial<Draft>): void => {
    if (isFrozen(draft.view.sent)) draft.reset({ ...draft.view.draft, ...changes });
    else draft.change(changes);
  };
  const readSpec = (): void => {
    const given = model.get("_spec") as Partial<Submission>;
    if (JSON.stringify(given) === spec) return;
    spec = JSON.stringify(given);
    const base = toSubmission(EMPTY_DRAFT);
    const params = { ...base.params, ...given.params };
    const { files: paths, details } = draft.view.draft;
    take({ ...toDraft({ ...base, ...given, params }), files: paths, details });
  };
  const readFiles = (entries: Entry[]): void => {
    const next = digestOf(entries.map(keyOf));
    // All pages of a kernel hear what it answers to one of them; and what it had before this page changed it.
    if (next === digest || next !== model.get("_digest")) return;
    files = entries;
    digest = next;
    const { files: paths, details } = toDraft({ input_files: entries as Submission["input_files"] });
    const { sent } = draft.view;
    if (sent.phase === "done" && digest === submitted) {
      draft.restore({ draft: { ...draft.view.draft, files: paths, details }, jobId: sent.jobId });
    } else take({ files: paths, details });
    readKey();
  };
  const readKey = (): void => {
    // Its files come after the rest.
    if (!pending || model.get("_digest") !== digest) return;
    if (draft.view.sent.phase === "ready") {
      draft.restore({ draft: draft.view.draft, key: pending, isSent: true });
    }
    pending = "";
  };
  const readDigest = (): void => {
    if (model.get("_digest") !== digest) sendTo(model, { cts: "files?" });
  };
  const readJob = (): void => {
    const id = model.get("_job_id");
    const { sent } = draft.view;
    if (typeof id === "string" && id && !(sent.phase === "done" && sent.jobId === id)) {
      submitted = String(model.get("_digest"));
      draft.restore({ draft: draft.view.draft, jobId: id });
    }
  };
  const readChecked = (): void => {
    // Not what this side said itself of a draft that changes.
    if (model.get("checked") === null && checked !== null) draft.checkNow();
    checked = model.get("checked");
  };

  const send = (isWhole: boolean): void => {
    const { input_files: now, ...rest } = toSubmission(draft.view.draft);
    const text = JSON.stringify(rest);
    if (text !== spec) {
      spec = text;
      model.set("_spec", JSON.parse(text));
    }
    sendFiles(now, isWhole);
    checked = checkedOf(draft.view);
    model.set("checked", checked);
    const { sent } = draft.view;
    const { key = "", isSent } = draft.saved;
    model.set("_sent_key", isSent ? key : pending);
    model.set("_job_id", sent.phase === "done" ? sent.jobId : "");
    model.save_changes();
  };
  const sendFiles = (now: Entry[], isWhole: boolean): void => {
    const keys = now.map(keyOf);
    const next = digestOf(keys);
    if (next === digest && !isWhole) return;
    const before = new Set(isWhole ? [] : files.map(keyOf));
    const after = new Set(keys);
    sendTo(model, {
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

  const heard = {
    "change:_spec": readSpec,
    "change:_digest": readDigest,
    "change:_job_id": readJob,
    "change:checked": readChecked,
    "msg:custom": (content: unknown): void => {
      const message = content as FilesMessage | { cts: "files?" | "piece" };
      if (message.cts === "files?") send(true);
      else if (message.cts === "files") readFiles(message.files);
    },
  };
  for (const [event, callback] of Object.entries(heard)) model.on(event, callback);
  readSpec();
  readDigest();
  readJob();
  readKey();
  draft.keyFor = (text) => {
    const seed = model.get("_seed");
    // A kernel of an older version has none.
    if (typeof seed !== "string" || !seed) return newKey();
    if (seed !== made.seed) made = { seed, jobId: "" };
    return `${seed}-${digestOf([text, made.jobId])}`;
  };
  draft.keep = () => {
    send(false);
    return Promise.resolve();
  };
  let isEnding = false;
  const end = (): void => {
    isEnding = true;
    if (draft.view.sent.phase === "sending") return;
    unwatch();
    for (const [event, callback] of Object.entries(heard)) model.off(event, callback);
    // What was typed last.
    if (timer !== undefined) tell();
  };
  const tell = (): void => {
    clearTimeout(timer);
    timer = undefined;
    send(false);
  };
  const unwatch = draft.watch(() => {
    const { sent } = draft.view;
    if (isSending && sent.phase === "done") made.jobId = sent.jobId;
    isSending = sent.phase === "sending";
    clearTimeout(timer);
    timer = setTimeout(tell, TYPING_MS);
    if (isEnding) end();
  });
  return end;
}

/** Whether the service found nothing wrong with it; null as long as it was not asked. */
function checkedOf({ check, faults }: DraftView): boolean | null {
  return check.phase === "done" ? faults.length === 0 : null;
}
