// What a request can end with, besides an answer.

import type { ErrorDetail } from "../api/types";

/** Jupyter answered, but its own token for a service elsewhere is missing or refused. */
const NO_SERVICE_TOKEN = 10000;

export class ServiceError extends Error {
  /** `status` is 0 where no server answered; `detail` is what CTS answered. */
  constructor(
    readonly status: number,
    message: string,
    readonly appcode?: number,
    readonly detail: Partial<ErrorDetail> = {},
  ) {
    super(message);
  }

  get isSignedOut(): boolean {
    return this.status === 401 && this.appcode !== NO_SERVICE_TOKEN;
  }

  /** The service does not know the thing, or does not tell this user of it. */
  get isUnknown(): boolean {
    return this.status === 403 || this.status === 404;
  }

  /** It may answer later. */
  get isOffline(): boolean {
    return this.status === 0 || this.status >= 500 || this.appcode === NO_SERVICE_TOKEN;
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** Returns the error if it is one of a service; throws any other, which is a fault of ours. */
export function asServiceError(error: unknown): ServiceError {
  if (error instanceof ServiceError) return error;
  throw error;
}
