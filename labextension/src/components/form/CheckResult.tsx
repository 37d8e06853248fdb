import type { ReactNode } from "react";

import type { Fault } from "../../rules/problems";
import type { Translator } from "../../rules/translator";
import { formatSize, number, sentence } from "../../rules/words";
import type { ServiceError } from "../../service/errors";
import type { Check } from "../../store/draft";
import { useTranslator } from "../context";

const MAX_SHOWN = 10;

interface Props {
  faults: readonly Fault[];
  check: Check;
  /** Why there is less to choose from than there may be. */
  lacking: ServiceError | null;
  /** Goes to the field of a fault. */
  go: (fault: Fault) => void;
  retry: () => void;
}

/** Everything that is wrong with a draft, each a way to its field, and what the service found in order. */
export function CheckResult({ faults, check, lacking, go, retry }: Props): ReactNode {
  const tr = useTranslator();
  const wrong = faults.filter(({ isMissing }) => !isMissing);
  const missing = faults.filter(({ isMissing }) => isMissing);
  const { phase, facts, error } = check;
  return (
    <div className="cts-check" data-phase={phase}>
      <p role="status">{summarize(wrong.length, missing.length, phase, tr)}</p>
      <FaultLinks className="cts-wrong" label={tr.__("Problems")} faults={wrong} go={go} />
      <FaultLinks className="cts-missing" label={tr.__("Still to do")} faults={missing} go={go} />
      {/* They stay until the next answer, so that the button below does not move as one is about to press it. */}
      {facts && (
        <ul className="cts-facts" aria-label={tr.__("What the check found")}>
          <li data-fact="inputs">
            {tr._n(
              "%2 input, %3",
              "%2 inputs, %3",
              facts.input_file_count,
              number(facts.input_file_count),
              formatSize(facts.input_bytes),
            )}
          </li>
          {facts.warnings.map((warning) => (
            <li key={warning} data-fact="warning">
              {warning}
            </li>
          ))}
        </ul>
      )}
      {error && (
        <p className="cts-error" role="alert">
          {sentence(error.message)}
        </p>
      )}
      {!error && lacking && (
        <p className="cts-error" role="alert">
          {tr.__("Not all that can be chosen is shown: %1", sentence(lacking.message))}
        </p>
      )}
      {(phase === "done" || (facts ?? error ?? lacking)) && (
        <button type="button" onClick={retry}>
          {tr.__("Check again")}
        </button>
      )}
    </div>
  );
}

function summarize(wrong: number, missing: number, phase: Check["phase"], tr: Translator): string {
  if (wrong) return tr._n("✕ %1 problem", "✕ %1 problems", wrong);
  if (missing) return tr.__("Not complete yet");
  switch (phase) {
    case "waiting":
    case "running":
      return tr.__("Checking …");
    case "done":
      return tr.__("✓ Ready to submit: inputs have checksums, image and site are there");
    case "failed":
      return tr.__("It could not be checked");
    case "missing":
      return tr.__(
        "This service cannot check a job before it is submitted: it tells the first problem then.",
      );
  }
}

interface FaultLinksProps {
  className: string;
  label: string;
  faults: readonly Fault[];
  go: (fault: Fault) => void;
}

function FaultLinks({ className, label, faults, go }: FaultLinksProps): ReactNode {
  const tr = useTranslator();
  if (!faults.length) return null;
  const hidden = faults.length - MAX_SHOWN;
  return (
    <ul className={className} aria-label={label}>
      {faults.slice(0, MAX_SHOWN).map((fault, n) => (
        <li key={n}>
          <button
            type="button"
            className="cts-link"
            onClick={() => {
              go(fault);
            }}
          >
            {fault.message}
          </button>
          {fault.hint && <span className="cts-faint"> {sentence(fault.hint)}</span>}
        </li>
      ))}
      {hidden > 0 && <li>{tr.__("and %1 more", number(hidden))}</li>}
    </ul>
  );
}
