// The draft of a job that a form shows: changed by a person or a notebook, and submitted once.

import type { Job, Submitted } from "../api/types";
import { type Draft, EMPTY_DRAFT, toDraft, toSubmission } from "../rules/spec";
import { type ServiceError, asServiceError } from "../service/errors";
import { newKey } from "../service/key";
import type { IService } from "../service/port";

/** How far a submission is. */
export type Sent =
  | { readonly phase: "ready" }
  | { readonly phase: "sending" }
  /** No answer came: the job may have been submitted, and asking again makes no second one. */
  | { readonly phase: "lost"; readonly error: ServiceError }
  | { readonly phase: "refused"; readonly error: ServiceError }
  | { readonly phase: "done"; readonly jobId: string; readonly wasLost: boolean };

/** A form as it is known; a new object at each change. */
export interface DraftView {
  readonly draft: Draft;
  readonly sent: Sent;
}

const READY: Sent = { phase: "ready" };

export class DraftStore {
  private state: DraftView;
  private readonly callbacks = new Set<() => void>();
  /** The submission that was sent last, and the key that makes it the same one if it is sent again. */
  private request: { text: string; key: string } | null = null;

  constructor(
    readonly service: IService,
    draft: Draft = EMPTY_DRAFT,
  ) {
    this.state = { draft, sent: READY };
  }

  get view(): DraftView {
    return this.state;
  }

  /** Calls back at each change; returns what ends it. */
  watch(callback: () => void): () => void {
    this.callbacks.add(callback);
    return () => this.callbacks.delete(callback);
  }

  /** Changes the draft, unless it is being submitted. */
  change(changes: Partial<Draft>): void {
    if (isFrozen(this.state.sent)) return;
    this.set({ draft: { ...this.state.draft, ...changes }, sent: READY });
  }

  /** Begins anew. */
  reset(draft: Draft = EMPTY_DRAFT): void {
    this.request = null;
    this.set({ draft, sent: READY });
  }

  /** Begins with what a job was submitted with. Rejects with ServiceError. */
  async startFrom(id: string): Promise<void> {
    const job = await this.service.get<Job>(`jobs/${encodeURIComponent(id)}`);
    const { input_files: files, ...rest } = job.job_input;
    // A new job takes the inputs as they are now, whatever they were then.
    const now = files.map((one) => {
      if (typeof one === "string") return { file: one };
      const { file, data_id } = one;
      return data_id === undefined ? { file } : { file, data_id };
    });
    this.reset(toDraft({ ...rest, input_files: now, labels: job.labels ?? {} }));
  }

  /** Submits the draft; a second call, or one after a lost answer, makes no second job. */
  async submit(): Promise<void> {
    const { sent, draft } = this.state;
    if (sent.phase === "sending" || sent.phase === "done") return;
    const wasLost = sent.phase === "lost";
    const submission = toSubmission(draft);
    const text = JSON.stringify(submission);
    if (this.request?.text !== text) this.request = { text, key: newKey() };
    this.set({ sent: { phase: "sending" } });
    try {
      const { job_id: jobId } = await this.service.post<Submitted>("jobs", submission, this.request.key);
      this.set({ sent: { phase: "done", jobId, wasLost } });
    } catch (error) {
      const failure = asServiceError(error);
      this.set({ sent: { phase: failure.isOffline ? "lost" : "refused", error: failure } });
    }
  }

  /** Lets the draft be changed although the last submission had no answer. */
  giveUp(): void {
    if (this.state.sent.phase === "lost") this.set({ sent: READY });
  }

  private set(changes: Partial<DraftView>): void {
    this.state = { ...this.state, ...changes };
    for (const callback of [...this.callbacks]) callback();
  }
}

/** Whether the draft may not be changed, as it is or may be a job already. */
export function isFrozen({ phase }: Sent): boolean {
  return phase === "sending" || phase === "lost" || phase === "done";
}
