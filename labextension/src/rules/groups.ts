// Puts the rows of a list of jobs into groups, and resubmissions below the job that they resubmit.

import type { JobPreview } from "../api/types";
import type { Translator } from "./translator";

export type Grouping = "day" | "image" | "label" | "none";
export const GROUPINGS: readonly Grouping[] = ["day", "image", "label", "none"];

export type Item =
  | { kind: "group"; key: string; title: string; count: number }
  | { kind: "job"; key: string; job: JobPreview; depth: number; place: number };

const DAY_MS = 86_400_000;

/** When a job was last updated. */
export function updatedAt(job: JobPreview): number {
  return Date.parse(job.transition_times.at(-1)?.time ?? "");
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

function titleOf(job: JobPreview, grouping: Grouping, now: number, tr: Translator): string {
  switch (grouping) {
    case "day":
      return dayOf(updatedAt(job), now, tr);
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

/** The items of a list: titles of groups, and jobs in their order, each followed by its resubmissions. */
export function arrange(
  jobs: readonly JobPreview[],
  grouping: Grouping,
  now: number,
  tr: Translator,
): Item[] {
  const known = new Set(jobs.map(({ id }) => id));
  const children = new Map<string, JobPreview[]>();
  const roots: JobPreview[] = [];
  for (const job of jobs) {
    const { parent_id: parent } = job;
    if (parent === undefined || !known.has(parent)) roots.push(job);
    else children.set(parent, [...(children.get(parent) ?? []), job]);
  }
  const groups = new Map<string, [JobPreview, number][]>();
  for (const root of roots) {
    const title = titleOf(root, grouping, now, tr);
    const members = groups.get(title) ?? [];
    groups.set(title, members);
    const pending: [JobPreview, number][] = [[root, 0]];
    for (let next = pending.pop(); next; next = pending.pop()) {
      members.push(next);
      const [{ id }, depth] = next;
      for (const child of children.get(id) ?? []) pending.push([child, depth + 1]);
    }
  }
  const items: Item[] = [];
  let place = 0;
  for (const [title, members] of groups) {
    if (title) items.push({ kind: "group", key: `group ${title}`, title, count: members.length });
    for (const [job, depth] of members) {
      place += 1;
      items.push({ kind: "job", key: job.id, job, depth, place });
    }
  }
  return items;
}
