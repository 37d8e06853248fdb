// A service that answers what a test says.

import { type Translator, english } from "../../src/rules/translator";
import { ServiceError } from "../../src/service/errors";
import type { Bytes, Extent, IService, Query } from "../../src/service/port";

type Answer = unknown;

export class ScriptedService implements IService {
  readonly root = "https://lab.test/user/ana/cts/";
  tr: Translator = english;
  clockOffset = 0;
  /** Paths that were asked, with their queries. */
  readonly asked: string[] = [];
  readonly posted: { path: string; body: unknown; key: string | undefined }[] = [];
  readonly stored: { path: string; body: unknown }[] = [];
  /** What a path answers, or rejects with if it is an error. */
  readonly answers = new Map<string, Answer>();
  /** Streams that were opened, with the cursor of each; a test writes into them. */
  readonly streams: Stream[] = [];
  /** What opening a stream rejects with. */
  refusal: ServiceError | null = null;

  /** Paths, or paths with a parameter, that an older service does not have. */
  readonly lacks = new Set<string>();

  /** Whether a link of the page leads to it. */
  hasLinks = true;

  url(path: string, query?: Query): string | null {
    return this.hasLinks ? this.root + this.name(path, query) : null;
  }

  private name(path: string, query: Query = {}): string {
    const words = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
    return `${path}${words.size ? `?${words.toString()}` : ""}`;
  }

  get<T>(path: string, query?: Query): Promise<T> {
    this.asked.push(this.name(path, query));
    return this.answer(path, query) as Promise<T>;
  }

  put(path: string, body?: unknown): Promise<void> {
    this.stored.push({ path, body });
    this.asked.push(`PUT ${path}`);
    return this.answer(`PUT ${path}`) as Promise<void>;
  }

  delete(path: string): Promise<void> {
    this.asked.push(`DELETE ${path}`);
    return this.answer(`DELETE ${path}`) as Promise<void>;
  }

  knows(_: string, path: string, parameter?: string): Promise<boolean> {
    return Promise.resolve(!this.lacks.has(parameter === undefined ? path : `${path} ${parameter}`));
  }

  post<T>(path: string, body: unknown, key?: string): Promise<T> {
    this.posted.push({ path, body, key });
    this.asked.push(`POST ${path}`);
    return this.answer(`POST ${path}`) as Promise<T>;
  }

  /** An answer is `Bytes`, or a text that the service answers whole. */
  async read(path: string, query: Query, { limit, keep, signal }: Extent): Promise<Bytes> {
    this.asked.push(this.name(path, query));
    const aborted = new Promise((_, reject) => {
      signal?.addEventListener("abort", () => {
        reject(new DOMException("", "AbortError"));
      });
    });
    const answer = await Promise.race([this.answer(path, query), aborted]);
    if (typeof answer !== "string") return answer as Bytes;
    const bytes = new TextEncoder().encode(answer);
    const kept = keep === "first" ? bytes.slice(0, limit) : bytes.slice(-limit);
    return { bytes: kept, isWhole: bytes.length <= limit, header: () => null };
  }

  events(
    after: string | undefined,
    signal: AbortSignal,
    path = "events",
  ): Promise<ReadableStream<Uint8Array>> {
    if (this.refusal) return Promise.reject(this.refusal);
    if (this.lacks.has(`/${path}`)) return Promise.reject(new ServiceError(404, `No ${path}`));
    const stream = new Stream(after, signal, path);
    this.streams.push(stream);
    return Promise.resolve(stream.body);
  }

  private async answer(path: string, query: Query = {}): Promise<unknown> {
    await Promise.resolve();
    if (!this.answers.has(path)) throw new ServiceError(404, `No ${path}`);
    const answer = this.answers.get(path);
    if (answer instanceof Error) throw answer;
    return typeof answer === "function" ? (answer as (query: Query) => unknown)(query) : answer;
  }
}

export class Stream {
  readonly body: ReadableStream<Uint8Array>;
  private controller!: ReadableStreamDefaultController<Uint8Array>;

  constructor(
    readonly after: string | undefined,
    readonly signal: AbortSignal,
    readonly path: string,
  ) {
    this.body = new ReadableStream({ start: (controller) => void (this.controller = controller) });
    signal.addEventListener("abort", () => {
      this.controller.error(new DOMException("", "AbortError"));
    });
  }

  send(text: string): void {
    this.controller.enqueue(new TextEncoder().encode(text));
  }

  event(name: string, data: unknown, id = ""): void {
    this.send(`event: ${name}\n${id && `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`);
  }

  end(): void {
    this.controller.close();
  }
}
