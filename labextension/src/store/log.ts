// A log of a container, of which a window is loaded by ranges of bytes; a live one is followed.

import {
  EMPTY,
  type LogWindow,
  WINDOW_BYTES,
  append,
  around,
  endOf,
  findRow,
  hasText,
  isOpen,
  prepend,
  rowPlace,
  windowOf,
} from "../rules/log";
import { asServiceError, isAbort } from "../service/errors";
import type { Bytes, IService, Query } from "../service/port";
import { Observable } from "./observable";

export type LogName = "stdout" | "stderr";

/** The bytes that are loaded at once. */
export const CHUNK = 256_000;
/** The bytes that a search looks through at once. */
export const SEARCHED = 1_000_000;
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
  /** The place that a search beyond the window has come to; null while there is none. */
  readonly searched: number | null;
  /** Why the latest request failed; empty if it did not. */
  readonly message: string;
}

const LOADING: LogState = {
  window: EMPTY,
  size: null,
  hasEnded: false,
  phase: "loading",
  isCut: false,
  searched: null,
  message: "",
};

/** The place of the row that a search has found, or why there is none. */
export type Found = number | "none" | "stopped";

/** Keeps a live log up to date while it is watched. */
export class LogReader extends Observable<LogState> {
  private request = new AbortController();
  /** Ends the search that goes on. */
  private searching = new AbortController();
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
    this.stopSearch();
    if (!this.hasEarlier) return;
    const part = await this.once({ seek: 0, length: CHUNK });
    if (part) this.set({ window: windowOf(part.bytes, 0), ...told(part) });
  }

  async toEnd(): Promise<void> {
    this.stopSearch();
    if (!this.hasLater) return;
    const part = await this.once({ tail: CHUNK });
    if (part) this.showTail(part);
  }

  /**
   * Looks through what is after the window, or before it, for the next row that has a text, and shows what is around it.
   * A search that goes on ends.
   */
  async search(wanted: string, step: 1 | -1): Promise<Found> {
    this.stopSearch();
    const { signal } = (this.searching = new AbortController());
    const either = AbortSignal.any([this.request.signal, signal]);
    try {
      const found = await (step > 0 ? this.searchAfter(wanted, either) : this.searchBefore(wanted, either));
      if (!found) return "none";
      const [part, row] = found;
      const place = rowPlace(part, row);
      this.setAtEnd(false);
      this.set({ window: around(part, row), message: "" });
      return place;
    } catch (error) {
      if (!isAbort(error)) this.set({ message: asServiceError(error).message });
      return "stopped";
    } finally {
      if (this.searching.signal === signal) this.set({ searched: null });
    }
  }

  stopSearch(): void {
    this.searching.abort();
  }

  private async searchAfter(wanted: string, signal: AbortSignal): Promise<[LogWindow, number] | null> {
    let seek = endAfter(this.view.window, wanted);
    for (;;) {
      this.set({ searched: seek });
      const { size, part } = await this.part(seek, SEARCHED, signal);
      const row = findRow(part, wanted, 1);
      if (row >= 0) return [part, row];
      if (!part.bytes.length || endOf(part) >= size) return null;
      // The rest of a line that was cut belongs to its beginning.
      seek = endAfter(part, wanted);
    }
  }

  private async searchBefore(wanted: string, signal: AbortSignal): Promise<[LogWindow, number] | null> {
    let end = beginBefore(this.view.window, wanted);
    while (end > 0) {
      this.set({ searched: end });
      const seek = Math.max(0, end - SEARCHED);
      const { part } = await this.part(seek, end - seek, signal);
      const row = findRow(part, wanted, -1);
      if (row >= 0) return [part, row];
      end = seek > 0 ? beginBefore(part, wanted) : 0;
    }
    return null;
  }

  private async part(
    seek: number,
    length: number,
    signal: AbortSignal,
  ): Promise<{ part: LogWindow; size: number }> {
    const answer = await this.read({ seek, length }, signal, SEARCHED);
    return { part: windowOf(answer.bytes, seek), size: told(answer).size ?? 0 };
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
    } else if (size - endOf(window) > WINDOW_BYTES) {
      // Nothing of what is loaded would be left on the way to the end, which is what is followed.
      const part = await this.read({ tail: CHUNK }, signal);
      if (this.isAtEnd) this.showTail(part);
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

  private read(query: Query, signal: AbortSignal, limit = CHUNK): Promise<Bytes> {
    return this.service.read(this.path, query, { limit, keep: "last", signal });
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

/** Where a search goes on after a window: at its last row again, if that goes on and does not have the text so far. */
function endAfter(window: LogWindow, wanted: string): number {
  const last = window.rows.length - 1;
  return last > 0 && isOpen(window) && !hasText(window, last, wanted)
    ? rowPlace(window, last)
    : endOf(window);
}

/** Where one ends before a window: after its first row, which may have begun earlier, unless that has the text. */
function beginBefore(window: LogWindow, wanted: string): number {
  if (window.rows.length < 2 || hasText(window, 0, wanted)) return window.start;
  return rowPlace(window, 1);
}

/** What an answer says of the whole log. */
function told(part: Bytes): Pick<LogState, "size" | "hasEnded"> {
  const size = part.header("X-CTS-Log-Size");
  return {
    size: size === null ? null : Number(size),
    hasEnded: part.header("X-CTS-Log-Ended") === "true",
  };
}
