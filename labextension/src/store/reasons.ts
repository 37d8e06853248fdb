// Why the failed jobs of a list failed: asked for those that are in sight, the latest first.

import type { JobPreview, Why } from "../api/types";
import type { Translator } from "../rules/translator";
import { number } from "../rules/words";
import { asServiceError, isAbort } from "../service/errors";
import type { IService } from "../service/port";
import { Recent } from "./recent";

export const MAX_REASONS = 1_000;
/** Requests at once. */
const PARALLEL = 2;

export class Reasons {
  private readonly known = new Recent<string, Why>(MAX_REASONS);
  /** The jobs in sight whose reasons are not asked for yet. */
  private readonly wanted = new Set<string>();
  private readonly asked = new Map<string, AbortController>();
  private readonly callbacks = new Set<() => void>();

  constructor(private readonly service: IService) {}

  /** Calls back when a reason has come; returns what ends it. */
  watch(callback: () => void): () => void {
    this.callbacks.add(callback);
    return () => this.callbacks.delete(callback);
  }

  /** The reason of most containers of a failed job; what the job itself says until that is known. */
  of(job: JobPreview, tr: Translator): string {
    const [largest] = this.known.get(job.id)?.reasons ?? [];
    if (!largest) return job.error ?? "";
    const why =
      largest.reason ??
      (largest.exit_code === undefined ? "" : tr.__("exit code %1", String(largest.exit_code)));
    const total = job.job_input.num_containers;
    const failed = largest.containers.length;
    if (!why) return job.error ?? "";
    if (total === 1 || !failed) return why;
    return tr.__("%1 of %2 failed: %3", number(failed), number(total), why);
  }

  /** Asks why a job that is in sight failed, unless that is known; returns what ends it. */
  want(id: string): () => void {
    if (this.known.get(id) === undefined && !this.asked.has(id)) {
      this.wanted.add(id);
      this.next();
    }
    return () => {
      this.wanted.delete(id);
      this.asked.get(id)?.abort();
      this.asked.delete(id);
      this.next();
    };
  }

  private next(): void {
    const latest = [...this.wanted].at(-1);
    if (latest === undefined || this.asked.size >= PARALLEL) return;
    this.wanted.delete(latest);
    void this.load(latest);
  }

  private async load(id: string): Promise<void> {
    const request = new AbortController();
    this.asked.set(id, request);
    try {
      const path = `jobs/${encodeURIComponent(id)}/why`;
      this.known.set(id, await this.service.get<Why>(path, {}, request.signal));
      for (const callback of [...this.callbacks]) callback();
    } catch (error) {
      // The job's own error says it, less well; one that comes into sight again is asked for again.
      if (!isAbort(error)) asServiceError(error);
    } finally {
      if (this.asked.get(id) === request) this.asked.delete(id);
      this.next();
    }
  }
}
