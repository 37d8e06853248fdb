// The events of the user's jobs, or of everybody's: one stream for all tabs of a browser, of which one leads and tells the others.

import type { ComputationState, JobState, TaskState } from "../api/types";
import { ServiceError, asServiceError, isAbort } from "./errors";
import type { IService } from "./port";
import { readEvents } from "./sse";

export interface Transition {
  job_id: string;
  state: JobState;
  time: string;
  trans_id: string;
}
export interface Progress {
  job_id: string;
  containers: Record<string, number>;
  /** The containers that have just moved, with their new states; none if they are many. */
  changed?: readonly (readonly [number, JobState])[] | null;
}
/** How far a request for checksums is. */
export interface ChecksumProgress {
  checksums_id: string;
  state: TaskState;
  files: Partial<Record<ComputationState, number>>;
  /** Numbers of files, with what became of each just now. */
  changed?: readonly (readonly [number, ComputationState])[] | null;
}

export interface StreamStatus {
  /** "asking": the service has no stream, and is asked now and then. "absent": there is no service. */
  readonly state: "connecting" | "live" | "asking" | "offline" | "signed-out" | "absent";
  /** Why it is not live, as a sentence; may be empty. */
  readonly reason: string;
  readonly since: number;
}

export interface StreamListener {
  /** It is told while the page is hidden, too, where all tabs share one stream. */
  readonly needsHidden?: boolean;
  onTransition(event: Transition): void;
  onProgress(event: Progress): void;
  onChecksum?(event: ChecksumProgress): void;
  /** What happened before this moment may not have been told. */
  onGap(): void;
  onStatus(status: StreamStatus): void;
}

type Message =
  | { kind: "hello" }
  | { kind: "gap" }
  | { kind: "status"; status: StreamStatus; cursor: string | undefined }
  | { kind: "event"; name: string; id: string; data: string };

/** What a tab shares with the others of the same browser; without locks it has a stream of its own. */
export interface Tabs {
  locks?: LockManager;
  channel?: BroadcastChannel;
}

export function browserTabs(root: string): Tabs {
  // Only pages of https or of this machine have locks.
  const locks = (navigator as { locks?: LockManager }).locks;
  return locks ? { locks, channel: new BroadcastChannel(`cts ${root}`) } : {};
}

/** The events of everybody's jobs, for admins; where a service has none, its listeners ask now and then. */
export function everybodysStream(service: IService): EventStream {
  const path = "admin/events";
  return new EventStream(service, browserTabs(`${service.root} ${path}`), path);
}

export const FIRST_RETRY_MS = 1_000;
export const LAST_RETRY_MS = 30_000;
/** One that has never answered did not start, as a rule, and will not without somebody's help. */
export const RARE_RETRY_MS = 300_000;
/** The service pings every 15 s: a stream that was silent for longer is dead, whatever the connection says. */
export const SILENT_MS = 40_000;
const TICK_MS = 1_000;
/** After a laptop has slept, the connection may be dead without an error. */
const SLEEP_MS = 30_000;

export class EventStream {
  status: StreamStatus = { state: "connecting", reason: "", since: Date.now() };
  private readonly listeners = new Set<StreamListener>();
  private cursor: string | undefined;
  /** Ends the part of this tab; null while it has none. */
  private part: AbortController | null = null;
  private connection: AbortController | null = null;
  /** Ends what watches the page. */
  private watching = new AbortController();
  /** The signal of the part in which this tab leads. */
  private leading: AbortSignal | null = null;
  private heard = 0;
  /** How long is waited, about, before the next try to open the stream. */
  private retry = FIRST_RETRY_MS;
  private ticked = 0;
  private wake: () => void = () => undefined;
  private hasAnswered = false;

  constructor(
    private readonly service: IService,
    private readonly tabs: Tabs = browserTabs(service.root),
    private readonly path = "events",
  ) {
    tabs.channel?.addEventListener("message", (event: MessageEvent<Message>) => {
      this.receive(event.data);
    });
  }

  add(listener: StreamListener): void {
    if (!this.listeners.size) this.watchPage();
    this.listeners.add(listener);
    listener.onStatus(this.status);
    // Others have listened for a while: what came just before was not told to this one.
    if (this.status.state === "live") listener.onGap();
    else {
      // Somebody begins to look.
      this.retry = FIRST_RETRY_MS;
      this.wake();
    }
    this.start();
  }

  remove(listener: StreamListener): void {
    this.listeners.delete(listener);
    if (!this.isNeeded) this.stop();
    if (!this.listeners.size) this.watching.abort();
  }

  /** Tries again at once, where a stream is waited for. */
  tryNow(): void {
    this.wake();
  }

  /** Goes by what becomes of the page, while anybody listens. */
  private watchPage(): void {
    this.watching.abort();
    this.watching = new AbortController();
    const { signal } = this.watching;
    document.addEventListener(
      "visibilitychange",
      () => {
        // The timers of a hidden page are late: that is no sleep.
        this.ticked = 0;
        if (this.isNeeded) this.start();
        else this.stop();
      },
      { signal },
    );
    const acts = {
      pagehide: () => {
        this.stop();
      },
      pageshow: () => {
        this.start();
      },
      online: () => {
        this.wake();
      },
      // What is left of the connection may say nothing for long. A server of this machine is there again at once.
      offline: () => {
        this.connection?.abort();
      },
    };
    for (const [name, act] of Object.entries(acts)) window.addEventListener(name, act, { signal });
    this.ticked = 0;
    const timer = setInterval(() => {
      this.tick();
    }, TICK_MS);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
    });
  }

  /** A browser has few connections to a server: without locks, a hidden tab takes none. */
  private get isNeeded(): boolean {
    if (!document.hidden) return this.listeners.size > 0;
    return this.tabs.locks !== undefined && [...this.listeners].some(({ needsHidden }) => needsHidden);
  }

  private start(): void {
    if (this.part || !this.isNeeded) return;
    this.part = new AbortController();
    this.post({ kind: "hello" });
    void this.lead(this.part.signal);
  }

  private stop(): void {
    this.part?.abort();
    this.part = null;
  }

  private async lead(signal: AbortSignal): Promise<void> {
    const { locks } = this.tabs;
    if (!locks) {
      await this.keepOpen(signal);
      return;
    }
    try {
      await locks.request(`cts ${this.service.root} ${this.path}`, { signal }, () => this.keepOpen(signal));
    } catch (error) {
      if (!isAbort(error)) throw error;
    }
  }

  private async keepOpen(signal: AbortSignal): Promise<void> {
    this.leading = signal;
    this.retry = FIRST_RETRY_MS;
    while (!signal.aborted) {
      if (await this.open(signal)) this.retry = FIRST_RETRY_MS;
      const delay = this.status.state === "absent" ? null : this.retry * (0.75 + Math.random() / 2);
      this.retry = Math.min(this.retry * 2, this.hasAnswered ? LAST_RETRY_MS : RARE_RETRY_MS);
      await this.pause(delay, signal);
    }
    if (this.leading === signal) this.leading = null;
  }

  /** Follows a stream to its end, and returns whether there was one. */
  private async open(signal: AbortSignal): Promise<boolean> {
    this.connection = new AbortController();
    const either = AbortSignal.any([signal, this.connection.signal]);
    this.heard = Date.now();
    let body: ReadableStream<Uint8Array>;
    try {
      body = await this.service.events(this.cursor, either, this.path);
    } catch (error) {
      if (!signal.aborted) await this.refused(error);
      return false;
    }
    this.hasAnswered = true;
    this.setStatus("live");
    this.tellGap();
    try {
      for await (const event of readEvents(body, () => (this.heard = Date.now()))) {
        const message: Message = { kind: "event", ...event };
        this.post(message);
        this.receive(message);
      }
    } catch {
      // The connection broke: it is opened anew like one that ended.
    }
    if (!signal.aborted) {
      const { tr } = this.service;
      const wasSilent = Date.now() - this.heard >= SILENT_MS;
      this.setStatus("connecting", wasSilent ? tr.__("Nothing came from the service for 40 seconds.") : "");
    }
    return true;
  }

  private async refused(error: unknown): Promise<void> {
    if (!(error instanceof ServiceError)) {
      if (!isAbort(error)) throw error;
      this.setStatus("offline", this.service.tr.__("The service does not answer"));
    } else if (error.status === 404) {
      if (await this.isAbsent()) {
        this.setStatus("absent");
        return;
      }
      this.hasAnswered = true;
      this.setStatus("asking");
      this.tellGap();
    } else if (error.isSignedOut || error.status === 403) {
      this.setStatus("signed-out", error.message);
    } else {
      this.setStatus("offline", error.message);
    }
  }

  /** Whether there is no service at all: one without a stream tells who it is. */
  private async isAbsent(): Promise<boolean> {
    try {
      await this.service.get("");
      return false;
    } catch (error) {
      return asServiceError(error).status === 404;
    }
  }

  /** Waits so long, or without an end, or until something wakes it. */
  private pause(ms: number | null, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = ms === null ? undefined : setTimeout(done, ms);
      signal.addEventListener("abort", done);
      this.wake = done;
      if (signal.aborted) done();
    });
  }

  private setStatus(state: StreamStatus["state"], reason = ""): void {
    if (state === this.status.state && reason === this.status.reason) return;
    const since = state === this.status.state ? this.status.since : Date.now();
    this.status = { state, reason, since };
    this.postStatus();
    this.tellStatus();
  }

  private tellGap(): void {
    this.post({ kind: "gap" });
    this.receive({ kind: "gap" });
  }

  private tellStatus(): void {
    this.tell((listener) => {
      listener.onStatus(this.status);
    });
  }

  /** A fault of one listener is told to the browser, and is no fault of the stream. */
  private tell(act: (listener: StreamListener) => void): void {
    for (const listener of [...this.listeners]) {
      try {
        act(listener);
      } catch (error) {
        reportError(error);
      }
    }
  }

  private postStatus(): void {
    this.post({ kind: "status", status: this.status, cursor: this.cursor });
  }

  private post(message: Message): void {
    this.tabs.channel?.postMessage(message);
  }

  private receive(message: Message): void {
    switch (message.kind) {
      case "hello":
        if (this.leading) {
          this.postStatus();
          if (this.status.state === "live") this.post({ kind: "gap" });
        }
        break;
      case "gap":
        this.tell((listener) => {
          listener.onGap();
        });
        break;
      case "status":
        this.cursor = message.cursor ?? this.cursor;
        this.status = message.status;
        this.tellStatus();
        break;
      case "event":
        this.cursor = message.id || this.cursor;
        this.dispatch(message.name, message.data);
        break;
    }
  }

  private dispatch(name: string, data: string): void {
    this.tell((listener) => {
      if (name === "transition") listener.onTransition(JSON.parse(data) as Transition);
      else if (name === "progress") listener.onProgress(JSON.parse(data) as Progress);
      else if (name === "checksum") listener.onChecksum?.(JSON.parse(data) as ChecksumProgress);
    });
  }

  private tick(): void {
    const now = Date.now();
    const hasSlept = !document.hidden && now - this.ticked > SLEEP_MS && this.ticked > 0;
    this.ticked = now;
    if (this.leading && (hasSlept || now - this.heard > SILENT_MS)) this.connection?.abort();
  }
}
