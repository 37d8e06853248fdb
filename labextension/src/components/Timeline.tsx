import type { ReactNode } from "react";

import type { Container, JobStateTransition } from "../api/types";
import { formatDuration, formatState, formatTime, hasEnded, moodOf } from "../rules/words";
import { timelineOf } from "../rules/timeline";
import { useNow, useTranslator } from "./context";

interface Props {
  times: readonly JobStateTransition[];
  containers: readonly Container[];
  /** The time by the service's clock. */
  now: () => number;
}

/** When a job came to its states, and how long it was in each, to scale. */
export function Timeline({ times, containers, now: clock }: Props): ReactNode {
  const tr = useTranslator();
  const steps = timelineOf(times, containers);
  const last = steps.at(-1);
  const isLive = last !== undefined && !hasEnded(last.state);
  const now = useNow(clock, isLive);
  const shown = steps.map(({ state, time }, n) => {
    const next = steps[n + 1];
    const end = next ? Date.parse(next.time) : isLive ? now : null;
    return { state, time, seconds: end === null ? null : Math.max(0, end - Date.parse(time)) / 1000 };
  });
  return (
    <>
      <div className="cts-bar cts-scale" aria-hidden="true">
        {shown.map(
          ({ state, seconds }, n) =>
            seconds !== null && (
              <span
                key={state}
                data-mood={moodOf(state)}
                data-odd={n % 2 === 1}
                title={`${formatState(state, tr)}: ${formatDuration(seconds)}`}
                style={{ flexGrow: seconds }}
              />
            ),
        )}
      </div>
      <ol>
        {shown.map(({ state, time, seconds }) => (
          <li key={state} data-mood={moodOf(state)}>
            <span>{formatState(state, tr)}</span>
            <span className="cts-faint">{seconds === null ? "" : formatDuration(seconds)}</span>
            <time dateTime={time} title={time}>
              {formatTime(time)}
            </time>
          </li>
        ))}
      </ol>
    </>
  );
}
