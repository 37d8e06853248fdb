import { type ReactNode, useEffect, useId, useLayoutEffect, useRef, useState } from "react";

import { asServiceError, isAbort } from "../service/errors";
import type { IService } from "../service/port";
import { useTranslator } from "./context";

/** Characters of the end of a log that are shown. */
export const LOG_TAIL = 64_000;

export type LogName = "stdout" | "stderr";

interface Props {
  service: IService;
  jobId: string;
  containers: number;
  /** The container and the log that are shown at first. */
  first: number;
  log: LogName;
}

interface Shown {
  text: string;
  note: string;
}

/** The end of the logs of a job's containers. */
export function LogView({ service, jobId, containers, first, log }: Props): ReactNode {
  const tr = useTranslator();
  const [container, setContainer] = useState(first);
  const [name, setName] = useState(log);
  const [reloads, setReloads] = useState(0);
  const [{ text, note }, show] = useState<Shown>({ text: "", note: tr.__("Loading …") });
  const lines = useRef<HTMLPreElement>(null);
  const inputId = useId();

  useEffect(() => {
    const request = new AbortController();
    const load = async (): Promise<Shown> => {
      const path = `jobs/${encodeURIComponent(jobId)}/log/${container}/${name}`;
      try {
        const tail = await service.tail(path, LOG_TAIL, request.signal);
        if (!tail.text) return { text: "", note: tr.__("Nothing was written") };
        return { text: tail.text, note: tail.isWhole ? "" : tr.__("The end of a longer log") };
      } catch (error) {
        if (isAbort(error)) throw error;
        const { isUnknown, message } = asServiceError(error);
        return { text: "", note: isUnknown ? tr.__("Nothing was written yet") : message };
      }
    };
    load().then(show, (error: unknown) => {
      if (!isAbort(error)) throw error;
    });
    return () => {
      request.abort();
    };
  }, [service, jobId, container, name, reloads, tr]);

  useLayoutEffect(() => {
    const element = lines.current;
    if (element) element.scrollTop = element.scrollHeight;
  }, [text]);

  return (
    <>
      <div className="cts-controls">
        {containers > 1 && (
          <>
            <label htmlFor={inputId}>{tr.__("Container")}</label>
            <input
              id={inputId}
              type="number"
              min={0}
              max={containers - 1}
              value={container}
              onChange={(event) => {
                const wanted = Math.trunc(event.currentTarget.valueAsNumber) || 0;
                setContainer(Math.min(Math.max(wanted, 0), containers - 1));
              }}
            />
          </>
        )}
        <select
          aria-label={tr.__("Log of the container")}
          value={name}
          onChange={(event) => {
            setName(event.currentTarget.value as LogName);
          }}
        >
          <option value="stdout">stdout</option>
          <option value="stderr">stderr</option>
        </select>
        <button
          type="button"
          onClick={() => {
            setReloads(reloads + 1);
          }}
        >
          {tr.__("Reload")}
        </button>
      </div>
      <p className="cts-faint" role="status">
        {note}
      </p>
      {text && (
        <pre ref={lines} role="region" tabIndex={0} aria-label={tr.__("Log")}>
          {text}
        </pre>
      )}
    </>
  );
}
