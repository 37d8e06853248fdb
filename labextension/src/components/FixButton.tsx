import { type ReactNode, useState } from "react";

import type { ResubmissionOutput } from "../api/types";
import type { Translator } from "../rules/translator";
import { formatDuration, formatSize, number, parseDuration, shortId } from "../rules/words";
import { asServiceError } from "../service/errors";
import { useTranslator } from "./context";

interface Props {
  fix: ResubmissionOutput;
  /** How many containers did not complete; 0 if it is not known. */
  missing: number;
  /** The id of the new job, once there is one. */
  added: string | null;
  /** Rejects with ServiceError. */
  resubmit: () => Promise<unknown>;
  open: ((id: string) => void) | undefined;
}

/** What a resubmission changes: ``Resubmit these 3 with 16 GB``. */
export function formatFix(
  { failed, memory, runtime, refresh_inputs: refreshes }: ResubmissionOutput,
  count: number,
  tr: Translator,
): string {
  const changes = [];
  if (memory !== undefined) changes.push(formatSize(memory));
  if (runtime !== undefined) {
    changes.push(tr.__("up to %1", formatDuration(parseDuration(runtime), { tenths: false })));
  }
  if (refreshes) changes.push(tr.__("the inputs as they are now"));
  const these = count
    ? tr._n("Resubmit this one", "Resubmit these %2", count, number(count))
    : tr.__("Resubmit what failed");
  const what = failed ? these : tr.__("Resubmit all");
  return changes.length ? tr.__("%1 with %2", what, changes.join(tr.__(" and "))) : what;
}

/** Submits again what failed, with what it lacked; a second click, or one after a lost answer, makes no second job. */
export function FixButton({ fix, missing, added, resubmit, open }: Props): ReactNode {
  const tr = useTranslator();
  const [phase, setPhase] = useState<"ready" | "sending">("ready");
  const [refused, setRefused] = useState("");
  const send = async (): Promise<void> => {
    setPhase("sending");
    setRefused("");
    try {
      await resubmit();
    } catch (error) {
      setRefused(asServiceError(error).message);
    }
    setPhase("ready");
  };
  if (added !== null) {
    const text = tr.__("Resubmitted as %1", shortId(added));
    return (
      <p role="status">
        {open ? (
          <button
            type="button"
            onClick={() => {
              open(added);
            }}
          >
            {text}
          </button>
        ) : (
          text
        )}
      </p>
    );
  }
  return (
    <>
      <button type="button" disabled={phase === "sending"} onClick={() => void send()}>
        {formatFix(fix, missing, tr)}
      </button>
      {refused && <p>{refused}</p>}
    </>
  );
}
