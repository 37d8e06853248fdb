import type { ReactNode } from "react";

import { sentence } from "../../rules/words";
import type { ServiceError } from "../../service/errors";
import type { Sent } from "../../store/draft";
import { useTranslator } from "../context";

interface Props {
  containers: number;
  sent: Sent;
  /** Why the service could not be reached, or failed. */
  away: ServiceError | null;
  /** Asks again what became of a submission without an answer. */
  again: () => void;
  giveUp: () => void;
}

/** Submits a draft, and says what became of that. */
export function SubmitBar({ containers, sent, away, again, giveUp }: Props): ReactNode {
  const tr = useTranslator();
  if (sent.phase === "lost") {
    return (
      <div className="cts-submit" role="alert">
        <p>
          {tr.__(
            "No answer: %1 The job may have been submitted. Asking again makes no second one.",
            sentence(sent.error.message),
          )}
        </p>
        <button type="button" className="cts-main" onClick={again}>
          {tr.__("Ask again")}
        </button>
        <button type="button" onClick={giveUp}>
          {tr.__("Change the form")}
        </button>
      </div>
    );
  }
  return (
    <div className="cts-submit">
      <button type="submit" className="cts-main" disabled={away !== null || sent.phase === "sending"}>
        {sent.phase === "sending"
          ? tr.__("Submitting …")
          : containers > 0
            ? tr._n("Submit %1 container", "Submit %1 containers", containers)
            : tr.__("Submit")}
      </button>
      {away && (
        <p role="status">
          {away.status === 0
            ? tr.__("Offline: nothing is lost. Trying again.")
            : away.status >= 500
              ? tr.__("The service failed: %1 Nothing is lost. Trying again.", sentence(away.message))
              : tr.__("%1 Nothing is lost. Trying again.", sentence(away.message))}
        </p>
      )}
      {sent.phase === "refused" && (
        <p className="cts-error" role="alert">
          {tr.__("Not submitted: %1", sentence(sent.error.message))}
        </p>
      )}
    </div>
  );
}
