import type { ReactNode } from "react";

import type { JobPreview } from "../api/types";
import type { Translator } from "../rules/translator";
import {
  MOODS,
  countMoods,
  formatDuration,
  formatState,
  hasEnded,
  moodOf,
  number,
  shownState,
} from "../rules/words";
import { useTranslator } from "./context";

interface Props {
  job: JobPreview;
  /** The time by the service's clock. */
  now: number;
}

/** A job in a list: what, how far, and where. */
export function JobRow({ job, now }: Props): ReactNode {
  const tr = useTranslator();
  const { job_input: request, containers: counts = {} } = job;
  const state = shownState(job.state, counts);
  const total = request.num_containers;
  const moods = countMoods(counts);
  const isLive = !hasEnded(job.state);
  const facts = formatFacts(job, now, tr);
  const hasCounts = isLive && total > 1 && Object.keys(counts).length > 0;
  return (
    <div className="cts-row" data-mood={moodOf(state)}>
      <div className="cts-row-head">
        <span className="cts-row-name" title={request.image}>
          {shortImage(request.image)}
        </span>
        <span className="cts-state" data-mood={moodOf(state)}>
          {hasCounts ? tr.__("%1 of %2", number(moods.done), number(total)) : formatState(state, tr)}
        </span>
      </div>
      {hasCounts && (
        <div className="cts-bar" aria-hidden="true">
          {MOODS.filter((mood) => moods[mood]).map((mood) => (
            <span key={mood} data-mood={mood} style={{ flexGrow: moods[mood] }} />
          ))}
        </div>
      )}
      <div className="cts-faint" title={facts}>
        {facts}
      </div>
      {job.state === "error" && job.error !== undefined && (
        <div className="cts-row-error" title={job.error}>
          {job.error}
        </div>
      )}
    </div>
  );
}

/** An image's name without its registry, which is the same for most. */
function shortImage(image: string): string {
  const [name = image] = image.split("@");
  return name.split("/").slice(-2).join("/");
}

function formatFacts(job: JobPreview, now: number, tr: Translator): string {
  const times = job.transition_times.map(({ time }) => Date.parse(time));
  const start = times[0] ?? now;
  const isLive = !hasEnded(job.state);
  const took = formatDuration(((isLive ? now : (times.at(-1) ?? now)) - start) / 1000, { tenths: false });
  const labels = Object.entries(job.labels ?? {}).map(([key, value]) => `${key}=${value}`);
  return [isLive ? tr.__("since %1", took) : tr.__("took %1", took), job.job_input.cluster, ...labels].join(
    " · ",
  );
}
