import type { Container, JobStateTransition } from "../api/types";
import { formatState } from "./words";
import { english } from "./translator";

/** States that a job is in as soon as one of its containers is, for a person; the others as soon as all are. */
const FIRST: ReadonlySet<string> = new Set(["job_submitting", "job_submitted"]);

/** The states of a job and when it came to them, as a person is told them: those that read alike are one. */
export function timelineOf(
  times: readonly JobStateTransition[],
  containers: readonly Container[],
): JobStateTransition[] {
  const steps = new Map(times.map((step) => [step.state, step]));
  const begun = new Map<string, JobStateTransition>();
  for (const step of containers.flatMap((container) => container.transition_times)) {
    const known = begun.get(step.state);
    const isEarlier = !known || Date.parse(step.time) < Date.parse(known.time);
    if (FIRST.has(step.state) && isEarlier) begun.set(step.state, step);
  }
  for (const step of begun.values()) steps.set(step.state, step);
  const sorted = [...steps.values()].sort((a, b) => Date.parse(a.time) - Date.parse(b.time));
  const words = sorted.map(({ state }) => formatState(state, english));
  return sorted.filter((_, n) => n === 0 || words[n] !== words[n - 1]);
}
