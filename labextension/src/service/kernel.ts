// A CTS that the page does not reach, asked through the kernel: where there is no Jupyter server in reach, or another one.

import type { ErrorDetail } from "../api/types";
import type { Translator } from "../rules/translator";
import { Description } from "./description";
import { ServiceError } from "./errors";
import { readFirst, readLast } from "./body";
import type { Bytes, Extent, IService, Query } from "./port";

/** What a widget's model is to this: messages to and from the kernel. */
export interface Channel {
  send(content: unknown): void;
  on(event: "msg:custom", callback: Heard): void;
  off(event: "msg:custom", callback: Heard): void;
}
type Heard = (content: unknown, buffers: readonly DataView[]) => void;

interface Refusal {
  status: number;
  message: string;
  appcode?: number;
  detail?: Partial<ErrorDetail>;
}
type Reply = { id: string } & (
  | { cts: "taken" }
  | { cts: "answer"; body: unknown }
  | { cts: "refused"; error: Refusal }
  | { cts: "piece"; headers?: Record<string, string> }
  | { cts: "end" }
);
/** The first piece is empty, and has the headers of the answer. */
type Piece = (bytes: Uint8Array, headers?: Record<string, string>) => void;
interface Opened {
  body: ReadableStream<Uint8Array>;
  headers: Record<string, string>;
}
interface Waiting {
  taken: () => void;
  piece?: Piece;
  done: (body: unknown) => void;
  failed: (error: ServiceError) => void;
}

/** A kernel says at once that a request has come, unless it runs a cell or is gone. */
export const TAKEN_MS = 20_000;
/** As HTTP's 410: nothing was asked, and nothing will be. */
const GONE = 410;

/** Returns false where the kernel is gone, for which the channels of JupyterLab throw. */
export function sendTo(channel: Channel, content: unknown): boolean {
  try {
    channel.send(content);
    return true;
  } catch {
    return false;
  }
}

let count = 0;

export class KernelService implements IService {
  readonly clockOffset = 0;
  private readonly waiting = new Map<string, Waiting>();
  // All pages of a kernel hear what it answers to one of them.
  private readonly name = Math.random().toString(36).slice(2);
  private readonly description = new Description(() => this.get("openapi.json"));

  constructor(
    readonly root: string,
    private readonly channel: Channel,
    readonly tr: Translator,
  ) {
    channel.on("msg:custom", this.hear);
  }

  /** Hears no more of the kernel: what has no answer yet was lost. */
  close(): void {
    this.channel.off("msg:custom", this.hear);
    const error = new ServiceError(0, this.tr.__("It was closed before the answer came"));
    for (const { failed } of [...this.waiting.values()]) failed(error);
  }

  /** No link leads through a kernel. */
  url(): null {
    return null;
  }

  get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> {
    return this.ask("GET", path, { query }, signal) as Promise<T>;
  }

  async put(path: string, body?: unknown): Promise<void> {
    await this.ask("PUT", path, { body });
  }

  async delete(path: string): Promise<void> {
    await this.ask("DELETE", path);
  }

  post<T>(path: string, body: unknown, key?: string): Promise<T> {
    return this.ask("POST", path, { body, key }) as Promise<T>;
  }

  knows(method: string, path: string, parameter?: string): Promise<boolean> {
    return this.description.knows(method, path, parameter);
  }

  async read(path: string, query: Query, { limit, keep, signal }: Extent): Promise<Bytes> {
    const { body, headers } = await this.open(path, query, signal);
    const found = keep === "first" ? await readFirst(body, limit) : await readLast(body, limit);
    return { ...found, header: (name) => headers[name.toLowerCase()] ?? null };
  }

  async events(
    after: string | undefined,
    signal: AbortSignal,
    path = "events",
  ): Promise<ReadableStream<Uint8Array>> {
    return (await this.open(path, { after }, signal)).body;
  }

  private open(path: string, query: Query, signal?: AbortSignal): Promise<Opened> {
    const cancel = new AbortController();
    const either = signal ? AbortSignal.any([signal, cancel.signal]) : cancel.signal;
    return new Promise((resolve, reject) => {
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => {
          this.ask("GET", path, { query }, either, (bytes, headers) => {
            if (headers) resolve({ body, headers });
            if (bytes.length) controller.enqueue(bytes);
          }).then(
            () => {
              controller.close();
            },
            (error: unknown) => {
              reject(error instanceof Error ? error : new Error(String(error)));
              if (!cancel.signal.aborted) controller.error(error);
            },
          );
        },
        cancel: () => {
          cancel.abort();
        },
      });
    });
  }

  private ask(
    method: string,
    path: string,
    options: { query?: Query | undefined; body?: unknown; key?: string | undefined } = {},
    signal?: AbortSignal,
    piece?: Piece,
  ): Promise<unknown> {
    const id = `${this.name}-${(count += 1)}`;
    const [name, inPath] = path.split("?");
    const query = { ...Object.fromEntries(new URLSearchParams(inPath)), ...options.query };
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.waiting.delete(id);
        signal?.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        end();
        sendTo(this.channel, { cts: "stop", id });
        reject(new DOMException("", "AbortError"));
      };
      const timer = setTimeout(() => {
        end();
        sendTo(this.channel, { cts: "stop", id });
        const busy = this.tr.__(
          "The kernel is busy or gone: try again when its cells have ended, or start it anew",
        );
        reject(new ServiceError(0, busy));
      }, TAKEN_MS);
      if (signal?.aborted) {
        abort();
        return;
      }
      signal?.addEventListener("abort", abort);
      this.waiting.set(id, {
        taken: () => {
          clearTimeout(timer);
        },
        ...(piece && { piece }),
        done: (body) => {
          end();
          resolve(body);
        },
        failed: (error) => {
          end();
          reject(error);
        },
      });
      const { body, key } = options;
      const isSent = sendTo(this.channel, {
        cts: "ask",
        id,
        method,
        path: name,
        query,
        body,
        key,
        in_pieces: piece !== undefined,
      });
      if (!isSent) {
        end();
        const gone = this.tr.__("The kernel was restarted or ended: run the cell again");
        reject(new ServiceError(GONE, gone));
      }
    });
  }

  private readonly hear: Heard = (content, buffers) => {
    this.receive(content as Reply, buffers);
  };

  private receive(reply: Reply, buffers: readonly DataView[]): void {
    const waiting = this.waiting.get(reply.id);
    if (!waiting) return;
    waiting.taken();
    switch (reply.cts) {
      case "taken":
        break;
      case "answer":
        waiting.done(reply.body);
        break;
      case "end":
        waiting.done(null);
        break;
      case "refused": {
        const { status, message, appcode, detail } = reply.error;
        waiting.failed(new ServiceError(status, message, appcode, detail));
        break;
      }
      case "piece": {
        const [bytes] = buffers;
        waiting.piece?.(
          bytes ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(),
          reply.headers,
        );
        break;
      }
    }
  }
}
