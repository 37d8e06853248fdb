import { useEffect, useState } from "react";

import { type ServiceError, asServiceError, isAbort } from "../../service/errors";

export interface Loaded<T> {
  readonly value: T | null;
  readonly error: ServiceError | null;
}

const NOTHING = { value: null, error: null };
const TYPING_MS = 400;

/** What `load` answers for a key, a moment after the key has last changed; nothing for an empty one. */
export function useLoaded<T>(key: string, load: (key: string, signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [loaded, setLoaded] = useState<Loaded<T> & { key: string }>({ ...NOTHING, key: "" });
  useEffect(() => {
    if (!key) return undefined;
    const request = new AbortController();
    const timer = setTimeout(() => {
      load(key, request.signal).then(
        (value) => {
          if (!request.signal.aborted) setLoaded({ key, value, error: null });
        },
        (error: unknown) => {
          if (!request.signal.aborted && !isAbort(error)) {
            setLoaded({ key, value: null, error: asServiceError(error) });
          }
        },
      );
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      request.abort();
    };
  }, [key, load]);
  return loaded.key === key ? loaded : NOTHING;
}
