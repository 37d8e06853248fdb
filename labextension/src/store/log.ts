// A log of a container, of which a window is loaded by ranges of bytes; a live one is followed.

import { EMPTY, type LogWindow, WINDOW_BYTES, append, endOf, prepend, windowOf } from "../rules/log";
import { asServiceError, isAbort } from "../service/errors";
import type { Bytes, IService, Query } from "../service/port";
import { Observable } from "./observable";

export type LogName = "stdout" | "stderr";

/** The bytes that are loaded at once. */
export const CHUNK = 256_000;
/** How long the service is asked to wait for more, in s, and until the next try where it cannot be asked. */
const WAIT_SECONDS = 10;
export const RETRY_MS = 5_000;

/** A log as it is loaded; a new object at each change. */
export interface LogState {
  readonly window: LogWindow;
  /** The bytes of the whole log; null where the service does not say, and answers no parts. */
  readonly size: number | null;
  /** Whether it is known that no more will be written. */
  readonly hasEnded: boolean;
  /** "none": nothing was written, or not yet. */
  readonly phase: "loading" | "none" | "shown";
  /** Whether a service that answers no parts has answered more than is shown. */
  readonly isCut: boolean;
  /** Why the latest request failed; empty if it did not. */
  readonly message: string;
}

const LOADING: LogState = {
  window: EMPTY,
  size: null,
  hasEnded: false,
  phase: "loading",
  isCut: false,
  message: "",
};

/** Keeps a live log up to date while it is watched. */
export class LogReader extends Observable<LogState> {
  private request = new AbortController();
  private isBusy = false;
  /** Whether a service that answers no parts was asked after the job had ended. */
  private isComplete = false;
  /** Whether its end is shown: what is new replaces what is oldest. */
  private isAtEnd = true;
  private wake: () => void = () => undefined;

  constructor(
    private readonly service: IService,
    private readonly path: string,
    /** Whether the job may still write to it. */
    private readonly isLive: () => boolean,
  ) {
    super(LOADING);
  }

  protected override onWatched(): void {
    this.request = new AbortController();
    void this.follow(this.request.signal);
  }

  protected override onUnwatched(): void {
    this.request.abort();
  }

  get hasEarlier(): boolean {
    return this.view.window.start > 0;
  }

  get hasLater(): boolean {
    return this.view.size !== null && endOf(this.view.window) < this.view.size;
  }

  /** Whether the end of the log is in sight, and new lines are to be, too. */
  setAtEnd(isAtEnd: boolean): void {
    if (isAtEnd === this.isAtEnd) return;
    this.isAtEnd = isAtEnd;
    if (isAtEnd) this.wake();
  }

  async earlier(): Promise<void> {
    const { start } = this.view.window;
    const seek = Math.max(0, start - CHUNK);
    const part = await this.once({ seek, length: start - seek });
    const { window } = this.view;
    if (part && window.start === start) this.set({ window: prepend(window, part.bytes) });
  }

  async later(): Promise<void> {
    const seek = endOf(this.view.window);
    const part = await this.once({ seek, length: CHUNK });
    if (part) this.append(part, seek);
  }

  async toStart(): Promise<void> {
    if (!this.hasEarlier) return;
    const part = await this.once({ seek: 0, length: CHUNK });
    if (part) this.set({ window: windowOf(part.bytes, 0), ...told(part) });
  }

  async toEnd(): Promise<void> {
    if (!this.hasLater) return;
    const part = await this.once({ tail: CHUNK });
    if (part) this.showTail(part);
  }

  private async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.isFinal) {
      try {
        await this.step(signal);
      } catch (error) {
        if (isAbort(error)) return;
        const { isUnknown, message } = asServiceError(error);
        this.set(isUnknown ? { phase: "none", message: "" } : { message });
        if (isUnknown && !this.isLive()) return;
        await this.pause(RETRY_MS, signal);
      }
    }
  }

  /** Whether nothing will be added to what is known of the log. */
  private get isFinal(): boolean {
    const { size, hasEnded } = this.view;
    return size === null ? this.isComplete : hasEnded && !this.hasLater;
  }

  /** Asks once for what is new. */
  private async step(signal: AbortSignal): Promise<void> {
    const { window, size, phase } = this.view;
    if (size === null) {
      if (phase === "shown") await this.pause(RETRY_MS, signal);
      const wait = phase === "none" ? { wait: WAIT_SECONDS } : {};
      const wasLive = this.isLive();
      this.showTail(await this.read({ tail: CHUNK, ...wait }, signal));
      this.isComplete = !wasLive;
    } else if (!this.isAtEnd && (this.hasLater || window.bytes.length > WINDOW_BYTES - CHUNK)) {
      // A person reads elsewhere, and what is read must not be dropped.
      await this.pause(Infinity, signal);
    } else {
      const seek = endOf(window);
      this.append(await this.read({ seek, length: CHUNK, wait: WAIT_SECONDS }, signal), seek);
    }
  }

  /** Adds what was asked for, unless the window has been moved meanwhile. */
  private append(part: Bytes, seek: number): void {
    const { window } = this.view;
    if (endOf(window) !== seek) return;
    const grown = part.bytes.length ? append(window, part.bytes) : window;
    this.set({ window: grown, ...told(part), phase: grown.bytes.length ? "shown" : "none", message: "" });
  }

  private showTail(part: Bytes): void {
    const { size, hasEnded } = told(part);
    this.set({
      window: windowOf(part.bytes, size === null ? 0 : size - part.bytes.length),
      size,
      hasEnded,
      phase: part.bytes.length ? "shown" : "none",
      isCut: size === null && !part.isWhole,
      message: "",
    });
  }

  private read(query: Query, signal: AbortSignal): Promise<Bytes> {
    return this.service.read(this.path, query, { limit: CHUNK, keep: "last", signal });
  }

  /** What a person asks for; one thing at once, and null for another meanwhile or if it failed. */
  private async once(query: Query): Promise<Bytes | null> {
    if (this.isBusy) return null;
    this.isBusy = true;
    try {
      return await this.read(query, this.request.signal);
    } catch (error) {
      if (!isAbort(error)) this.set({ message: asServiceError(error).message });
      return null;
    } finally {
      this.isBusy = false;
    }
  }

  private pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = ms === Infinity ? undefined : setTimeout(done, ms);
      signal.addEventListener("abort", done);
      this.wake = done;
      if (signal.aborted) done();
    });
  }
}

/** What an answer says of the whole log. */
function told(part: Bytes): Pick<LogState, "size" | "hasEnded"> {
  const size = part.header("X-CTS-Log-Size");
  return {
    size: size === null ? null : Number(size),
    hasEnded: part.header("X-CTS-Log-Ended") === "true",
  };
}
