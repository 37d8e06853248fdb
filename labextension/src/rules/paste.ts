// Input files as lines of text: a path, and maybe a tab and its data ID.

import type { InputDetails } from "./spec";

export interface Pasted {
  readonly paths: readonly string[];
  readonly details: Readonly<Record<string, InputDetails>>;
}

/** Reads lines; empty ones, and paths that were there before, are left out. Checksums that are known are kept. */
export function readPaths(text: string, known: Pasted["details"] = {}): Pasted {
  const details: Record<string, InputDetails> = {};
  const paths = new Set<string>();
  for (const line of text.split(/\r?\n/)) {
    const [written = "", id = ""] = line.split("\t");
    const path = written.trimStart().replace(/^s3:\/\//, "");
    if (!path.trim()) continue;
    paths.add(path);
    const crc64nvme = known[path]?.crc64nvme;
    const given = {
      ...details[path],
      ...(crc64nvme !== undefined && { crc64nvme }),
      ...(id.trim() && { data_id: id.trim() }),
    };
    if (Object.keys(given).length) details[path] = given;
  }
  return { paths: [...paths], details };
}

export function formatPaths({ paths, details }: Pasted): string {
  return paths.map((path) => [path, details[path]?.data_id].filter(Boolean).join("\t")).join("\n");
}
