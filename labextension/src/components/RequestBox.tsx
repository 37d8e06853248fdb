import { type ReactNode, useEffect, useState } from "react";

import type { Job, JobPreview } from "../api/types";
import { decode } from "../rules/bytes";
import { quote } from "../rules/args";
import { formatCode, requestOf } from "../rules/code";
import { PlanError, planContainer } from "../rules/plan";
import { number } from "../rules/words";
import { asServiceError, isAbort } from "../service/errors";
import type { IService } from "../service/port";
import { Box } from "./Box";
import { CopyButton } from "./CopyButton";
import { useTranslator } from "./context";

export type RequestKind = "argv" | "yaml" | "python" | "curl" | "methods";

/** The bytes of a paragraph that are shown; it has a few hundred. */
const MAX_METHODS = 64_000;
/** The characters that are shown; what is copied is whole. */
const MAX_SHOWN = 20_000;

interface Props {
  service: IService;
  job: JobPreview;
  kind: RequestKind;
  title: string;
  close: () => void;
}

/** A job's request, or what can be said of it, as a text to copy. */
export function RequestBox({ service, job: preview, kind, title, close }: Props): ReactNode {
  const tr = useTranslator();
  const { id } = preview;
  const [loaded, setLoaded] = useState<Job | string | null>(null);
  const [refused, setRefused] = useState("");
  const [container, setContainer] = useState(0);
  useEffect(() => {
    const request = new AbortController();
    const { signal } = request;
    const path = `jobs/${encodeURIComponent(id)}`;
    const asked =
      kind === "methods"
        ? service
            .read(`${path}/methods`, {}, { limit: MAX_METHODS, keep: "first", signal })
            .then(({ bytes }) => decode(bytes))
        : service.get<Job>(path, {}, signal);
    asked.then(setLoaded, (error: unknown) => {
      if (isAbort(error)) return;
      const { status, message } = asServiceError(error);
      setRefused(status === 404 ? tr.__("This service does not tell it.") : message);
    });
    return () => {
      request.abort();
    };
  }, [service, id, kind, tr]);
  const text =
    loaded === null
      ? null
      : typeof loaded === "string"
        ? loaded
        : textOf(loaded, kind, container, service.url("jobs") ?? "");
  const total = preview.job_input.num_containers;
  return (
    <Box
      title={title}
      close={close}
      controls={
        <>
          {kind === "argv" && total > 1 && (
            <label>
              {tr.__("Container")}{" "}
              <input
                type="number"
                min={0}
                max={total - 1}
                value={container}
                onChange={(event) => {
                  const wanted = Math.trunc(event.currentTarget.valueAsNumber) || 0;
                  setContainer(Math.min(Math.max(wanted, 0), total - 1));
                }}
              />{" "}
              <span className="cts-faint">{tr.__("0 to %1", number(total - 1))}</span>
            </label>
          )}
          {text !== null && <CopyButton text={text} label={tr.__("Copy")} />}
        </>
      }
    >
      {text === null ? (
        <p role="status">{refused || tr.__("Loading …")}</p>
      ) : (
        <pre role="region" tabIndex={0} aria-label={title}>
          {text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}\n…` : text}
        </pre>
      )}
    </Box>
  );
}

function textOf(job: Job, kind: RequestKind, container: number, url: string): string {
  switch (kind) {
    case "argv":
      return commandLine(job, container);
    case "yaml":
    case "python":
    case "curl":
      return formatCode(requestOf(job), kind, url);
    case "methods":
      return "";
  }
}

/** The command line of a container, as one would type it. */
function commandLine(job: Job, container: number): string {
  try {
    const { argv, environment } = planContainer(job.job_input, job.image.entrypoint, container);
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${quote(value)} \\\n`);
    return variables.join("") + argv.map(quote).join(" ");
  } catch (error) {
    if (error instanceof PlanError) return error.message;
    throw error;
  }
}
