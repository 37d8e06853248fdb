// Tells of jobs that end: each by itself, or many within a short time as one.

import type { JobPreview } from "../api/types";
import { formatProgress, formatState, hasEnded } from "../rules/words";
import type { Translator } from "../rules/translator";
import { asServiceError } from "../service/errors";
import type { IService } from "../service/port";
import type { StreamListener, Transition } from "../service/stream";
import { Later } from "./later";
import { Recent } from "./recent";

/** Jobs that end within this time are told of together. */
const TOGETHER_MS = 10_000;
/** More than this many are told of by their number. */
const MAX_EACH = 3;
const MAX_SEEN = 1_000;

export interface End {
  text: string;
  /** The job, if it is one. */
  id: string | null;
  isFailure: boolean;
}

export class Ends implements StreamListener {
  /** Who waits for an end looks at something else. */
  readonly needsHidden = true;
  private readonly seen = new Recent<string, true>(MAX_SEEN);
  private pending: Transition[] = [];
  private told = 0;
  private readonly telling = new Later();

  constructor(
    private readonly service: IService,
    private readonly tr: Translator,
    private readonly tell: (end: End) => void,
  ) {}

  onTransition(event: Transition): void {
    // A stream that resumes tells some events again.
    if (!hasEnded(event.state) || this.seen.get(event.trans_id)) return;
    this.seen.set(event.trans_id, true);
    this.telling.once(() => {
      this.tellOthers();
    }, TOGETHER_MS);
    if (this.told < MAX_EACH) {
      this.told += 1;
      void this.tellOne(event);
    } else this.pending.push(event);
  }

  onProgress(): void {
    // It has not ended.
  }

  onGap(): void {
    // What ended meanwhile is told by the list of jobs.
  }

  onStatus(): void {
    // Nothing ends by it.
  }

  private async tellOne({ job_id: id, state }: Transition): Promise<void> {
    const words = formatState(state, this.tr);
    const isFailure = state === "error";
    try {
      const job = await this.service.get<JobPreview>(`jobs/${encodeURIComponent(id)}`, { files: false });
      const total = job.job_input.num_containers;
      const done =
        state === "complete" ? formatProgress(total, { complete: total }, this.tr) : (job.error ?? "");
      this.tell({
        text: [`${job.job_input.image}: ${words}`, done].filter(Boolean).join(". "),
        id,
        isFailure,
      });
    } catch (error) {
      asServiceError(error);
      this.tell({ text: this.tr.__("A job ended: %1", words), id, isFailure });
    }
  }

  private tellOthers(): void {
    const count = this.pending.length;
    const isFailure = this.pending.some(({ state }) => state === "error");
    this.pending = [];
    this.told = 0;
    if (count) {
      this.tell({
        text: this.tr._n("%1 other job ended", "%1 other jobs ended", count),
        id: null,
        isFailure,
      });
    }
  }
}
