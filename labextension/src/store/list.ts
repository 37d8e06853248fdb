// The user's jobs, or everybody's, as a list: found by the service, page by page, and kept by events.

import type { JobImage, JobPreview, Jobs } from "../api/types";
import { ALL, type Filter, isKept, toQuery } from "../rules/filter";
import { updatedAt } from "../rules/groups";
import { moveJob } from "../rules/transitions";
import { hasEnded } from "../rules/words";
import { type ServiceError, asServiceError } from "../service/errors";
import type { IService, Query } from "../service/port";
import type { EventStream, Progress, StreamListener, StreamStatus, Transition } from "../service/stream";
import { Later } from "./later";
import { Observable } from "./observable";

export const PAGE = 200;
/** Jobs that are asked for anew when something happened. */
const HEAD = 50;
/** Pages that are asked for besides them, until they reach jobs that were listed before. */
const MAX_PAGES = 4;
/** Jobs that are kept; the service finds older ones by a search. */
export const MAX_JOBS = 10_000;
const TYPING_MS = 250;
/** One request at most in so long, however fast events come. */
const EVENTS_MS = 500;
/** Everybody's jobs change all the time. */
const EVERYBODYS_EVENTS_MS = 5_000;
/** What a person types, letter by letter. */
const TYPED = ["text", "image", "label", "user"] as const;

export interface ListView {
  /** Whether it is of everybody's jobs, which admins alone may see. */
  readonly isEverybodys: boolean;
  /** Whether it is kept up to date. */
  readonly status: StreamStatus;
  readonly filter: Filter;
  readonly jobs: readonly JobPreview[];
  /** Jobs that ended since the user last looked, newest first. */
  readonly news: readonly JobPreview[];
  /** There are more of them. */
  readonly hasMoreNews: boolean;
  /** Loading the first page. */
  readonly isLoading: boolean;
  /** There are more. */
  readonly hasMore: boolean;
  /** A search covered the latest jobs alone. */
  readonly isCut: boolean;
  /** When the oldest of these was last updated; null where an older service does not say. */
  readonly searchedUntil: string | null;
  /** It ends here, though there are more. */
  readonly isFull: boolean;
  readonly error: ServiceError | null;
}

const EMPTY: Omit<ListView, "status"> = {
  isEverybodys: false,
  filter: ALL,
  jobs: [],
  news: [],
  hasMoreNews: false,
  isLoading: true,
  hasMore: false,
  isCut: false,
  searchedUntil: null,
  isFull: false,
  error: null,
};

/** Follows the jobs while it is watched. */
export class JobList extends Observable<ListView> implements StreamListener {
  private cursor: string | undefined;
  /** Where a search goes on that looked further. */
  private before: string | undefined;
  /** The service has answered all jobs that changed before this time; later ones are asked for. */
  private knownUntil = -Infinity;
  private reloading: ReturnType<typeof setTimeout> | undefined;
  private readonly refreshing = new Later();
  private request = new AbortController();
  private isAppending = false;
  /** A service repeats the description of an image for each of its jobs: they share one. */
  private readonly images = new Map<string, JobImage>();

  constructor(
    private readonly service: IService,
    private readonly own: EventStream,
    /** The stream of everybody's jobs. */
    private readonly everybodys: () => EventStream,
  ) {
    super({ ...EMPTY, status: own.status });
  }

  private get stream(): EventStream {
    return this.view.isEverybodys ? this.everybodys() : this.own;
  }

  protected override onWatched(): void {
    this.stream.add(this);
    this.reload();
  }

  protected override onUnwatched(): void {
    this.stream.remove(this);
    this.request.abort();
    clearTimeout(this.reloading);
    this.refreshing.forget();
  }

  /** Lists everybody's jobs, or the user's. */
  setEverybodys(isEverybodys: boolean): void {
    if (isEverybodys === this.view.isEverybodys) return;
    const { isWatched } = this;
    if (isWatched) this.onUnwatched();
    const filter = { ...this.view.filter, user: "", isNew: false };
    this.set({
      isEverybodys,
      filter,
      jobs: [],
      news: [],
      hasMoreNews: false,
      hasMore: false,
      isCut: false,
      searchedUntil: null,
      isFull: false,
      error: null,
    });
    this.knownUntil = -Infinity;
    if (isWatched) this.onWatched();
  }

  /** Tries again at once, where the stream is waited for. */
  tryNow(): void {
    this.stream.tryNow();
  }

  /** Lists the jobs that a filter lets through; a text once a person has typed it. */
  setFilter(changes: Partial<Filter>): void {
    // What is asked for now is of the filter before.
    this.request.abort();
    const filter = { ...this.view.filter, ...changes };
    const isTyping = TYPED.some((field) => filter[field] !== this.view.filter[field]);
    this.set({ filter });
    this.knownUntil = -Infinity;
    clearTimeout(this.reloading);
    this.reloading = setTimeout(
      () => {
        this.reload();
      },
      isTyping ? TYPING_MS : 0,
    );
  }

  /** Loads the next page; one at a time. */
  async more(): Promise<void> {
    if (this.view.hasMore) await this.append();
  }

  /** Goes on with a search that covered the latest jobs alone. */
  async lookFurther(): Promise<void> {
    const { searchedUntil, hasMore } = this.view;
    if (this.isAppending || searchedUntil === null || hasMore) return;
    // Others may have been updated in the same moment, and a browser's times are no finer.
    this.before = new Date(Date.parse(searchedUntil) + 1).toISOString();
    this.cursor = undefined;
    this.set({ isLoading: true });
    await this.append();
  }

  private async append(): Promise<void> {
    if (this.isAppending) return;
    this.isAppending = true;
    const { signal } = this.request;
    try {
      const before = this.before === undefined ? {} : { before: this.before };
      const page = await this.ask({ limit: PAGE, cursor: this.cursor, ...before });
      // It is of a list that another one has replaced.
      if (signal.aborted) return;
      const known = new Set(this.view.jobs.map(({ id }) => id));
      this.turn(page, [...this.view.jobs, ...page.jobs.filter(({ id }) => !known.has(id))]);
    } catch (error) {
      if (!signal.aborted) this.refused(error);
    } finally {
      this.isAppending = false;
    }
  }

  /** Shows the labels that a job was given, of which no event tells. */
  setLabels(id: string, labels: Record<string, string>): void {
    this.set({ jobs: this.view.jobs.map((job) => (job.id === id ? { ...job, labels } : job)) });
  }

  /** Takes what ended for seen. Rejects with ServiceError. */
  async see(): Promise<void> {
    const [latest] = this.view.news;
    if (!latest) return;
    const until = latest.transition_times.at(-1)?.time;
    this.set({ news: [], hasMoreNews: false });
    await this.service.put("jobs/last_look", { until });
    if (this.view.filter.isNew) this.setFilter({ isNew: false });
  }

  /** Asks again for all that is shown. */
  reload(): void {
    this.request.abort();
    this.request = new AbortController();
    this.images.clear();
    const { signal } = this.request;
    this.set({ isLoading: true });
    this.ask({ limit: PAGE })
      .then(
        (page) => {
          if (signal.aborted) return;
          this.before = undefined;
          this.turn(page, page.jobs);
          this.knownUntil = newestOf(page.jobs);
        },
        (error: unknown) => {
          if (!signal.aborted) this.refused(error);
        },
      )
      .catch((error: unknown) => {
        throw error;
      });
    void this.loadNews();
  }

  onTransition(event: Transition): void {
    const { job_id: id, state } = event;
    const job = this.view.jobs.find((other) => other.id === id);
    const isLive = job && !hasEnded(job.state);
    if (isLive && !job.transition_times.some((step) => step.state === state)) {
      const changed = moveJob(job, event);
      const others = this.view.jobs.filter((other) => other.id !== id);
      this.set({ jobs: isKept(this.view.filter, changed) ? [changed, ...others] : others });
    }
    // What else there is of it, such as its error, is not in the event.
    if (!isLive || hasEnded(state)) this.refreshSoon();
  }

  onProgress({ job_id: id, containers }: Progress): void {
    if (!this.view.jobs.some((job) => job.id === id)) return;
    const jobs = this.view.jobs.map((job) => (job.id === id ? { ...job, containers } : job));
    this.set({ jobs });
  }

  onGap(): void {
    this.refreshSoon();
  }

  onStatus(status: StreamStatus): void {
    this.set({ status });
  }

  private refreshSoon(): void {
    const ms = this.view.isEverybodys ? EVERYBODYS_EVENTS_MS : EVENTS_MS;
    this.refreshing.once(() => void this.refreshHead(), ms);
  }

  private async refreshHead(): Promise<void> {
    const { signal } = this.request;
    try {
      const jobs = await this.changed(signal);
      if (signal.aborted) return;
      if (!jobs) {
        this.reload();
        return;
      }
      const heads = new Set(jobs.map(({ id }) => id));
      const rest = this.view.jobs.filter((job) => !heads.has(job.id) && isKept(this.view.filter, job));
      this.set({ jobs: newestFirst([...jobs, ...rest]), isLoading: false, error: null });
      this.knownUntil = newestOf(jobs);
    } catch (error) {
      if (!signal.aborted) this.refused(error);
    }
    await this.loadNews();
  }

  /** All jobs that have changed since the service last answered; null if they are too many. */
  private async changed(signal: AbortSignal): Promise<JobPreview[] | null> {
    const jobs: JobPreview[] = [];
    let cursor: string | undefined;
    for (let pages = 0; pages <= MAX_PAGES && !signal.aborted; pages += 1) {
      const page = await this.ask({ limit: pages ? PAGE : HEAD, cursor });
      jobs.push(...page.jobs);
      const last = page.jobs.at(-1);
      if (page.next === undefined || (last && updatedAt(last) < this.knownUntil)) return jobs;
      cursor = page.next;
    }
    return null;
  }

  private async loadNews(): Promise<void> {
    // News are of the user's own jobs.
    if (this.view.isEverybodys) return;
    const { signal } = this.request;
    try {
      // An older service would answer all jobs.
      if (!(await this.service.knows("GET", "/jobs", "new"))) return;
      const { jobs, next } = await this.service.get<Jobs>("jobs", { new: true, limit: PAGE });
      if (!signal.aborted) this.set({ news: jobs.map(shorten), hasMoreNews: next !== undefined });
    } catch (error) {
      // The list says why the service does not answer; one that has no read marker has no news.
      asServiceError(error);
    }
  }

  private async ask(query: Query): Promise<Jobs> {
    const asked = { containers: true, ...toQuery(this.view.filter), ...query };
    const page = await this.service.get<Jobs>(this.view.isEverybodys ? "admin/jobs" : "jobs", asked);
    return { ...page, jobs: page.jobs.map((job) => ({ ...shorten(job), image: this.share(job.image) })) };
  }

  private share(image: JobImage): JobImage {
    const key = `${image.name}@${image.digest} ${image.registered_on}`;
    const shared = this.images.get(key) ?? image;
    this.images.set(key, shared);
    return shared;
  }

  private turn(page: Jobs, jobs: readonly JobPreview[]): void {
    this.cursor = page.next;
    const isCut = page.is_cut ?? false;
    const hasRoom = jobs.length < MAX_JOBS;
    this.set({
      jobs,
      hasMore: page.next !== undefined && hasRoom,
      isCut,
      searchedUntil: page.searched_until ?? null,
      isFull: (page.next !== undefined || isCut) && !hasRoom,
      isLoading: false,
      error: null,
    });
  }

  private refused(error: unknown): void {
    this.set({ isLoading: false, error: asServiceError(error) });
  }
}

/** A job without what a list does not show: of one that has ended, the times between its first and its last. */
function shorten(job: JobPreview): JobPreview {
  const { transition_times: times } = job;
  return hasEnded(job.state) && times.length > 2
    ? { ...job, transition_times: [...times.slice(0, 1), ...times.slice(-1)] }
    : job;
}

function newestOf([newest]: readonly JobPreview[]): number {
  return newest ? updatedAt(newest) : -Infinity;
}

function newestFirst(jobs: JobPreview[]): JobPreview[] {
  return jobs.sort((a, b) => updatedAt(b) - updatedAt(a));
}
