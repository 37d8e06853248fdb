import { useEffect, useState } from "react";

import type { LabelKeys } from "../api/types";
import { asServiceError, isAbort } from "../service/errors";
import type { IService } from "../service/port";

/** The keys of the labels of all of the user's jobs; none from a service that does not tell them. */
export function useLabelKeys(service: IService): readonly string[] {
  const [keys, setKeys] = useState<readonly string[]>([]);
  useEffect(() => {
    const request = new AbortController();
    service.get<LabelKeys>("jobs/labels", {}, request.signal).then(
      (answer) => {
        if (!request.signal.aborted) setKeys(answer.keys);
      },
      (error: unknown) => {
        // They are offered besides what one may type.
        if (!isAbort(error)) asServiceError(error);
      },
    );
    return () => {
      request.abort();
    };
  }, [service]);
  return keys;
}
