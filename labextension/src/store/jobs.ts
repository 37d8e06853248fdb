// The jobs that a page shows, each as it is now: loaded once, then kept by events.

import type {
  AdminJobDetails,
  Container,
  Containers,
  Job,
  JobOutput,
  JobOutputs,
  JobPreview,
  JobState,
  Reason,
  ResubmissionOutput,
  Root,
  SubJob,
  SubJobs,
  Submitted,
  WhoAmI,
  Why,
} from "../api/types";
import { decode } from "../rules/bytes";
import { reasonsOf } from "../rules/reasons";
import { moveJob } from "../rules/transitions";
import { type Counts, hasEnded, shownState } from "../rules/words";
import { ServiceError, asServiceError } from "../service/errors";
import { newKey } from "../service/key";
import { once } from "../service/once";
import type { IService } from "../service/port";
import type { EventStream, Progress, StreamListener, StreamStatus, Transition } from "../service/stream";
import { everybodysStream } from "../service/stream";
import { Later } from "./later";
import { Queue } from "./queue";
import { Recent } from "./recent";

/** The number of jobs that are kept while nothing shows them. */
export const MAX_REMEMBERED = 100;
/** The number of outputs that a card lists. */
export const MAX_OUTPUTS = 50;
const ERROR_TAIL = 2_000;
const ERROR_LINES = 20;
/** How long containers that have moved are waited for, before they are all asked for at once. */
export const SETTLE_MS = 2_000;
/** Transitions that a job is known to have had; a stream that resumes tells some of them again. */
const MAX_SEEN = 200;
/** Resubmissions whose keys and jobs are kept. */
const MAX_RESUBMITTED = 300;

export interface Outputs {
  /** The first of them. */
  shown: readonly Pick<JobOutput, "file" | "crc64nvme">[];
  count: number;
}

/** A job as it is known; a new object at each change. */
export interface JobView {
  readonly job: JobPreview | null;
  /** Whether it is another user's, read as an admin. */
  readonly isOthers: boolean;
  readonly counts: Counts;
  readonly containers: readonly Container[];
  readonly outputs: Outputs | null;
  /** Why it failed; empty for a job that did not. */
  readonly reasons: readonly Reason[];
  /** The resubmission that would mend it. */
  readonly fix: ResubmissionOutput | null;
  /** Why the latest request failed. */
  readonly error: ServiceError | null;
}

const UNKNOWN: JobView = {
  job: null,
  isOthers: false,
  counts: {},
  containers: [],
  outputs: null,
  reasons: [],
  fix: null,
  error: null,
};

type OnLabels = (id: string, labels: Record<string, string>) => void;

interface Resubmission {
  /** Makes a second try after a lost answer the same request. */
  readonly key: string;
  /** The job that it made. */
  added: string | null;
}

interface Watched {
  view: JobView;
  readonly callbacks: Set<() => void>;
  readonly seen: Recent<string, true>;
  isLoading: boolean;
  /** Whether it is to be loaded again, as an event may be newer than the answer. */
  isStale: boolean;
  /** The numbers of containers that have moved since they were loaded; null for any. */
  moved: Set<number> | null;
  readonly renewing: Later;
}

export class JobStore implements StreamListener {
  private readonly watched = new Map<string, Watched>();
  private readonly recent = new Recent<string, JobView>(MAX_REMEMBERED);
  /** By job and changes: a component that is made anew sends the same request. */
  private readonly resubmissions = new Recent<string, Resubmission>(MAX_RESUBMITTED);
  private readonly onStatusCallbacks = new Set<() => void>();
  private readonly onLabelsCallbacks = new Set<OnLabels>();
  private readonly followed = new Set<EventStream>();
  private readonly whoami = once(() => this.service.get<WhoAmI>("whoami"));
  private everybodys: EventStream | null = null;
  /** What live jobs wait for. */
  readonly queue: Queue;

  constructor(
    readonly service: IService,
    readonly stream: EventStream,
  ) {
    this.queue = new Queue(service);
  }

  get status(): StreamStatus {
    return this.stream.status;
  }

  /** The time by the service's clock, which jobs' times are by. */
  now(): number {
    return Date.now() + this.service.clockOffset;
  }

  /** The id of the service's records; undefined from a service that does not tell it. Rejects with ServiceError. */
  readonly instance = once(async () => (await this.service.get<Root>("")).instance);

  /** The name of the user if they are an admin, else null. Rejects with ServiceError. */
  async admin(): Promise<string | null> {
    const { user, roles } = await this.whoami();
    return roles.includes("full_admin") ? user : null;
  }

  /** The events of everybody's jobs, of which an admin alone is told. */
  get everybodysStream(): EventStream {
    return (this.everybodys ??= everybodysStream(this.service));
  }

  view(id: string): JobView {
    return this.watched.get(id)?.view ?? this.recent.get(id) ?? UNKNOWN;
  }

  /** Calls back at each change of a job, which is loaded and followed meanwhile; returns what ends it. */
  watch(id: string, callback: () => void): () => void {
    let entry = this.watched.get(id);
    if (!entry) {
      entry = {
        view: this.recent.get(id) ?? UNKNOWN,
        callbacks: new Set(),
        seen: new Recent(MAX_SEEN),
        isLoading: false,
        isStale: false,
        moved: new Set(),
        renewing: new Later(),
      };
      this.watched.set(id, entry);
      if (!isFinal(entry.view)) this.refresh(id);
    }
    entry.callbacks.add(callback);
    return () => {
      entry.callbacks.delete(callback);
      if (entry.callbacks.size) return;
      entry.renewing.forget();
      this.watched.delete(id);
      this.listen();
    };
  }

  /** Calls back when the stream's status changes; returns what ends it. */
  watchStatus(callback: () => void): () => void {
    this.onStatusCallbacks.add(callback);
    return () => this.onStatusCallbacks.delete(callback);
  }

  /** Loads a job that is shown; a load that is wanted during another follows at its end. */
  refresh(id: string): void {
    const entry = this.watched.get(id);
    if (!entry) return;
    if (entry.isLoading) {
      entry.isStale = true;
      return;
    }
    entry.isLoading = true;
    void this.load(id, entry).finally(() => {
      entry.isLoading = false;
      this.listen();
      if (!entry.isStale) return;
      entry.isStale = false;
      this.refresh(id);
    });
  }

  /** Cancels a job. Rejects with ServiceError; a job that has ended meanwhile is none. */
  async cancel(id: string): Promise<void> {
    try {
      const path = `jobs/${encodeURIComponent(id)}/cancel`;
      await this.orAsAdmin(this.service.put(path), () => this.service.put(`admin/${path}`));
    } catch (error) {
      if (!asServiceError(error).isUnknown) throw error;
    } finally {
      this.refresh(id);
    }
  }

  /** The labels that a job has now. Rejects with ServiceError. */
  async labels(id: string): Promise<Record<string, string>> {
    const path = `jobs/${encodeURIComponent(id)}`;
    const { labels } = await this.service.get<JobPreview>(path, { files: false });
    return labels ?? {};
  }

  /** Replaces the labels of a job. Rejects with ServiceError. */
  async setLabels(id: string, labels: Record<string, string>): Promise<void> {
    await this.service.put(`jobs/${encodeURIComponent(id)}/labels`, { labels });
    const entry = this.watched.get(id);
    // An answer that is being loaded may have those before.
    if (entry?.isLoading) entry.isStale = true;
    if (entry?.view.job) this.set(id, entry, { job: { ...entry.view.job, labels } });
    for (const callback of [...this.onLabelsCallbacks]) callback(id, labels);
  }

  /** Calls back when labels were set in the page, of which no event tells; returns what ends it. */
  watchLabels(callback: OnLabels): () => void {
    this.onLabelsCallbacks.add(callback);
    return () => this.onLabelsCallbacks.delete(callback);
  }

  /** The id of the latest job that was made of this one in the page by such changes. */
  resubmitted(id: string, changes: ResubmissionOutput): string | null {
    return this.resubmissions.get(nameOf(id, changes))?.added ?? null;
  }

  /**
   * Submits a job again, as `changes` say, and returns the id of the new one: the same one until an answer has come,
   * then another one. Rejects with ServiceError.
   */
  async resubmit(id: string, changes: ResubmissionOutput): Promise<string> {
    const name = nameOf(id, changes);
    let wish = this.resubmissions.get(name);
    if (wish?.added !== null) this.resubmissions.set(name, (wish = { key: newKey(), added: null }));
    const path = `jobs/${encodeURIComponent(id)}/resubmit`;
    const { job_id: added } = await this.service.post<Submitted>(path, changes, wish.key);
    wish.added = added;
    const entry = this.watched.get(id);
    if (entry) this.set(id, entry, {});
    return added;
  }

  onTransition(event: Transition): void {
    const entry = this.watched.get(event.job_id);
    if (!entry) return;
    // An answer that is being loaded may be older than this event: load again after it.
    if (entry.isLoading) entry.isStale = true;
    const { job, counts } = entry.view;
    if (!job || entry.seen.get(event.trans_id)) return;
    entry.seen.set(event.trans_id, true);
    if (hasEnded(event.state)) {
      this.refresh(event.job_id);
      return;
    }
    if (job.transition_times.some(({ state }) => state === event.state)) return;
    const { state } = event;
    this.set(event.job_id, entry, {
      job: moveJob(job, event),
      counts: job.job_input.num_containers === 1 ? { [state]: 1 } : counts,
    });
  }

  onProgress(event: Progress): void {
    const entry = this.watched.get(event.job_id);
    const job = entry?.view.job;
    if (!job || hasEnded(job.state)) return;
    const before = shownState(job.state, entry.view.counts);
    const containers = move(entry.view.containers, event.changed ?? []);
    this.set(event.job_id, entry, { counts: event.containers, containers });
    // The timeline says when the first container began.
    if (shownState(job.state, event.containers) !== before) this.refresh(event.job_id);
    else if (containers.length && !entry.view.isOthers) {
      const changed = isSame(count(containers), event.containers) ? event.changed : null;
      this.renew(event.job_id, entry, changed?.map(([number]) => number) ?? null);
    }
  }

  onGap(): void {
    for (const [id, { view }] of this.watched) if (!isFinal(view)) this.refresh(id);
  }

  onStatus(): void {
    for (const callback of [...this.onStatusCallbacks]) callback();
  }

  private set(id: string, entry: Watched, changes: Partial<JobView>): void {
    entry.view = { ...entry.view, ...changes };
    if (entry.view.job) this.recent.set(id, entry.view);
    for (const callback of [...entry.callbacks]) callback();
  }

  /** Listens to events while a job is shown that has not ended, or that cannot be loaded now. */
  private listen(): void {
    const views = [...this.watched.values()].map(({ view }) => view);
    const live = views.filter((view) => !isFinal(view) && !view.error?.isUnknown);
    const wanted = new Set(live.map(({ isOthers }) => (isOthers ? this.everybodysStream : this.stream)));
    // A stream calls back while it is added.
    for (const stream of [...this.followed].filter((one) => !wanted.has(one))) {
      this.followed.delete(stream);
      stream.remove(this);
    }
    for (const stream of [...wanted].filter((one) => !this.followed.has(one))) {
      this.followed.add(stream);
      stream.add(this);
    }
  }

  /** Whether the user is known to be an admin. */
  private async isAdmin(): Promise<boolean> {
    try {
      return (await this.admin()) !== null;
    } catch (error) {
      asServiceError(error);
      return false;
    }
  }

  /** What a user's own route answers; where it refuses the job of another, what the admins' answers an admin. */
  private async orAsAdmin<T>(own: Promise<T>, others: () => Promise<T>): Promise<T> {
    try {
      return await own;
    } catch (error) {
      if (asServiceError(error).status !== 403 || !(await this.isAdmin())) throw error;
      return others();
    }
  }

  private async load(id: string, entry: Watched): Promise<void> {
    const path = `jobs/${encodeURIComponent(id)}`;
    try {
      // A service that does not know the parameter answers the whole job.
      const own = this.service.get<JobPreview & Pick<Job, "outputs">>(path, { files: false });
      // What is refused of a job of one's own is for no admin.
      const loadRest = await this.orAsAdmin(
        own.then((job) => () => this.loadRest(path, job)),
        async () => {
          const job = await this.service.get<AdminJobDetails>(`admin/${path}`);
          return () => this.loadRestOfOthers(path, job);
        },
      );
      const view = await loadRest();
      this.set(id, entry, { ...view, error: null });
    } catch (error) {
      this.set(id, entry, { error: asServiceError(error) });
    }
  }

  private async loadRest(
    path: string,
    job: Pick<Job, "outputs"> & JobPreview,
  ): Promise<Omit<JobView, "error">> {
    const needsContainers = job.job_input.num_containers > 1 || job.state === "error";
    const containers = needsContainers ? await this.loadContainers(path) : null;
    const outputs = hasEnded(job.state) ? await this.loadOutputs(path, job) : null;
    const why =
      job.state === "error" ? await this.loadWhy(path, job, containers ?? []) : { reasons: [], fix: null };
    const counts = containers ? count(containers) : { [job.state]: 1 };
    return { job, isOthers: false, containers: containers ?? [], counts, outputs, ...why };
  }

  /** Another user's job as an admin is told of it: its files are for its owner. */
  private async loadRestOfOthers(path: string, job: AdminJobDetails): Promise<Omit<JobView, "error">> {
    const { admin_error: error } = job;
    const needsContainers = job.job_input.num_containers > 1 || job.state === "error";
    const answer = needsContainers
      ? await this.unlessMissing(this.service.get<SubJobs>(`admin/${path}/container`))
      : null;
    const containers = (answer?.subjobs ?? []).map(containerOf);
    const told = { ...job, ...(error !== undefined && { error }) };
    const reasons = job.state === "error" ? reasonsOf(told, containers) : [];
    if (error !== undefined && !reasons.some(({ reason }) => reason === error)) {
      reasons.push(...reasonsOf(told, []));
    }
    const counts = containers.length ? count(containers) : (job.containers ?? { [job.state]: 1 });
    return { job, isOthers: true, counts, containers, outputs: null, reasons, fix: null };
  }

  /** Loads containers that have moved, a little later with those that move meanwhile; all for null. */
  private renew(id: string, entry: Watched, numbers: readonly number[] | null): void {
    if (numbers === null) entry.moved = null;
    for (const number of numbers ?? []) entry.moved?.add(number);
    entry.renewing.once(() => {
      const { moved } = entry;
      entry.moved = new Set();
      // Whatever became of it, the next event tells of more.
      this.loadMoved(id, entry, moved).catch(asServiceError);
    }, SETTLE_MS);
  }

  private async loadMoved(id: string, entry: Watched, moved: ReadonlySet<number> | null): Promise<void> {
    const [first, last] = moved ? [Math.min(...moved), Math.max(...moved)] : [0, Infinity];
    const { containers } = await this.service.get<Containers>(`jobs/${encodeURIComponent(id)}/containers`, {
      detail: false,
      ...(first > 0 && { after: first - 1 }),
      ...(last < Infinity && { limit: last - first + 1 }),
    });
    const loaded = new Map(containers.map((container) => [container.number, container]));
    // Events that came meanwhile are newer than the answer.
    const isNewer = ({ number }: Container): boolean => entry.moved === null || entry.moved.has(number);
    this.set(id, entry, {
      containers: entry.view.containers.map((container) =>
        isNewer(container) ? container : (loaded.get(container.number) ?? container),
      ),
    });
  }

  private async loadContainers(path: string): Promise<Container[] | null> {
    const answer = await this.unlessMissing(
      this.service.get<Containers>(`${path}/containers`, { detail: false }),
    );
    return answer?.containers ?? null;
  }

  private async loadOutputs(path: string, job: Pick<Job, "outputs"> & JobPreview): Promise<Outputs | null> {
    if (job.outputs) return { shown: job.outputs.slice(0, MAX_OUTPUTS), count: job.outputs.length };
    const page = await this.unlessMissing(
      this.service.get<JobOutputs>(`${path}/outputs`, { limit: MAX_OUTPUTS }),
    );
    if (!page?.outputs.length) return null;
    return { shown: page.outputs, count: Math.max(page.outputs.length, job.output_file_count ?? 0) };
  }

  private async loadWhy(
    path: string,
    job: JobPreview,
    containers: readonly Container[],
  ): Promise<Pick<JobView, "reasons" | "fix">> {
    const why = await this.unlessMissing(this.service.get<Why>(`${path}/why`));
    if (why) return { reasons: why.reasons, fix: why.fix ?? null };
    return { reasons: await this.guessReasons(path, job, containers), fix: null };
  }

  /** Why a job failed, for a service that does not say so. */
  private async guessReasons(
    path: string,
    job: JobPreview,
    containers: readonly Container[],
  ): Promise<Reason[]> {
    const reasons = reasonsOf(job, containers);
    const [first] = reasons;
    const [container] = first?.containers ?? [];
    if (!first || container === undefined) return reasons;
    try {
      const extent = { limit: ERROR_TAIL, keep: "last" } as const;
      const { bytes } = await this.service.read(`${path}/log/${container}/stderr`, {}, extent);
      first.stderr = decode(bytes).trimEnd().split("\n").slice(-ERROR_LINES).join("\n");
    } catch (error) {
      // A container that never ran has no log.
      asServiceError(error);
    }
    return reasons;
  }

  /** An older service may lack a route: what it would tell is left out. */
  private async unlessMissing<T>(answer: Promise<T>): Promise<T | null> {
    try {
      return await answer;
    } catch (error) {
      if (asServiceError(error).status === 404) return null;
      throw error;
    }
  }
}

function nameOf(id: string, changes: ResubmissionOutput): string {
  return `${id} ${JSON.stringify(changes)}`;
}

/** A container of another user's job as an admin is told of it. */
function containerOf({ sub_id: number, admin_error: error, ...rest }: SubJob): Container {
  return { ...rest, number, ...(error !== undefined && { error }) };
}

function isFinal(view: JobView): boolean {
  return view.job !== null && hasEnded(view.job.state);
}

/** The containers, those that have moved in their new states. */
function move(
  containers: readonly Container[],
  changed: readonly (readonly [number, JobState])[],
): readonly Container[] {
  if (!changed.length || !containers.length) return containers;
  const states = new Map(changed);
  return containers.map((container) => {
    const state = states.get(container.number);
    return state === undefined ? container : { ...container, state };
  });
}

function isSame(counts: Counts, others: Counts): boolean {
  const states = new Set([...Object.keys(counts), ...Object.keys(others)]);
  return [...states].every((state) => (counts[state] ?? 0) === (others[state] ?? 0));
}

function count(containers: readonly Container[]): Counts {
  const counts: Record<string, number> = {};
  for (const { state } of containers) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}
