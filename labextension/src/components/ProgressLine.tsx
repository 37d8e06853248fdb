import type { ReactNode } from "react";

import { type Counts, MOODS, countMoods, formatProgress } from "../rules/words";
import { useTranslator } from "./context";

/** How far the containers of a job are, as a bar and in words. */
export function ProgressLine({ total, counts }: { total: number; counts: Counts }): ReactNode {
  const tr = useTranslator();
  const moods = countMoods(counts);
  const text = formatProgress(total, counts, tr);
  return (
    <div className="cts-progress">
      <div
        className="cts-bar"
        role="progressbar"
        aria-label={tr.__("Containers done")}
        aria-valuemin={0}
        aria-valuemax={total}
        aria-valuenow={moods.done}
        aria-valuetext={text}
      >
        {MOODS.filter((mood) => moods[mood]).map((mood) => (
          <span key={mood} data-mood={mood} style={{ flexGrow: moods[mood] }} />
        ))}
      </div>
      <div className="cts-count">{text}</div>
    </div>
  );
}
