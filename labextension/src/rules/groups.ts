// Puts the rows of a list of jobs into groups, and resubmissions below the job that they resubmit.

import type { JobPreview } from "../api/types";
import type { Translator } from "./translator";

export type Grouping = "day" | "image" | "label" | "none";
export const GROUPINGS: readonly Grouping[] = ["day", "image", "label", "none"];

/** What a list is grouped by, in words. */
export function nameGrouping(grouping: Grouping, tr: Translator): string {
  const names: Record<Grouping, string> = {
    day: tr.__("Day"),
    image: tr.__("Image"),
    label: tr.__("Label"),
    none: tr.__("Nothing"),
  };
  return names[grouping];
}

export type Item =
  | { kind: "group"; key: string; title: string; count: number }
  | {
      kind: "job";
      key: string;
      job: JobPreview;
      depth: number;
      place: number;
      /** Its resubmissions, and theirs, newest first. */
      again: readonly JobPreview[];
      isOpen: boolean;
    };

const DAY_MS = 86_400_000;

/** A job is another object after each change. */
const updated = new WeakMap<JobPreview, number>();

/** When a job was last updated. Sorting asks for it again and again, and reading a time takes long. */
export function updatedAt(job: JobPreview): number {
  let time = updated.get(job);
  if (time === undefined) {
    time = Date.parse(job.transition_times.at(-1)?.time ?? "");
    updated.set(job, time);
  }
  return time;
}

function dayOf(time: number, now: number, tr: Translator): string {
  const day = new Date(time).toDateString();
  if (day === new Date(now).toDateString()) return tr.__("Today");
  if (day === new Date(now - DAY_MS).toDateString()) return tr.__("Yesterday");
  return new Date(time).toLocaleDateString(undefined, {
    weekday: "long",
    day: "numeric",
    month: "long",
    year: "numeric",
  });
}

/** Names the days of times. Naming one takes long, and most jobs of a list are of the same day as the one before. */
function namingDays(now: number, tr: Translator): (time: number) => string {
  let [begin, end, name] = [0, 0, ""];
  return (time) => {
    if (!(time >= begin && time < end)) {
      begin = new Date(time).setHours(0, 0, 0, 0);
      end = new Date(time).setHours(24, 0, 0, 0);
      name = dayOf(time, now, tr);
    }
    return name;
  };
}

function titleOf(
  job: JobPreview,
  grouping: Grouping,
  nameDay: (time: number) => string,
  tr: Translator,
): string {
  switch (grouping) {
    case "day":
      return nameDay(updatedAt(job));
    case "image":
      return job.job_input.image;
    case "label": {
      const [first] = Object.entries(job.labels ?? {});
      return first ? `${first[0]}=${first[1]}` : tr.__("Without a label");
    }
    case "none":
      return "";
  }
}

interface Family {
  readonly root: JobPreview;
  /** Newest first. */
  readonly again: JobPreview[];
}

/** Jobs with their resubmissions, each family in the place of what is newest of it. */
function familiesOf(jobs: readonly JobPreview[]): Family[] {
  const known = new Map(jobs.map((job) => [job.id, job]));
  const families = new Map<string, Family>();
  for (const job of jobs) {
    let root = job;
    for (const seen = new Set<string>(); root.parent_id !== undefined && !seen.has(root.id);) {
      const parent = known.get(root.parent_id);
      if (!parent) break;
      seen.add(root.id);
      root = parent;
    }
    const family = families.get(root.id) ?? { root, again: [] };
    families.set(root.id, family);
    if (job !== root) family.again.push(job);
  }
  return [...families.values()];
}

/** The items of a list: titles of groups, and jobs, each followed by its resubmissions if it is opened. */
export function arrange(
  jobs: readonly JobPreview[],
  grouping: Grouping,
  opened: ReadonlySet<string>,
  now: number,
  tr: Translator,
): Item[] {
  const groups = new Map<string, Family[]>();
  const nameDay = namingDays(now, tr);
  for (const family of familiesOf(jobs)) {
    const { root, again } = family;
    const newest = [root, ...again].reduce((a, b) => (updatedAt(b) > updatedAt(a) ? b : a));
    const title = titleOf(grouping === "day" ? newest : root, grouping, nameDay, tr);
    const members = groups.get(title) ?? [];
    groups.set(title, members);
    members.push(family);
  }
  const items: Item[] = [];
  let place = 0;
  const add = (job: JobPreview, depth: number, again: readonly JobPreview[], isOpen: boolean): void => {
    place += 1;
    items.push({ kind: "job", key: job.id, job, depth, place, again, isOpen });
  };
  for (const [title, families] of groups) {
    const count = families.reduce((sum, { again }) => sum + 1 + again.length, 0);
    if (title) items.push({ kind: "group", key: `group ${title}`, title, count });
    for (const { root, again } of families) {
      const isOpen = opened.has(root.id);
      add(root, 0, again, isOpen);
      if (isOpen) for (const job of again) add(job, 1, [], false);
    }
  }
  return items;
}
