import type { Container, JobPreview, Reason, ResubmissionOutput } from "../api/types";
import { moodOf } from "./words";

/** The resubmission that mends one reason alone; null where that of the whole job does the same. */
export function fixOf({ fix, containers }: Reason, all: readonly Reason[]): ResubmissionOutput | null {
  const fixes = new Set(all.flatMap((reason) => (reason.fix ? [JSON.stringify(reason.fix)] : [])));
  return fix?.failed && containers.length && fixes.size > 1 ? { ...fix, containers } : null;
}

/** Why a job failed, by its containers; for a service that does not say so itself. */
export function reasonsOf(job: JobPreview, containers: readonly Container[]): Reason[] {
  const groups = new Map<string, Container[]>();
  for (const container of containers.filter(({ state }) => moodOf(state) === "failed")) {
    const key = JSON.stringify([container.exit_code, container.error]);
    groups.set(key, [...(groups.get(key) ?? []), container]);
  }
  const reasons = [...groups.values()]
    .sort((a, b) => b.length - a.length)
    .map((group): Reason => {
      const inputs = group.flatMap((container) => (container.inputs ?? []).map(({ file }) => file));
      const numbers = group.map(({ number }) => number);
      const [{ error, exit_code } = { error: undefined, exit_code: undefined }] = group;
      return {
        ...(error !== undefined && { reason: error }),
        ...(exit_code !== undefined && { exit_code }),
        containers: numbers,
        inputs,
        input_count: inputs.length,
        hint: "",
      };
    });
  if (reasons.length || job.error === undefined) return reasons;
  return [{ reason: job.error, containers: [], inputs: [], input_count: 0, hint: "" }];
}
