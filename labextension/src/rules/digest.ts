// A short text that tells two lists of inputs apart; cts_jupyter/notebook/panel.py makes the same one.

import type { S3FileWithDataID } from "../api/types";

export type Entry = string | S3FileWithDataID;

/** The text of an input: its path, data ID and checksum. */
export function keyOf(entry: Entry): string {
  if (typeof entry === "string") return `${entry}\t\t`;
  return `${entry.file}\t${entry.data_id ?? ""}\t${entry.crc64nvme ?? ""}`;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

export function digestOf(keys: readonly string[]): string {
  let crc = -1;
  for (const byte of new TextEncoder().encode(keys.join("\n"))) {
    crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 255] ?? 0);
  }
  return `${keys.length}:${(~crc >>> 0).toString(16).padStart(8, "0")}`;
}
