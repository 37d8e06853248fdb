// What a job has used of what it asked for, and what would have done.

import type { Container, JobPreview } from "../api/types";
import type { Translator } from "./translator";
import { formatDuration, formatSize, parseDuration } from "./words";

/** A part that is used of what was asked for. */
export interface Used {
  readonly title: string;
  readonly used: number;
  readonly asked: number;
  readonly text: string;
  /** What to ask for next time; empty where what was asked for is about right. */
  readonly hint: string;
}

/** What is used, times this, would do. */
const SPARE = 1.25;
/** A hint is for what is this much more than would do. */
const FAR_OFF = 2;
/** Less than so much memory is not worth a word. */
const LITTLE_MEMORY = 2e9;
const ROUND = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768];

/** The memory and cpus that a job used, as far as its site has measured them. */
export function usageOf(job: JobPreview, containers: readonly Container[], tr: Translator): Used[] {
  const { memory, cpus, runtime } = job.job_input;
  const usage: Used[] = [];
  const peak = job.max_anonymous_memory ?? job.max_memory;
  if (peak !== undefined) {
    const enough = roundUp(peak * SPARE);
    usage.push({
      title: tr.__("Memory"),
      used: peak,
      asked: memory,
      text: tr.__("%1 at most, of %2", formatSize(peak), formatSize(memory)),
      hint:
        memory >= LITTLE_MEMORY && memory >= FAR_OFF * enough
          ? tr.__(
              "Asked for %1, used %2 at most: %3 would do.",
              formatSize(memory),
              formatSize(peak),
              formatSize(enough),
            )
          : "",
    });
  }
  if (job.cpu_factor !== undefined) {
    const busy = job.cpu_factor * cpus;
    const enough = Math.max(1, Math.ceil(busy * SPARE));
    const shown = String(Math.round(busy * 10) / 10);
    usage.push({
      title: tr.__("CPUs"),
      used: busy,
      asked: cpus,
      text: tr.__("%1 busy on average, of %2", shown, cpus),
      hint:
        cpus >= FAR_OFF * enough
          ? tr.__("Asked for %1 cpus, kept %2 busy: %3 would do.", cpus, shown, enough)
          : "",
    });
  }
  const longest = Math.max(0, ...containers.map(({ wall_seconds: seconds = 0 }) => seconds));
  const limit = parseDuration(runtime);
  if (longest > 0 && limit > 0) {
    usage.push({
      title: tr.__("Time"),
      used: longest,
      asked: limit,
      text: tr.__("%1 at most, of %2", formatDuration(longest), formatDuration(limit)),
      hint: "",
    });
  }
  return usage;
}

/** A round number of gigabytes that is no less. */
function roundUp(bytes: number): number {
  const gigabytes = bytes / 1e9;
  const round = ROUND.find((each) => each >= gigabytes) ?? Math.ceil(gigabytes / 128) * 128;
  return round * 1e9;
}
