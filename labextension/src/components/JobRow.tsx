import { type ReactNode, useEffect } from "react";

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
import type { Queue } from "../store/queue";
import type { Reasons } from "../store/reasons";
import { useReason, useTranslator, useWaiting } from "./context";

interface Props {
  job: JobPreview;
  /** Whether to say whose job it is. */
  showsUser: boolean;
  reasons: Reasons;
  queue: Queue;
  /** Its resubmissions, newest first. */
  again: readonly JobPreview[];
  isOpen: boolean;
  /** Shows its resubmissions, or hides them. */
  toggle: () => void;
  /** The time by the service's clock. */
  now: number;
}

/** A job in a list: what, how far, and where. */
export function JobRow({ job, showsUser, reasons, queue, again, isOpen, toggle, now }: Props): ReactNode {
  const tr = useTranslator();
  const { job_input: request, containers: counts = {} } = job;
  const state = shownState(job.state, counts);
  const total = request.num_containers;
  const moods = countMoods(counts);
  const isLive = !hasEnded(job.state);
  const facts = [...(showsUser ? [job.user] : []), formatFacts(job, now, tr)].join(" · ");
  const waiting = useWaiting(queue, job, tr);
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
      {waiting && (
        <div className="cts-faint" title={waiting}>
          {waiting}
        </div>
      )}
      {job.state === "error" && <Reason job={job} reasons={reasons} isOwn={!showsUser} />}
      {again.length > 0 && <Again again={again} isOpen={isOpen} toggle={toggle} />}
    </div>
  );
}

function Reason({ job, reasons, isOwn }: Pick<Props, "job" | "reasons"> & { isOwn: boolean }): ReactNode {
  const tr = useTranslator();
  const reason = useReason(reasons, job, tr);
  // Of others' jobs, the service tells no more than the list does.
  useEffect(() => (isOwn ? reasons.want(job.id) : undefined), [reasons, job.id, isOwn]);
  return reason ? (
    <div className="cts-row-error" title={reason}>
      {reason}
    </div>
  ) : null;
}

function Again({ again, isOpen, toggle }: Pick<Props, "again" | "isOpen" | "toggle">): ReactNode {
  const tr = useTranslator();
  const [latest] = again;
  const count = tr._n("%1 resubmission", "%1 resubmissions", again.length);
  const state = latest ? formatState(shownState(latest.state, latest.containers ?? {}), tr) : "";
  return (
    // The list has the keys: → and ← do the same.
    // eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/no-static-element-interactions
    <div
      className="cts-again"
      data-mood={latest ? moodOf(latest.state) : undefined}
      onClick={(event) => {
        event.stopPropagation();
        toggle();
      }}
    >
      <span aria-hidden="true">{isOpen ? "▾" : "▸"}</span>{" "}
      {isOpen ? count : tr.__("%1, latest: %2", count, state)}
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
