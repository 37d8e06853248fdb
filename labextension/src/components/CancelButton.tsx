import { type ReactNode, useEffect, useRef, useState } from "react";

import { number } from "../rules/words";
import { asServiceError } from "../service/errors";
import { useTranslator } from "./context";
import { onKeys } from "./keys";

interface Props {
  /** Containers that are done, of all. */
  done: number;
  total: number;
  /** Rejects with ServiceError. */
  cancel: () => Promise<void>;
  onRefused: (message: string) => void;
}

/** Cancels a job once a person has confirmed it. */
export function CancelButton({ done, total, cancel, onRefused }: Props): ReactNode {
  const tr = useTranslator();
  const [phase, setPhase] = useState<"closed" | "kept" | "asking" | "sent">("closed");
  const keep = useRef<HTMLButtonElement>(null);
  const open = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    if (phase === "asking") keep.current?.focus();
    if (phase === "kept") open.current?.focus();
  }, [phase]);

  const send = async (): Promise<void> => {
    setPhase("sent");
    onRefused("");
    try {
      await cancel();
    } catch (error) {
      onRefused(tr.__("Not cancelled: %1", asServiceError(error).message));
      setPhase("kept");
    }
  };

  if (phase === "closed" || phase === "kept") {
    return (
      <button
        ref={open}
        type="button"
        onClick={() => {
          setPhase("asking");
        }}
      >
        {tr.__("Cancel")}
      </button>
    );
  }
  const keepRunning = (): void => {
    setPhase("kept");
  };
  const loses =
    total > 1
      ? tr._n(
          "%2 of %1 container is done; its outputs stay.",
          "%2 of %3 containers are done; their outputs stay.",
          total,
          number(done),
          number(total),
        )
      : "";
  return (
    // Its buttons have the focus; their Escape is heard here.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <div
      className="cts-confirm"
      role="alertdialog"
      aria-label={tr.__("Cancel this job?")}
      onKeyDown={onKeys({ Escape: phase === "asking" ? keepRunning : undefined })}
    >
      <span>
        {[tr.__("Cancel this job?"), loses, tr.__("This cannot be undone.")].filter(Boolean).join(" ")}
      </span>
      <button type="button" className="cts-danger" disabled={phase === "sent"} onClick={() => void send()}>
        {tr.__("Cancel the job")}
      </button>
      <button ref={keep} type="button" disabled={phase === "sent"} onClick={keepRunning}>
        {tr.__("Keep it running")}
      </button>
    </div>
  );
}
