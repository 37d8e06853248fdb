import type { ReactNode } from "react";

import { formatState, moodOf } from "../rules/words";
import { useTranslator } from "./context";

/** A state by colour, shape and word. */
export function StateMark({ state, title }: { state: string; title?: string }): ReactNode {
  const tr = useTranslator();
  return (
    <span className="cts-state" data-mood={moodOf(state)} title={title}>
      {formatState(state, tr)}
    </span>
  );
}
