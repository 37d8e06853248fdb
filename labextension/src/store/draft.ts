// The draft of a job that a form shows: changed by a person or a notebook, checked as it changes, and submitted once.

import type { DraftCheck, Job, Problem, Submitted } from "../api/types";
import { type Beginning, suggestFolder } from "../rules/folders";
import {
  type CheckFacts,
  type Fault,
  MAX_FILES,
  faultsOf,
  problemsOf,
  toChecked,
  withProblems,
} from "../rules/problems";
import { type Draft, EMPTY_DRAFT, toDraft, toSubmission } from "../rules/spec";
import { ServiceError, asServiceError } from "../service/errors";
import { newKey } from "../service/key";
import type { IService } from "../service/port";
import { type Catalogue, EMPTY_CATALOGUE, loadCatalogue } from "./catalogue";
import { Observable } from "./observable";

/** How long after the last change a draft is checked, in ms. */
export const CHECK_MS = 600;
/** How long until a service that could not be reached is asked again, in ms. */
export const RETRY_MS = 5_000;
/** How long a submission waits for the form to be kept, in ms. */
const KEEP_MS = 2_000;
/** How old a catalogue is at least before it is read again, in ms. */
export const REFRESH_MS = 60_000;

/** How far a submission is. */
export type Sent =
  | { readonly phase: "ready" }
  | { readonly phase: "sending" }
  /** No answer came: the job may have been submitted, and asking again makes no second one. */
  | { readonly phase: "lost"; readonly error: ServiceError }
  | { readonly phase: "refused"; readonly error: ServiceError }
  | { readonly phase: "done"; readonly jobId: string; readonly wasLost: boolean };

/** What the service says of a draft. */
export interface Check {
  /** "missing": this service cannot check; "waiting": too little is filled in. */
  readonly phase: "waiting" | "running" | "done" | "failed" | "missing";
  /** Of the latest answer. */
  readonly problems: readonly Problem[];
  readonly facts: CheckFacts | null;
  readonly error: ServiceError | null;
}

/** A form as it is known; a new object at each change. */
export interface DraftView {
  readonly draft: Draft;
  /** What was filled in before it was begun anew. */
  readonly previous: Draft | null;
  /** What is wrong with it, with what the service found at the latest check. */
  readonly faults: readonly Fault[];
  readonly catalogue: Catalogue;
  readonly isLoading: boolean;
  /** Why the catalogue is not whole. */
  readonly lacking: ServiceError | null;
  readonly check: Check;
  readonly sent: Sent;
  /** Why the service could not be reached, or failed; it is asked again. */
  readonly away: ServiceError | null;
}

export interface SavedForm {
  readonly draft: Draft;
  /** Of a submission that was sent. */
  readonly key?: string;
  /** It had no answer yet. */
  readonly isSent?: boolean;
  readonly jobId?: string;
}

/** Returns a form that was kept, if it is one of this version. */
export function readSaved(saved: unknown): SavedForm | null {
  const { draft, key, isSent, jobId } = (saved ?? {}) as Record<string, unknown>;
  if (typeof draft !== "object" || draft === null) return null;
  const given = draft as Record<string, unknown>;
  const isSame = Object.entries(EMPTY_DRAFT).every(
    ([name, value]) =>
      typeof given[name] === typeof value && Array.isArray(given[name]) === Array.isArray(value),
  );
  if (!isSame) return null;
  return {
    draft: draft as Draft,
    ...(typeof key === "string" && { key }),
    ...(isSent === true && { isSent }),
    ...(typeof jobId === "string" && { jobId }),
  };
}

const READY: Sent = { phase: "ready" };
const UNCHECKED: Check = { phase: "waiting", problems: [], facts: null, error: null };

/** Asks the service while it is watched. */
export class DraftStore extends Observable<DraftView> {
  /** The submission that was sent last, and the key that makes it the same one if it is sent again. */
  private request: { text: string; key: string } | null = null;
  /** The output folder that was suggested last; one that a person wrote is left alone. */
  private suggested = "";
  private begun = beginNow();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private isChecking = false;
  private isStale = false;
  private isReading = false;
  private isOutdated = false;
  private loaded = 0;
  /** Counts what the draft was before: an answer to an older one changes nothing. */
  private generation = 0;
  /** Keeps what is `saved`, before it is submitted. */
  keep: () => Promise<unknown> = () => Promise.resolve();
  /** The key of a submission that was not sent yet: pages that give the same one to a text make one job of it. */
  keyFor: (text: string) => string = newKey;

  constructor(
    readonly service: IService,
    draft: Draft = EMPTY_DRAFT,
  ) {
    super({
      draft,
      previous: null,
      faults: faultsOf(draft, [], service.tr),
      catalogue: EMPTY_CATALOGUE,
      isLoading: true,
      lacking: null,
      check: UNCHECKED,
      sent: READY,
      away: null,
    });
  }

  protected override onWatched(): void {
    void this.load();
  }

  protected override onUnwatched(): void {
    clearTimeout(this.timer);
    clearTimeout(this.retry);
  }

  /** Changes the draft, unless it is being submitted. */
  change(changes: Partial<Draft>): void {
    if (isFrozen(this.view.sent)) return;
    this.generation += 1;
    // What was found stays at its fields until the next check.
    const check: Check = { ...this.view.check, phase: "waiting" };
    this.set({ draft: this.fill({ ...this.view.draft, ...changes }), sent: READY, check });
    this.later(CHECK_MS);
  }

  /** Begins anew, unless the draft is being submitted. */
  reset(draft: Draft = EMPTY_DRAFT): void {
    const { sent, draft: old } = this.view;
    if (sent.phase === "sending") return;
    const filled = old.outputDir === this.suggested ? { ...old, outputDir: "" } : old;
    const isEmpty = JSON.stringify({ ...filled, site: "" }) === JSON.stringify(EMPTY_DRAFT);
    this.begin(draft, READY, sent.phase === "done" || isEmpty ? null : filled);
    this.later(0);
  }

  /** Brings back what was filled in before it was begun anew. */
  undo(): void {
    if (this.view.previous) this.reset(this.view.previous);
  }

  /** Begins anew with the same draft, and another output folder. */
  another(): void {
    this.reset({ ...this.view.draft, outputDir: "" });
    void this.load();
  }

  /**
   * Begins with what a job was submitted with, and an output folder of its own, unless the draft was changed meanwhile.
   * Rejects with ServiceError.
   */
  async startFrom(id: string): Promise<void> {
    if (this.view.sent.phase === "sending") return;
    const generation = (this.generation += 1);
    const job = await this.service.get<Job>(`jobs/${encodeURIComponent(id)}`);
    if (generation !== this.generation) return;
    const { input_files: files, ...rest } = job.job_input;
    // A new job takes the inputs as they are now, whatever they were then.
    const now = files.map((one) => {
      if (typeof one === "string") return { file: one };
      const { file, data_id } = one;
      return data_id === undefined ? { file } : { file, data_id };
    });
    const draft = toDraft({ ...rest, input_files: now, labels: job.labels ?? {} });
    this.reset({ ...draft, outputDir: "" });
  }

  /** What a page keeps of the form, so that it is there again after a reload. */
  get saved(): SavedForm {
    const { draft, sent } = this.view;
    const isSent = sent.phase === "sending" || sent.phase === "lost";
    return {
      // Of more files than a job may have none are kept, which are not submitted either.
      draft: isSent || draft.files.length <= MAX_FILES ? draft : { ...draft, files: [], details: {} },
      ...(this.request && { key: this.request.key }),
      ...(isSent && { isSent }),
      ...(sent.phase === "done" && { jobId: sent.jobId }),
    };
  }

  /** Goes on with a form that was kept. */
  restore({ draft, key, isSent, jobId }: SavedForm): void {
    const error = new ServiceError(0, this.service.tr.__("The page was closed before the answer came"));
    if (jobId !== undefined) this.begin(draft, { phase: "done", jobId, wasLost: false });
    else this.begin(draft, key !== undefined && isSent ? { phase: "lost", error } : READY);
    // If its answer was lost with the page, the same submission is still the same job.
    if (key !== undefined) this.request = { text: JSON.stringify(toSubmission(draft)), key };
    this.later(0);
  }

  /** Checks the draft now, whatever it was refused for before. */
  checkNow(): void {
    if (this.view.sent.phase === "refused") this.set({ sent: READY });
    if (this.view.lacking) void this.load();
    else this.later(0);
  }

  /** Submits the draft; a second call, or one after a lost answer, makes no second job. */
  async submit(): Promise<void> {
    const { sent, draft } = this.view;
    if (sent.phase === "sending" || sent.phase === "done") return;
    const wasLost = sent.phase === "lost";
    const submission = toSubmission(draft);
    const text = JSON.stringify(submission);
    if (this.request?.text !== text) this.request = { text, key: this.keyFor(text) };
    const { key } = this.request;
    const generation = (this.generation += 1);
    this.set({ sent: { phase: "sending" } });
    // A page that is closed before the answer comes asks again for the same job. Without that, it is submitted too.
    const patience = new Promise((resolve) => setTimeout(resolve, KEEP_MS));
    await Promise.race([this.keep(), patience]).catch(() => undefined);
    const answer = await this.post(submission, key, wasLost);
    if (generation === this.generation) this.set({ sent: answer });
  }

  private async post(submission: object, key: string, wasLost: boolean): Promise<Sent> {
    try {
      const { job_id: jobId } = await this.service.post<Submitted>("jobs", submission, key);
      return { phase: "done", jobId, wasLost };
    } catch (caught) {
      // Whatever else went wrong, the job may be there.
      const error =
        caught instanceof ServiceError
          ? caught
          : new ServiceError(0, this.service.tr.__("The answer was cut off"));
      return { phase: error.isOffline ? "lost" : "refused", error };
    }
  }

  /** Lets the draft be changed although its submission had no answer. */
  giveUp(): void {
    if (this.view.sent.phase === "lost") this.set({ sent: READY });
  }

  private begin(draft: Draft, sent: Sent, previous: Draft | null = null): void {
    this.generation += 1;
    this.request = null;
    this.suggested = "";
    this.begun = beginNow();
    this.set({ draft: this.fill(draft), previous, sent, check: UNCHECKED });
  }

  /** The draft with what follows from it and the catalogue, where a person chose nothing else. */
  private fill(draft: Draft): Draft {
    const { sites, jobs } = this.view.catalogue;
    const open = sites.filter(({ active, available }) => active && available).map(({ cluster }) => cluster);
    const site = draft.site || (open.find((name) => name === jobs[0]?.job_input.cluster) ?? open[0] ?? "");
    if (draft.outputDir !== this.suggested) return { ...draft, site };
    this.suggested = suggestFolder(draft.image, draft.files, this.view.catalogue, this.begun);
    return { ...draft, site, outputDir: this.suggested };
  }

  /** Reads the catalogue anew, unless that was done less than so many milliseconds ago. */
  refresh(recent = REFRESH_MS): void {
    if (Date.now() - this.loaded < recent) return;
    // What is being read may be from before.
    this.isOutdated = this.isReading;
    void this.load();
  }

  private async load(): Promise<void> {
    if (this.isReading || !this.isWatched) return;
    this.isReading = true;
    try {
      const { catalogue, error, isAway } = await loadCatalogue(this.service, this.view.catalogue);
      this.loaded = Date.now();
      this.set({ catalogue, lacking: error });
      if (!isFrozen(this.view.sent)) this.set({ draft: this.fill(this.view.draft) });
      if (error && isAway) {
        this.failed(error);
        return;
      }
      this.set({ isLoading: false, away: null });
      this.later(0);
    } finally {
      this.isReading = false;
      if (this.isOutdated) {
        this.isOutdated = false;
        void this.load();
      }
    }
  }

  private later(ms: number): void {
    clearTimeout(this.timer);
    if (!this.isWatched) return;
    this.timer = setTimeout(() => void this.check(), ms);
  }

  private failed(error: ServiceError): void {
    const away = error.isOffline ? error : null;
    this.set({ check: { ...this.view.check, phase: "failed", error }, away });
    clearTimeout(this.retry);
    if (!away || !this.isWatched) return;
    this.retry = setTimeout(() => void (this.view.lacking ? this.load() : this.check()), RETRY_MS);
  }

  private async check(): Promise<void> {
    const { draft, catalogue, sent } = this.view;
    if (isFrozen(sent)) return;
    if (this.isChecking) {
      this.isStale = true;
      return;
    }
    const submission = toChecked(draft, faultsOf(draft, catalogue.sites, this.service.tr));
    if (!submission) {
      this.set({ check: UNCHECKED });
      return;
    }
    this.isChecking = true;
    this.set({ check: { ...this.view.check, phase: "running" } });
    try {
      const check = await this.ask(submission);
      // It says nothing of a draft that was changed meanwhile.
      const phase = this.view.draft === draft ? check.phase : "waiting";
      this.set({ check: { ...check, phase }, away: null });
    } catch (error) {
      this.failed(asServiceError(error));
    } finally {
      this.isChecking = false;
      if (this.isStale) this.later(0);
      this.isStale = false;
    }
  }

  private async ask(submission: object): Promise<Check> {
    if (!(await this.service.knows("POST", "/jobs/check", "all"))) return { ...UNCHECKED, phase: "missing" };
    try {
      const path = "jobs/check?all=true&containers=0";
      const { problems, ...facts } = await this.service.post<DraftCheck>(path, submission);
      return { phase: "done", problems, facts, error: null };
    } catch (caught) {
      const error = asServiceError(caught);
      const details = error.detail.request_validation_detail;
      if (!details) throw error;
      return { phase: "done", problems: problemsOf(details), facts: null, error: null };
    }
  }

  protected override set(changes: Partial<DraftView>): void {
    super.set({ ...changes, faults: this.judge({ ...this.view, ...changes }) });
  }

  private judge({ draft, catalogue, check, sent }: DraftView): readonly Fault[] {
    const refused = sent.phase === "refused" ? (sent.error.detail.request_validation_detail ?? []) : [];
    const found = [...check.problems, ...problemsOf(refused)];
    return withProblems(faultsOf(draft, catalogue.sites, this.service.tr), found);
  }
}

function beginNow(): Beginning {
  return { time: new Date(), mark: newKey().slice(0, 4) };
}

/** Whether the draft may not be changed, as it is or may be a job already. */
export function isFrozen({ phase }: Sent): boolean {
  return phase === "sending" || phase === "lost" || phase === "done";
}
