// Checksums that the service computes in the background: asked for here, and followed also after a page was closed.

import type {
  ChecksumTask,
  ChecksumTasks,
  ChecksumsRequested,
  ComputationState,
  FileResult,
} from "../api/types";
import { type ServiceError, asServiceError } from "../service/errors";
import { newKey } from "../service/key";
import type { IService } from "../service/port";
import type { ChecksumProgress, EventStream, StreamListener } from "../service/stream";
import { Observable } from "./observable";
import type { Chosen, Selection } from "./selection";

/** How often a request is asked for, where no stream of events tells. */
const POLL_MS = 5_000;

export interface Task {
  readonly id: string;
  readonly isRunning: boolean;
  readonly files: readonly FileResult[];
}

export interface ChecksumsView {
  /** Whether the service can; null until it is known. */
  readonly isOffered: boolean | null;
  readonly running: readonly Task[];
  /** What could not be computed of the requests that ended in this page. */
  readonly failed: readonly FileResult[];
  /** By path, how far the checksum of a file is. */
  readonly marks: ReadonlyMap<string, ComputationState>;
  /** Whether some are being asked for. */
  readonly isAsking: boolean;
  readonly error: ServiceError | null;
}

export class Checksums extends Observable<ChecksumsView> implements StreamListener {
  private readonly tasks = new Map<string, Task>();
  private loads = 0;
  /** By task, which load of all was taken last. */
  private readonly loaded = new Map<string, number>();
  private timer: ReturnType<typeof setInterval> | undefined;
  /** What was asked for and has no answer, and the key that makes it the same request if it is asked for again. */
  private request: { text: string; key: string } | null = null;

  constructor(
    private readonly service: IService,
    private readonly stream: EventStream,
    private readonly selection: Selection,
  ) {
    super({ isOffered: null, running: [], failed: [], marks: new Map(), isAsking: false, error: null });
  }

  override watch(callback: () => void): () => void {
    if (!this.isWatched) {
      this.stream.add(this);
      this.timer = setInterval(() => {
        if (this.stream.status.state !== "live") void this.refresh();
      }, POLL_MS);
      void this.begin();
    }
    const end = super.watch(callback);
    return () => {
      end();
      if (this.isWatched) return;
      this.stream.remove(this);
      clearInterval(this.timer);
    };
  }

  /**
   * Has the checksums of files computed, if they are still what they were. After a lost answer, the same files are the
   * same request.
   */
  async compute(files: readonly Chosen[]): Promise<void> {
    if (!files.length || this.view.isAsking) return;
    this.set({ isAsking: true });
    await this.guard(async () => {
      const wanted = files.map(({ path: file, etag }) => ({ file, ...(etag !== undefined && { etag }) }));
      const text = JSON.stringify(wanted);
      if (this.request?.text !== text) this.request = { text, key: newKey() };
      const { key } = this.request;
      const { id } = await this.service.post<ChecksumsRequested>("checksums", { files: wanted }, key);
      this.request = null;
      await this.load(id);
    });
    this.set({ isAsking: false });
  }

  async cancel(id: string): Promise<void> {
    await this.guard(async () => {
      await this.service.delete(`checksums/${encodeURIComponent(id)}`);
      await this.load(id);
    });
  }

  onTransition(): void {
    // Of jobs.
  }

  onProgress(): void {
    // Of jobs.
  }

  onStatus(): void {
    // Where it is not live, the timer asks.
  }

  onGap(): void {
    void this.refresh();
  }

  onChecksum({ checksums_id: id, state, changed }: ChecksumProgress): void {
    const task = this.tasks.get(id);
    // The checksums themselves, and why there are none, are not in the event.
    if (!task || !changed || state !== "running" || changed.some(([, each]) => each !== "done")) {
      void this.guard(() => this.load(id));
      return;
    }
    const files = [...task.files];
    for (const [number, each] of changed) {
      const file = files[number];
      if (file) files[number] = { ...file, state: each };
    }
    this.take({ ...task, files });
  }

  private async begin(): Promise<void> {
    await this.guard(async () => {
      const isOffered = await this.service.knows("POST", "/checksums");
      this.set({ isOffered });
      if (isOffered) await this.refresh();
    });
  }

  /** Reads the requests that run, of which some may have been made in another page. */
  private async refresh(): Promise<void> {
    if (!this.view.isOffered) return;
    await this.guard(async () => {
      const { tasks } = await this.service.get<ChecksumTasks>("checksums");
      for (const { id, state } of tasks) {
        const isKnownToRun = this.tasks.get(id)?.isRunning === true;
        if (state === "running" || isKnownToRun) await this.load(id);
      }
    });
  }

  private async load(id: string): Promise<void> {
    const turn = (this.loads += 1);
    const { state, files } = await this.service.get<ChecksumTask>(`checksums/${encodeURIComponent(id)}`);
    // The answer to a later question has come before this one.
    if (turn < (this.loaded.get(id) ?? 0)) return;
    this.loaded.set(id, turn);
    this.take({ id, isRunning: state === "running", files });
  }

  private take(task: Task): void {
    const before = this.tasks.get(task.id)?.files;
    this.tasks.set(task.id, task);
    const done = task.files.filter(
      ({ state, crc64nvme }, number) =>
        state === "done" && (before?.[number]?.state !== state || before[number].crc64nvme !== crc64nvme),
    );
    this.selection.noteChecksums(done.map(({ file, crc64nvme }) => [file, crc64nvme] as const));
    this.show();
  }

  private show(): void {
    const all = [...this.tasks.values()];
    const marks = new Map<string, ComputationState>();
    for (const { files, isRunning } of all) {
      for (const { file, state } of files) if (isRunning || state !== "waiting") marks.set(file, state);
    }
    this.set({
      running: all.filter(({ isRunning }) => isRunning),
      failed: all.flatMap(({ files, isRunning }) =>
        isRunning ? [] : files.filter(({ state }) => state === "failed"),
      ),
      marks,
      error: null,
    });
  }

  private async guard(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.set({ error: asServiceError(error) });
    }
  }
}
