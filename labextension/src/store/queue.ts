// What live jobs wait for at their sites: asked while one of them is in sight.

import type { JobPreview, QueuedJob, SiteLoad } from "../api/types";
import type { Translator } from "../rules/translator";
import { formatCount, hasEnded, moodOf, shownState } from "../rules/words";
import { asServiceError } from "../service/errors";
import { once } from "../service/once";
import type { IService } from "../service/port";

/** How often a site is asked. */
export const QUEUE_MS = 30_000;
/** How long an answer does for a job that comes into sight, or into another state. */
const FRESH_MS = 5_000;

interface Site {
  readonly callbacks: Set<() => void>;
  load: SiteLoad | null;
  /** The user's own, by their ids. */
  jobs: ReadonlyMap<string, QueuedJob>;
  askedAt: number;
  timer: ReturnType<typeof setInterval> | undefined;
}

export class Queue {
  private readonly sites = new Map<string, Site>();
  private readonly isOffered = once(() => this.service.knows("GET", "/sites/{site}/load"));

  constructor(private readonly service: IService) {}

  /** Asks a site, and calls back at each answer; returns what ends it. */
  watch(name: string, callback: () => void): () => void {
    const site = this.sites.get(name) ?? {
      callbacks: new Set(),
      load: null,
      jobs: new Map(),
      askedAt: -Infinity,
      timer: undefined,
    };
    this.sites.set(name, site);
    site.callbacks.add(callback);
    site.timer ??= setInterval(() => void this.load(name, site), QUEUE_MS);
    if (Date.now() - site.askedAt >= FRESH_MS) void this.load(name, site);
    return () => {
      site.callbacks.delete(callback);
      if (site.callbacks.size) return;
      clearInterval(site.timer);
      site.timer = undefined;
    };
  }

  /** What a live job waits for, in words; empty if nothing is known. */
  of(job: JobPreview, tr: Translator): string {
    if (hasEnded(job.state)) return "";
    const site = job.job_input.cluster;
    const told = this.sites.get(site)?.jobs.get(job.id);
    // What was told of another state is over.
    if (told?.state !== job.state) return job.waits_for ?? "";
    if (told.waits_for !== undefined) return told.waits_for;
    const isWaiting = moodOf(shownState(job.state, job.containers ?? {})) === "waiting";
    if (told.ahead === undefined || !isWaiting) return "";
    return told.ahead
      ? tr.__("Waiting for its turn at %1: %2 before it", site, formatCount(told.ahead, "container", tr))
      : tr.__("Waiting for its turn at %1: it is next", site);
  }

  /** What waits and runs at a site, of everybody; null if it is not known. */
  loadOf(name: string): SiteLoad | null {
    return this.sites.get(name)?.load ?? null;
  }

  private async load(name: string, site: Site): Promise<void> {
    site.askedAt = Date.now();
    try {
      if (!(await this.isOffered())) return;
      site.load = await this.service.get<SiteLoad>(`sites/${encodeURIComponent(name)}/load`);
    } catch (error) {
      asServiceError(error);
      // What was told may not be true any more.
      site.load = null;
    }
    // An older service tells nothing of each.
    const { jobs = [] }: Partial<SiteLoad> = site.load ?? {};
    site.jobs = new Map(jobs.map((job) => [job.job_id, job]));
    for (const callback of [...site.callbacks]) callback();
  }
}
