// The CTS of this page's Jupyter server, asked by HTTP.

import type { ErrorEnvelope } from "../api/types";
import { ServiceError, isAbort } from "./errors";
import { readFirst, readLast } from "./body";
import { Description } from "./description";
import type { Bytes, Extent, IService, Query } from "./port";

/** Sends a request with what Jupyter wants of its pages, such as the XSRF token. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

// A browser opens six connections to a host for all of Jupyter: CTS uses two of them, besides its stream.
const PARALLEL_REQUESTS = 2;
/** Requests that the service keeps waiting, as for a log to grow: they take turns. */
const PARALLEL_WAITS = 1;
/** A difference of clocks that is no more than the time of an answer, in ms. */
const SAME_CLOCK_MS = 2_000;
const NOT_RUNNING = "The Jupyter server is not running, or you are signed out: open it in another tab";
/** What an answer that is not the service's says of a proxy in front of it, by its status. */
const OF_PROXIES: Readonly<Record<number, string>> = {
  413: "It refused the request as too large: ask whoever runs it to allow larger ones",
  502: "It does not reach the service, or was cut off from it: try again later",
  503: "There is no service behind it now: try again later",
  504: "It gave up waiting for the service, which may still be at work: look whether what you asked for was done",
};

async function failure(response: Response): Promise<ServiceError> {
  const fallback = `The service answered ${response.status}`;
  try {
    const { error } = (await response.json()) as Partial<ErrorEnvelope>;
    return new ServiceError(response.status, error?.message ?? fallback, error?.appcode, error);
  } catch {
    const ofProxy = OF_PROXIES[response.status];
    return new ServiceError(
      response.status,
      ofProxy === undefined ? fallback : `A proxy before the service answered ${response.status}. ${ofProxy}`,
    );
  }
}

/** Reads a body that may be cut, or not be the service's; rejects with ServiceError, or with AbortError. */
async function readWhole<T>(read: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (signal?.aborted || isAbort(error)) throw new DOMException("", "AbortError");
    throw new ServiceError(502, "The answer was cut off, or is not the service's");
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
  private readonly waits = new Places(PARALLEL_WAITS);
  private readonly description = new Description(() => this.get("openapi.json"));

  /** `root` is the URL of the service, with a slash at its end. */
  constructor(
    readonly root: string,
    private readonly fetch: Fetch,
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
    return this.requests.run(async () => {
      const response = await this.send(this.url(path, query), signal ? { signal } : {});
      return readWhole(() => response.json() as Promise<T>, signal);
    });
  }

  put(path: string, body?: unknown): Promise<void> {
    return this.requests.run(async () => {
      await this.send(this.url(path), { method: "PUT", ...(body !== undefined && withJson(body)) });
    });
  }

  delete(path: string): Promise<void> {
    return this.requests.run(async () => {
      await this.send(this.url(path), { method: "DELETE" });
    });
  }

  knows(method: string, path: string, parameter?: string): Promise<boolean> {
    return this.description.knows(method, path, parameter);
  }

  post<T>(path: string, body: unknown, key?: string): Promise<T> {
    return this.requests.run(async () => {
      const response = await this.send(this.url(path), {
        method: "POST",
        ...withJson(body, key === undefined ? {} : { "Idempotency-Key": key }),
      });
      return readWhole(() => response.json() as Promise<T>);
    });
  }

  read(path: string, query: Query, { limit, keep, signal }: Extent): Promise<Bytes> {
    const places = query["wait"] ? this.waits : this.requests;
    return places.run(async () => {
      const response = await this.send(this.url(path, query), signal ? { signal } : {});
      const read = keep === "first" ? readFirst : readLast;
      const body = await readWhole(() => read(bodyOf(response), limit), signal);
      return { ...body, header: (name) => response.headers.get(name) };
    });
  }

  // Not queued: a stream would hold its place for ever.
  async events(
    after: string | undefined,
    signal: AbortSignal,
    path = "events",
  ): Promise<ReadableStream<Uint8Array>> {
    return bodyOf(await this.send(this.url(path, { after }), { signal }));
  }

  private async send(url: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await this.fetch(url, { cache: "no-cache", ...init });
    } catch (error) {
      if (init.signal?.aborted || isAbort(error)) throw new DOMException("", "AbortError");
      throw new ServiceError(0, "The Jupyter server cannot be reached");
    }
    if (response.redirected && !response.url.startsWith(this.root.slice(0, -1))) {
      // What is before the Jupyter server answers in its place: a hub, or a page to sign in.
      throw new ServiceError(0, NOT_RUNNING);
    }
    const ahead = Date.parse(response.headers.get("date") ?? "") - Date.now();
    if (!Number.isNaN(ahead)) this.clockOffset = Math.abs(ahead) < SAME_CLOCK_MS ? 0 : ahead;
    if (!response.ok) throw await failure(response);
    return response;
  }
}

/** A body that is JSON and says so: of any other the service reads a text. */
function withJson(body: unknown, headers: Record<string, string> = {}): RequestInit {
  return { body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } };
}

function bodyOf(response: Response): ReadableStream<Uint8Array> {
  return response.body ?? new Blob([]).stream();
}
