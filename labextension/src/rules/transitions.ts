import type { JobPreview, JobStateTransition } from "../api/types";

/** A job after a transition. What it waited for in the state before is over. */
export function moveJob(job: JobPreview, { state, time }: JobStateTransition): JobPreview {
  const moved = { ...job, state, transition_times: [...job.transition_times, { state, time }] };
  delete moved.waits_for;
  return moved;
}
