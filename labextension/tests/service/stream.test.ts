import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { ServiceError } from "../../src/service/errors";
import {
  EventStream,
  SILENT_MS,
  type StreamListener,
  type StreamStatus,
  type Tabs,
} from "../../src/service/stream";
import { loud } from "../loud";
import { ScriptedService } from "./scripted";

class Listener implements StreamListener {
  constructor(readonly needsHidden = false) {}
  readonly told: string[] = [];
  readonly statuses: StreamStatus[] = [];
  get status(): StreamStatus | undefined {
    return this.statuses.at(-1);
  }
  onTransition = ({ job_id, state }: { job_id: string; state: string }): void =>
    void this.told.push(`${job_id} ${state}`);
  onProgress = ({ job_id }: { job_id: string }): void => void this.told.push(`${job_id} progress`);
  onGap = (): void => void this.told.push("gap");
  onStatus = (status: StreamStatus): void => void this.statuses.push(status);
}

/** Locks and channels as browsers have them, for tabs within one test. */
class Browser {
  private readonly channels: FakeChannel[] = [];
  private held: Promise<unknown> = Promise.resolve();

  tab(): Tabs {
    const channel = new FakeChannel(this.channels);
    this.channels.push(channel);
    const request = (
      _: string,
      { signal }: { signal: AbortSignal },
      run: () => Promise<void>,
    ): Promise<void> => {
      const turn = this.held.then(() => {
        if (signal.aborted) throw new DOMException("", "AbortError");
        return run();
      });
      this.held = turn.catch(() => undefined);
      return turn;
    };
    return { locks: { request } as unknown as LockManager, channel: channel as unknown as BroadcastChannel };
  }
}

class FakeChannel extends EventTarget {
  constructor(private readonly all: FakeChannel[]) {
    super();
  }
  postMessage(data: unknown): void {
    for (const other of this.all)
      if (other !== this) other.dispatchEvent(new MessageEvent("message", { data }));
  }
}

function setHidden(hidden: boolean): void {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}

const passTime = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

let service: ScriptedService;
let listener: Listener;
beforeEach(() => {
  vi.useFakeTimers();
  service = new ScriptedService();
  service.answers.set("", {});
  listener = new Listener();
});
afterEach(() => {
  setHidden(false);
  vi.useRealTimers();
});

it("tells of events, and resumes at its cursor", async () => {
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(0);
  expect(listener.status?.state).toBe("live");
  service.streams[0]?.event("begin", {}, "t1");
  service.streams[0]?.event("transition", { job_id: "a", state: "created" }, "t2");
  service.streams[0]?.event("progress", { job_id: "a" });
  await passTime(0);
  expect(listener.told).toEqual(["gap", "a created", "a progress"]);
  service.streams[0]?.end();
  await passTime(2_000);
  expect(service.streams.map(({ after }) => after)).toEqual([undefined, "t2"]);
});

it("takes a silent stream for dead, says so, and opens another", async () => {
  service.tr = loud;
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(SILENT_MS / 2);
  service.streams[0]?.event("ping", {});
  await passTime(SILENT_MS / 2 + 2_000);
  expect(service.streams).toHaveLength(1);
  await passTime(SILENT_MS / 2);
  await passTime(4_000);
  expect(listener.statuses.map(({ state }) => state)).toEqual(["connecting", "live", "connecting", "live"]);
  expect(listener.statuses[2]?.reason).toContain("40 SECONDS");
  expect(service.streams).toHaveLength(2);
});

it("opens another where the network is lost, and says that it cannot", async () => {
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(0);
  service.refusal = new ServiceError(0, "The Jupyter server cannot be reached");
  window.dispatchEvent(new Event("offline"));
  await passTime(2_000);
  expect(service.streams[0]?.signal.aborted).toBe(true);
  expect(listener.status).toMatchObject({ state: "offline", reason: "The Jupyter server cannot be reached" });
  service.refusal = null;
  window.dispatchEvent(new Event("online"));
  await passTime(0);
  expect(listener.status?.state).toBe("live");
});

it("is closed while the tab is hidden", async () => {
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(0);
  setHidden(true);
  expect(service.streams[0]?.signal.aborted).toBe(true);
  await passTime(60_000);
  expect(service.streams).toHaveLength(1);
  setHidden(false);
  await passTime(0);
  expect(service.streams).toHaveLength(2);
});

it("stays open in a hidden tab for one who needs it there, however late its timers are", async () => {
  const stream = new EventStream(service, new Browser().tab());
  const told = new Listener(true);
  stream.add(listener);
  stream.add(told);
  await passTime(0);
  setHidden(true);
  for (let minutes = 0; minutes < 3; minutes += 1) {
    service.streams[0]?.event("ping", {});
    // Nothing runs in this minute; then all that waits.
    vi.setSystemTime(Date.now() + 35_000);
    await passTime(1_000);
  }
  expect(service.streams.map(({ signal }) => signal.aborted)).toEqual([false]);
  service.streams[0]?.event("transition", { job_id: "a", state: "complete" }, "t1");
  await passTime(0);
  expect(told.told.at(-1)).toBe("a complete");
  stream.remove(told);
  expect(service.streams[0]?.signal.aborted).toBe(true);
});

it("opens in a tab that is hidden from the start for one who needs it there", async () => {
  setHidden(true);
  const stream = new EventStream(service, new Browser().tab());
  stream.add(listener);
  await passTime(0);
  expect(service.streams).toEqual([]);
  stream.add(new Listener(true));
  await passTime(0);
  expect(service.streams).toHaveLength(1);
});

it("is closed in each hidden tab where tabs cannot share it", async () => {
  const stream = new EventStream(service, {});
  stream.add(new Listener(true));
  await passTime(0);
  setHidden(true);
  expect(service.streams[0]?.signal.aborted).toBe(true);
});

it("is closed while nobody listens", async () => {
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(0);
  stream.remove(listener);
  expect(service.streams[0]?.signal.aborted).toBe(true);
});

it.each([
  [new ServiceError(0, "The Jupyter server cannot be reached"), "offline"],
  [new ServiceError(503, "Away"), "offline"],
  [new ServiceError(401, "Sign in", 10000), "offline"],
  [new ServiceError(401, "Sign in"), "signed-out"],
  [new ServiceError(403, "Sign in"), "signed-out"],
  [new ServiceError(404, "No such route"), "asking"],
] as const)("after %s is %s, and tries again", async (refusal, state) => {
  service.refusal = refusal;
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(0);
  expect(listener.status?.state).toBe(state);
  service.refusal = null;
  await passTime(2_000);
  expect(listener.status?.state).toBe("live");
});

it("asks at once when a person says so", async () => {
  service.refusal = new ServiceError(0, "");
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(20_000);
  service.refusal = null;
  stream.tryNow();
  await passTime(0);
  expect(listener.status?.state).toBe("live");
});

it("asks sooner again once somebody begins to look", async () => {
  service.refusal = new ServiceError(404, "Not Found");
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(300_000);
  expect(listener.status?.state).toBe("asking");
  const another = new Listener();
  stream.add(another);
  await passTime(3_000);
  expect(another.told.length).toBeGreaterThan(1);
});

it("is one for all tabs, and another tab goes on with it", async () => {
  const browser = new Browser();
  const first = new EventStream(service, browser.tab());
  const leader = new Listener();
  first.add(leader);
  await passTime(0);
  service.streams[0]?.event("begin", {}, "t1");
  const second = new EventStream(service, browser.tab());
  second.add(listener);
  await passTime(0);
  expect(service.streams).toHaveLength(1);
  expect(listener.status?.state).toBe("live");
  expect(listener.told).toEqual(["gap"]);
  service.streams[0]?.event("transition", { job_id: "a", state: "created" }, "t2");
  await passTime(0);
  expect(listener.told).toEqual(["gap", "a created"]);
  first.remove(leader);
  await passTime(0);
  expect(service.streams.map(({ after }) => after)).toEqual([undefined, "t2"]);
});

it("asks no more where there is no service, until somebody looks", async () => {
  service.answers.delete("");
  service.refusal = new ServiceError(404, "Not Found");
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(3_600_000);
  expect(listener.status?.state).toBe("absent");
  expect(service.asked).toEqual([""]);
  stream.add(new Listener());
  await passTime(3_600_000);
  expect(service.asked).toEqual(["", ""]);
});

it("asks rarely where a service has never answered, and often where one has", async () => {
  const opened = vi.spyOn(service, "events");
  service.refusal = new ServiceError(503, "CTS did not start: no disk");
  const stream = new EventStream(service, {});
  stream.add(listener);
  await passTime(3_600_000);
  const rare = opened.mock.calls.length;
  expect(rare).toBeLessThan(30);
  service.refusal = null;
  stream.tryNow();
  await passTime(0);
  service.refusal = new ServiceError(503, "Away");
  service.streams[0]?.end();
  await passTime(3_600_000);
  expect(opened.mock.calls.length - rare).toBeGreaterThan(60);
});

it("leaves nothing in the page once nobody listens", () => {
  const clear = vi.spyOn(globalThis, "clearInterval");
  const signals: AbortSignal[] = [];
  for (const target of [document, window]) {
    vi.spyOn(target as EventTarget, "addEventListener").mockImplementation((_, __, options) => {
      signals.push((options as { signal: AbortSignal }).signal);
    });
  }
  const stream = new EventStream(new ScriptedService(), {});
  expect(signals).toEqual([]);
  const listener = new Listener();
  stream.add(listener);
  expect(signals).toHaveLength(5);
  clear.mockClear();
  stream.remove(listener);
  expect(signals.every(({ aborted }) => aborted)).toBe(true);
  expect(clear).toHaveBeenCalled();
  vi.restoreAllMocks();
});

it("tells the browser of a listener's fault, and goes on for the others", async () => {
  const faults: unknown[] = [];
  vi.stubGlobal("reportError", (error: unknown) => faults.push(error));
  const fault = new TypeError("no such job");
  const stream = new EventStream(service, {});
  const wrong = new Listener();
  wrong.onTransition = () => {
    throw fault;
  };
  stream.add(wrong);
  stream.add(listener);
  await passTime(0);
  service.streams[0]?.event("transition", { job_id: "a", state: "created" }, "t1");
  await passTime(5_000);
  expect(faults).toEqual([fault]);
  expect(listener.told.at(-1)).toBe("a created");
  expect(listener.status?.state).toBe("live");
  expect(service.streams).toHaveLength(1);
  vi.unstubAllGlobals();
});
