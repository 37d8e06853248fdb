import type { ReactNode } from "react";

import type { Reason } from "../api/types";
import type { Translator } from "../rules/translator";
import { number } from "../rules/words";
import type { LogName } from "../store/log";
import { useTranslator } from "./context";

/** Containers, inputs and reasons that are named; the others are counted. */
const MAX_NUMBERS = 10;
const MAX_INPUTS = 5;
const MAX_REASONS = 5;

/** Which containers failed and why: ``Containers 1, 4 ended with exit code 4``. */
export function formatReason({ reason, exit_code, containers }: Reason, tr: Translator): string {
  const code = exit_code === undefined ? "" : tr.__("exit code %1", exit_code);
  const named = containers.slice(0, MAX_NUMBERS).join(", ") + (containers.length > MAX_NUMBERS ? ", …" : "");
  // Where all ended well, the job failed and no container.
  const isOfContainers = containers.length > 0 && exit_code !== 0;
  const who = isOfContainers ? tr._n("Container %2", "Containers %2", containers.length, named) : "";
  if (reason === undefined) return tr.__("%1 ended with %2", who || tr.__("It"), code || tr.__("an error"));
  if (!who) return reason;
  return code ? `${who}: ${reason.replace(/\.$/, "")} (${code})` : `${who}: ${reason}`;
}

function formatInputs({ inputs, input_count: count }: Reason, tr: Translator): string {
  if (!inputs.length) return "";
  const named = inputs.slice(0, MAX_INPUTS);
  const hidden = count - named.length;
  const more = hidden > 0 ? tr.__(" and %1 more", number(hidden)) : "";
  return tr._n("Input: %2", "Inputs: %2", count, named.join(", ") + more);
}

interface Props {
  reasons: readonly Reason[];
  showLog: (container: number, name: LogName) => void;
  /** What mends one of them. */
  fix: (reason: Reason) => ReactNode;
  /** What mends them all. */
  children?: ReactNode;
}

/** Why a job failed, by groups of containers, with what to do about each. */
export function WhyBox({ reasons, showLog, fix, children }: Props): ReactNode {
  const tr = useTranslator();
  const hidden = reasons.length - MAX_REASONS;
  return (
    <div className="cts-error" role="alert">
      {reasons.length === 0 && <p>{tr.__("The job failed.")}</p>}
      {reasons.slice(0, MAX_REASONS).map((reason, n) => (
        <ReasonGroup key={n} reason={reason} showLog={showLog} fix={fix} />
      ))}
      {hidden > 0 && <p>{tr._n("and %1 other reason", "and %1 other reasons", hidden)}</p>}
      {children}
    </div>
  );
}

function ReasonGroup({
  reason,
  showLog,
  fix,
}: { reason: Reason } & Pick<Props, "showLog" | "fix">): ReactNode {
  const tr = useTranslator();
  const stream = reason.stderr || !reason.stdout ? "stderr" : "stdout";
  const text = reason[stream];
  const [container] = reason.containers;
  const inputs = formatInputs(reason, tr);
  const title = tr.__("The end of the %1 of container %2", stream, container ?? 0);
  return (
    <div className="cts-reason">
      <p>
        <strong>{formatReason(reason, tr)}</strong>
      </p>
      {inputs && <p>{inputs}</p>}
      {reason.hint && <p>{reason.hint}</p>}
      {text && (
        <>
          <p className="cts-faint">{title}</p>
          <pre role="region" tabIndex={0} aria-label={title}>
            {text}
          </pre>
        </>
      )}
      {container !== undefined && (
        <button
          type="button"
          onClick={() => {
            showLog(container, stream);
          }}
        >
          {tr.__("Show the log of %1", container)}
        </button>
      )}{" "}
      {fix(reason)}
    </div>
  );
}
