// The CTS of this page's Jupyter server, asked by HTTP.

import type { ErrorEnvelope } from "../api/types";
import type { Translator } from "../rules/translator";
import { ServiceError, isAbort } from "./errors";
import { readFirst, readLast } from "./body";
import { Description } from "./description";
import type { Bytes, Extent, IService, Query } from "./port";

/** Sends a request with what Jupyter wants of its pages, such as the XSRF token. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

// A browser opens six connections to a host for all of Jupyter: CTS uses two of them, besides its stream.
const PARALLEL_REQUESTS = 2;
/** What changes something is not kept waiting by long lists. */
const PARALLEL_CHANGES = 1;
/** Requests that the service keeps waiting, as for a log to grow: they take turns. */
const PARALLEL_WAITS = 1;
/** How long an answer may take: a connection that was lost without a word would keep its place for ever. */
export const ANSWER_MS = 60_000;
/** Changes may take long, and whoever gives one up does not know whether it was made. */
export const CHANGE_MS = 300_000;
/** A difference of clocks that is no more than the time of an answer, in ms. */
const SAME_CLOCK_MS = 2_000;

/** What an answer that is not the service's says of a proxy in front of it; empty for any other status. */
function explainProxy(status: number, tr: Translator): string {
  switch (status) {
    case 413:
      return tr.__("It refused the request as too large: ask whoever runs it to allow larger ones");
    case 502:
      return tr.__("It does not reach the service, or was cut off from it: try again later");
    case 503:
      return tr.__("There is no service behind it now: try again later");
    case 504:
      return tr.__(
        "It gave up waiting for the service, which may still be at work: look whether what you asked for was done",
      );
    default:
      return "";
  }
}

async function failure(response: Response, tr: Translator): Promise<ServiceError> {
  const { status } = response;
  const fallback = explainOther(status, tr);
  try {
    const { error } = (await response.json()) as Partial<ErrorEnvelope>;
    return new ServiceError(status, error?.message ?? fallback, error?.appcode, error);
  } catch {
    const ofProxy = explainProxy(status, tr);
    return new ServiceError(
      status,
      ofProxy ? tr.__("A proxy before the service answered %1. %2", status, ofProxy) : fallback,
    );
  }
}

/** What an answer that is not the service's means, which is Jupyter's as a rule. */
function explainOther(status: number, tr: Translator): string {
  switch (status) {
    case 401:
      return tr.__("You are signed out of Jupyter: sign in again in another tab");
    case 404:
      return tr.__("This Jupyter server has no CTS, or an older one without this");
    default:
      return tr.__("The service answered %1", status);
  }
}

/** Lets so many tasks run at once; the others wait for their turn. */
class Places {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly limit: number) {}

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.running >= this.limit) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running += 1;
    try {
      return await task();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.running -= 1;
    }
  }
}

export class ServerService implements IService {
  clockOffset = 0;
  private readonly requests = new Places(PARALLEL_REQUESTS);
  private readonly changes = new Places(PARALLEL_CHANGES);
  private readonly waits = new Places(PARALLEL_WAITS);
  private readonly description = new Description(() => this.get("openapi.json"));

  /** `root` is the URL of the service, with a slash at its end. */
  constructor(
    readonly root: string,
    private readonly fetch: Fetch,
    readonly tr: Translator,
  ) {}

  url(path: string, query: Query = {}): string {
    const url = new URL(path, this.root);
    for (const [name, value] of Object.entries(query)) {
      if (value === undefined) continue;
      for (const one of Array.isArray(value) ? (value as string[]) : [value]) {
        url.searchParams.append(name, String(one));
      }
    }
    return url.href;
  }

  get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> {
    return this.requests.run(() =>
      this.within(
        ANSWER_MS,
        async (either) => {
          const response = await this.send(this.url(path, query), { signal: either });
          return this.readWhole(() => response.json() as Promise<T>, either);
        },
        signal,
      ),
    );
  }

  put(path: string, body?: unknown): Promise<void> {
    return this.change(path, { method: "PUT", ...(body !== undefined && withJson(body)) }, nothing);
  }

  delete(path: string): Promise<void> {
    return this.change(path, { method: "DELETE" }, nothing);
  }

  knows(method: string, path: string, parameter?: string): Promise<boolean> {
    return this.description.knows(method, path, parameter);
  }

  post<T>(path: string, body: unknown, key?: string): Promise<T> {
    const headers = key === undefined ? {} : { "Idempotency-Key": key };
    return this.change(
      path,
      { method: "POST", ...withJson(body, headers) },
      (response) => response.json() as Promise<T>,
    );
  }

  read(path: string, query: Query, { limit, keep, signal }: Extent): Promise<Bytes> {
    const wait = Number(query["wait"] ?? 0);
    const places = wait ? this.waits : this.requests;
    return places.run(() =>
      this.within(
        ANSWER_MS + wait * 1000,
        async (either) => {
          const response = await this.send(this.url(path, query), { signal: either });
          const read = keep === "first" ? readFirst : readLast;
          const body = await this.readWhole(() => read(bodyOf(response), limit), either);
          return { ...body, header: (name: string) => response.headers.get(name) };
        },
        signal,
      ),
    );
  }

  // Not queued: a stream would hold its place for ever.
  async events(
    after: string | undefined,
    signal: AbortSignal,
    path = "events",
  ): Promise<ReadableStream<Uint8Array>> {
    return bodyOf(await this.send(this.url(path, { after }), { signal }));
  }

  private change<T>(path: string, init: RequestInit, read: (response: Response) => Promise<T>): Promise<T> {
    return this.changes.run(() =>
      this.within(CHANGE_MS, async (signal) => {
        const response = await this.send(this.url(path), { ...init, signal });
        return this.readWhole(() => read(response), signal);
      }),
    );
  }

  /** Reads a body that may be cut, or not be the service's; rejects with ServiceError, or with AbortError. */
  private async readWhole<T>(read: () => Promise<T>, signal: AbortSignal): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (signal.aborted || isAbort(error)) throw new DOMException("", "AbortError");
      throw new ServiceError(502, this.tr.__("The answer was cut off, or is not the service's"));
    }
  }

  /** Ends what takes longer than so many milliseconds, as if no server had answered. */
  private async within<T>(
    ms: number,
    task: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const limit = new AbortController();
    const timer = setTimeout(() => {
      limit.abort();
    }, ms);
    try {
      return await task(signal ? AbortSignal.any([signal, limit.signal]) : limit.signal);
    } catch (error) {
      if (!limit.signal.aborted || signal?.aborted) throw error;
      throw new ServiceError(
        0,
        this.tr.__("No answer came for so long that the connection seems to be lost"),
      );
    } finally {
      clearTimeout(timer);
    }
  }

  private async send(url: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await this.fetch(url, { cache: "no-cache", ...init });
    } catch (error) {
      if (init.signal?.aborted || isAbort(error)) throw new DOMException("", "AbortError");
      throw new ServiceError(0, this.tr.__("The Jupyter server cannot be reached"));
    }
    if (response.redirected && !response.url.startsWith(this.root.slice(0, -1))) {
      // What is before the Jupyter server answers in its place: a hub, or a page to sign in.
      throw new ServiceError(
        0,
        this.tr.__("The Jupyter server is not running, or you are signed out: open it in another tab"),
      );
    }
    const ahead = Date.parse(response.headers.get("date") ?? "") - Date.now();
    if (!Number.isNaN(ahead)) this.clockOffset = Math.abs(ahead) < SAME_CLOCK_MS ? 0 : ahead;
    if (!response.ok) throw await failure(response, this.tr);
    return response;
  }
}

/** A body that is JSON and says so: of any other the service reads a text. */
function withJson(body: unknown, headers: Record<string, string> = {}): RequestInit {
  return { body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } };
}

async function nothing(): Promise<void> {
  // The answer to what only changes something has no body.
}

function bodyOf(response: Response): ReadableStream<Uint8Array> {
  return response.body ?? new Blob([]).stream();
}
