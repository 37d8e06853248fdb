// Which jobs a list shows.

import type { JobPreview } from "../api/types";
import type { Query } from "../service/port";
import { updatedAt } from "./groups";
import { type Mood, moodOf, statesOf } from "./words";

export interface Filter {
  readonly text: string;
  /** Of these moods; none of them is chosen for jobs of all. */
  readonly moods: readonly Mood[];
  readonly image: string;
  /** ``key=value``, or ``key=""`` for an empty value. */
  readonly label: string;
  readonly site: string;
  /** In a list of everybody's jobs. */
  readonly user: string;
  /** Days such as ``2026-01-31``, in the browser's zone: updated then, or later, or earlier. */
  readonly from: string;
  readonly until: string;
  /** Of the user's own jobs, those that ended since the user last looked. */
  readonly isNew: boolean;
}

export const ALL: Filter = {
  text: "",
  moods: [],
  image: "",
  label: "",
  site: "",
  user: "",
  from: "",
  until: "",
  isNew: false,
};

const LABEL = /^[^=]+=./;
const QUOTED = /^"(.*)"$/s;
const NEEDS_QUOTES = /^$|^\s|\s$|^".*"$/s;

/**
 * A label as it is typed into its filter. Quotes are put around an empty value, since a label that ends with its equals
 * sign is not typed to its end, and around a value that begins or ends with a space, or has quotes of its own there.
 */
export function toTyped(key: string, value: string): string {
  return `${key}=${NEEDS_QUOTES.test(value) ? `"${value}"` : value}`;
}

/** The label that was typed, as the service takes it; undefined for one that is not typed to its end. */
function labelOf(typed: string): string | undefined {
  const label = typed.trim();
  if (!LABEL.test(label)) return undefined;
  const start = label.indexOf("=") + 1;
  return label.slice(0, start) + label.slice(start).replace(QUOTED, "$1");
}

/** The number of filters besides the text. */
export function countFilters({ moods, image, label, site, user, from, until, isNew }: Filter): number {
  return [moods.length > 0, image.trim(), labelOf(label), site, user.trim(), from, until, isNew].filter(
    Boolean,
  ).length;
}

/** The parameters of a request for the jobs. */
export function toQuery({ text, moods, image, label, site, user, from, until, isNew }: Filter): Query {
  return {
    text: text.trim() || undefined,
    state: moods.flatMap(statesOf),
    image: image.trim() || undefined,
    label: labelOf(label),
    cluster: site || undefined,
    user: user.trim() || undefined,
    after: startOf(from)?.toISOString(),
    before: startOf(until, 1)?.toISOString(),
    new: isNew || undefined,
  };
}

/** Whether a job that an event has changed is still one of them; nothing else of it changes. */
export function isKept({ moods, from, until }: Filter, job: JobPreview): boolean {
  const time = updatedAt(job);
  return (
    (!moods.length || moods.includes(moodOf(job.state))) &&
    time >= (startOf(from)?.getTime() ?? -Infinity) &&
    time < (startOf(until, 1)?.getTime() ?? Infinity)
  );
}

/** When a day, or one that is so many days later, begins in the browser's zone. */
function startOf(day: string, later = 0): Date | undefined {
  const [year, month, date] = day.split("-").map(Number);
  if (year === undefined || month === undefined || date === undefined) return undefined;
  const start = new Date(year, month - 1, date + later);
  return Number.isNaN(start.getTime()) ? undefined : start;
}
