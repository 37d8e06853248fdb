import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { ServiceError } from "../../src/service/errors";
import { KernelService, TAKEN_MS } from "../../src/service/kernel";
import { loud } from "../loud";

type Message = Record<string, unknown> & { cts: string; id: string };

class Kernel {
  readonly heard: Message[] = [];
  private readonly callbacks: ((content: unknown, buffers: readonly DataView[]) => void)[] = [];

  send(content: unknown): void {
    this.heard.push(JSON.parse(JSON.stringify(content)) as Message);
  }

  on(_: string, callback: (content: unknown, buffers: readonly DataView[]) => void): void {
    this.callbacks.push(callback);
  }

  off(_: string, callback: (content: unknown, buffers: readonly DataView[]) => void): void {
    this.callbacks.splice(this.callbacks.indexOf(callback), 1);
  }

  get last(): Message {
    return this.heard.at(-1) ?? { cts: "", id: "" };
  }

  reply(content: object, text?: string): void {
    const buffers = text === undefined ? [] : [new DataView(new TextEncoder().encode(text).buffer)];
    for (const callback of this.callbacks) callback(content, buffers);
  }
}

let kernel: Kernel;
let service: KernelService;
beforeEach(() => {
  kernel = new Kernel();
  service = new KernelService("kernel:1", kernel, loud);
});

it("asks the kernel, and takes the query out of a path", async () => {
  const answer = service.post("jobs/check?all=true", { image: "x" }, "k");
  const { id } = kernel.last;
  expect(kernel.last).toEqual({
    cts: "ask",
    id,
    method: "POST",
    path: "jobs/check",
    query: { all: "true" },
    body: { image: "x" },
    key: "k",
    in_pieces: false,
  });
  kernel.reply({ cts: "answer", id: "of another page", body: 1 });
  kernel.reply({ cts: "answer", id, body: { problems: [] } });
  expect(await answer).toEqual({ problems: [] });
});

it("rejects with what the service says", async () => {
  const answer = service.get("jobs/1").catch((error: unknown) => error);
  kernel.reply({
    cts: "refused",
    id: kernel.last.id,
    error: { status: 403, message: "Not yours", appcode: 30 },
  });
  expect(await answer).toBeInstanceOf(ServiceError);
  expect(await answer).toMatchObject({ status: 403, message: "Not yours", appcode: 30 });
});

it("reads a part of a log, with what the service says of it", async () => {
  const reading = service.read("jobs/1/log/0/stdout", { tail: 9 }, { limit: 5, keep: "last" });
  const { id, query } = kernel.last;
  expect(query).toEqual({ tail: 9 });
  kernel.reply({ cts: "piece", id, headers: { "x-cts-log-size": "7" } }, "");
  for (const piece of ["abc", "defg"]) kernel.reply({ cts: "piece", id }, piece);
  kernel.reply({ cts: "end", id });
  const found = await reading;
  expect([new TextDecoder().decode(found.bytes), found.isWhole, found.header("X-CTS-Log-Size")]).toEqual([
    "cdefg",
    false,
    "7",
  ]);
});

it("stops what it has read enough of", async () => {
  const reading = service.read("files/content", { path: "b/1" }, { limit: 2, keep: "first" });
  const { id } = kernel.last;
  kernel.reply({ cts: "piece", id, headers: {} }, "");
  kernel.reply({ cts: "piece", id }, "abc");
  expect(new TextDecoder().decode((await reading).bytes)).toBe("ab");
  expect(kernel.last).toEqual({ cts: "stop", id });
});

it("opens a stream of events, and ends it", async () => {
  const abort = new AbortController();
  const opening = service.events("7", abort.signal);
  const { id, query } = kernel.last;
  expect(query).toEqual({ after: "7" });
  kernel.reply({ cts: "piece", id, headers: {} }, "");
  const reader = (await opening).getReader();
  kernel.reply({ cts: "piece", id }, "event: x\n");
  expect(new TextDecoder().decode((await reader.read()).value)).toBe("event: x\n");
  abort.abort();
  expect(kernel.last).toEqual({ cts: "stop", id });
  await expect(reader.read()).rejects.toMatchObject({ name: "AbortError" });
});

it("says why there is no stream", async () => {
  const opening = service.events(undefined, new AbortController().signal);
  kernel.reply({ cts: "refused", id: kernel.last.id, error: { status: 404, message: "None" } });
  await expect(opening).rejects.toMatchObject({ status: 404 });
});

afterEach(() => {
  vi.useRealTimers();
});

it("does not wait for a kernel that does not take a request", async () => {
  vi.useFakeTimers();
  const answer = service.get("sites").catch((error: unknown) => error);
  const { id } = kernel.last;
  vi.advanceTimersByTime(TAKEN_MS);
  expect(await answer).toMatchObject({
    status: 0,
    message: expect.stringContaining("BUSY OR GONE") as string,
  });
  expect(kernel.last).toEqual({ cts: "stop", id });
  const opening = service.events(undefined, new AbortController().signal).catch((error: unknown) => error);
  vi.advanceTimersByTime(TAKEN_MS);
  expect(await opening).toMatchObject({ status: 0 });
});

it("waits as long as the service needs, once the kernel has taken a request", async () => {
  vi.useFakeTimers();
  const answer = service.get("sites");
  const { id } = kernel.last;
  kernel.reply({ cts: "taken", id });
  vi.advanceTimersByTime(10 * TAKEN_MS);
  kernel.reply({ cts: "answer", id, body: [] });
  expect(await answer).toEqual([]);
});

it("names no link, as none leads through a kernel", () => {
  expect(service.url()).toBeNull();
});

it("asks for nothing that nobody waits for any more", async () => {
  await expect(service.get("sites", {}, AbortSignal.abort())).rejects.toMatchObject({ name: "AbortError" });
  expect(kernel.heard.map(({ cts }) => cts)).toEqual(["stop"]);
});

it("says that the kernel is gone where nothing can be sent to it any more", async () => {
  const running = new AbortController();
  const before = service.get("whoami", {}, running.signal).catch((error: unknown) => error);
  vi.spyOn(kernel, "send").mockImplementation(() => {
    throw new Error("Cannot send");
  });
  running.abort();
  expect(await before).toMatchObject({ name: "AbortError" });
  const error = await service.post("jobs", {}).catch((refused: unknown) => refused);
  // It was not submitted: the form does not ask what became of it.
  expect(error).toMatchObject({ status: 410, isOffline: false });
  await expect(service.events(undefined, new AbortController().signal)).rejects.toMatchObject({
    status: 410,
  });
});
