// Where the outputs of a draft go, if nobody says so.

import type { AllowedPath } from "../api/types";

/** A newer service may have folders that one may only read. */
type Allowed = Pick<AllowedPath, "path"> & { readonly perm: string };

/** What a suggestion is made of. */
export interface Known {
  /** The folders that the user may use; empty if there are no others. */
  readonly allowed: readonly Allowed[];
  readonly user: string;
}

/** What tells the folders of two jobs apart, also of those that are begun in the same second. */
export interface Beginning {
  readonly time: Date;
  readonly mark: string;
}

/** ``bucket/ana/checkm2/2026-11-29-143005-7c1f/``; empty while too little is known. */
export function suggestFolder(
  image: string,
  files: readonly string[],
  known: Known,
  { time, mark }: Beginning,
): string {
  const tool = toolOf(image);
  const bucket = files[0]?.split("/")[0];
  const writable = known.allowed
    .filter(({ perm }) => perm === "write")
    .map(({ path }) => `${path.replace(/\/*$/, "")}/`);
  const own = writable.find((folder) => files[0]?.startsWith(folder)) ?? writable[0];
  const above = own ?? (bucket && `${bucket}/${known.user || "results"}/`);
  if (!tool || !above) return "";
  return `${above}${tool}/${stamp(time)}-${mark}/`;
}

/** ``checkm2`` of ``ghcr.io/chklovski/checkm2:1.0@sha256:…``. */
export function toolOf(image: string): string {
  const name = image.trim().split("@")[0]?.split("/").at(-1)?.split(":")[0] ?? "";
  return name.replace(/[^\w.-]/g, "");
}

function stamp(time: Date): string {
  const two = (count: number): string => String(count).padStart(2, "0");
  const day = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${day}-${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join("")}`;
}
