// What stores and components ask of a CTS service, however the page reaches it.

import type { Translator } from "../rules/translator";

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

/** How much of a body is read at most, and which end of a longer one is kept. */
export interface Extent {
  limit: number;
  keep: "first" | "last";
  signal?: AbortSignal | undefined;
}

export interface Bytes {
  bytes: Uint8Array;
  /** Whether they are the whole body. */
  isWhole: boolean;
  /** A header of the answer. */
  header(name: string): string | null;
}

/** Everything that sends a request rejects with ServiceError. */
export interface IService {
  /** For what keeps a request from an answer; what the service itself says stays as it is. */
  readonly tr: Translator;
  /** Tells the services of a page apart. */
  readonly root: string;
  /** How far the service's clock is ahead of the browser's, in ms. */
  readonly clockOffset: number;
  /** A URL of the service that a link may name; null where none leads to it. */
  url(path: string, query?: Query): string | null;
  get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T>;
  put(path: string, body?: unknown): Promise<void>;
  delete(path: string): Promise<void>;
  /** `key` makes a request that is sent again the same request. */
  post<T>(path: string, body: unknown, key?: string): Promise<T>;
  /** A part of a body that may be long. With `wait` in the query, the service may answer seconds later. */
  read(path: string, query: Query, extent: Extent): Promise<Bytes>;
  /** Whether the service has a path, such as ``/checksums/{checksums_id}``, with a parameter: an older one may lack it. */
  knows(method: string, path: string, parameter?: string): Promise<boolean>;
  /** The body of a stream of events after a cursor: of the user's jobs, or of those that `path` is for. */
  events(after: string | undefined, signal: AbortSignal, path?: string): Promise<ReadableStream<Uint8Array>>;
}
