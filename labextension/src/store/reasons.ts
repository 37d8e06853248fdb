// Why the failed jobs of a list failed: asked for each that comes into sight, once.

import type { JobPreview, Why } from "../api/types";
import type { Translator } from "../rules/translator";
import { number } from "../rules/words";
import { asServiceError } from "../service/errors";
import type { IService } from "../service/port";
import { Recent } from "./recent";

export const MAX_REASONS = 1_000;

export class Reasons {
  private readonly known = new Recent<string, Why | null>(MAX_REASONS);
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

  /** Asks why a job failed, unless it has asked before. */
  want({ id }: JobPreview): void {
    if (this.known.get(id) !== undefined) return;
    this.known.set(id, null);
    void this.load(id);
  }

  private async load(id: string): Promise<void> {
    try {
      this.known.set(id, await this.service.get<Why>(`jobs/${encodeURIComponent(id)}/why`));
      for (const callback of [...this.callbacks]) callback();
    } catch (error) {
      // The job's own error says it, less well.
      asServiceError(error);
    }
  }
}
