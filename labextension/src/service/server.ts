// The CTS of this page's Jupyter server, asked by HTTP.

import type { ErrorEnvelope } from "../api/types";
import { ServiceError, isAbort } from "./errors";
import { Description } from "./description";
import type { IService, Query, Tail } from "./port";

/** Sends a request with what Jupyter wants of its pages, such as the XSRF token. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

// A browser opens six connections to a host for all of Jupyter: CTS uses two of them, besides its stream.
const PARALLEL_REQUESTS = 2;
/** A difference of clocks that is no more than the time of an answer, in ms. */
const SAME_CLOCK_MS = 2_000;
const PIECES_KEPT = 4;

async function failure(response: Response): Promise<ServiceError> {
  const fallback = `The service answered ${response.status}`;
  try {
    const { error } = (await response.json()) as Partial<ErrorEnvelope>;
    return new ServiceError(response.status, error?.message ?? fallback, error?.appcode, error);
  } catch {
    // Not an answer of CTS, but of a proxy, say: it has a status alone.
    return new ServiceError(response.status, fallback);
  }
}

export class ServerService implements IService {
  clockOffset = 0;
  private running = 0;
  private readonly waiting: (() => void)[] = [];
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
    return this.queued(async () => {
      const response = await this.send(this.url(path, query), signal ? { signal } : {});
      return (await response.json()) as T;
    });
  }

  put(path: string, body?: unknown): Promise<void> {
    return this.queued(async () => {
      await this.send(this.url(path), { method: "PUT", ...(body !== undefined && withJson(body)) });
    });
  }

  delete(path: string): Promise<void> {
    return this.queued(async () => {
      await this.send(this.url(path), { method: "DELETE" });
    });
  }

  knows(method: string, path: string, parameter?: string): Promise<boolean> {
    return this.description.knows(method, path, parameter);
  }

  post<T>(path: string, body: unknown, key?: string): Promise<T> {
    return this.queued(async () => {
      const response = await this.send(this.url(path), {
        method: "POST",
        ...withJson(body, key === undefined ? {} : { "Idempotency-Key": key }),
      });
      return (await response.json()) as T;
    });
  }

  tail(path: string, keep: number, signal?: AbortSignal): Promise<Tail> {
    return this.queued(async () => {
      const response = await this.send(this.url(path), signal ? { signal } : {});
      const reader = bodyOf(response).pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      let isWhole = true;
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return { text: text.slice(-keep), isWhole: isWhole && text.length <= keep };
        text += value;
        if (text.length > PIECES_KEPT * keep) {
          text = text.slice(-keep);
          isWhole = false;
        }
      }
    });
  }

  // Not queued: a stream would hold its place for ever.
  async events(after: string | undefined, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    return bodyOf(await this.send(this.url("events", { after }), { signal }));
  }

  private async queued<T>(task: () => Promise<T>): Promise<T> {
    if (this.running >= PARALLEL_REQUESTS) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running += 1;
    try {
      return await task();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.running -= 1;
    }
  }

  private async send(url: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await this.fetch(url, { cache: "no-cache", ...init });
    } catch (error) {
      if (init.signal?.aborted || isAbort(error)) throw new DOMException("", "AbortError");
      throw new ServiceError(0, "The Jupyter server cannot be reached");
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
