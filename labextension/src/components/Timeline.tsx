import type { ReactNode } from "react";

import type { Container, JobStateTransition } from "../api/types";
import { formatDuration, formatState, formatTime, moodOf } from "../rules/words";
import { timelineOf } from "../rules/timeline";
import { useTranslator } from "./context";

interface Props {
  times: readonly JobStateTransition[];
  containers: readonly Container[];
}

/** When a job came to its states. */
export function Timeline({ times, containers }: Props): ReactNode {
  const tr = useTranslator();
  const steps = timelineOf(times, containers);
  const start = Date.parse(steps[0]?.time ?? "");
  return (
    <ol>
      {steps.map(({ state, time }) => (
        <li key={state} data-mood={moodOf(state)}>
          <span>{formatState(state, tr)}</span>
          <time dateTime={time} title={time}>
            {`${formatTime(time)} (+${formatDuration((Date.parse(time) - start) / 1000)})`}
          </time>
        </li>
      ))}
    </ol>
  );
}
