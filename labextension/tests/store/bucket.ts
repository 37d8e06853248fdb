// An object store as the service answers for it: sorted paths, pages of at most a thousand.

import type { ObjectPage, StoredObject } from "../../src/api/types";
import type { Query } from "../../src/service/port";

/** Files that one search looks at. */
export const SCANNED_AT_ONCE = 20_000;

export function stored(path: string, changes: Partial<StoredObject> = {}): StoredObject {
  return {
    path,
    size: 1_000_000,
    etag: `e-${path}`,
    content_type: "application/octet-stream",
    modified: "2026-01-02T03:04:05Z",
    checksum: "stored",
    crc64nvme: `crc-${path}`,
    ...changes,
  };
}

export class Bucket {
  readonly files: StoredObject[];

  constructor(files: readonly StoredObject[]) {
    this.files = [...files].sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  replace(path: string, changes: Partial<StoredObject>): void {
    const index = this.files.findIndex((file) => file.path === path);
    const old = this.files[index];
    if (old) this.files[index] = { ...old, ...changes };
  }

  /** Where the first file is that begins so and comes after a path. */
  private place(beginning: string, after: Query[string]): number {
    let [low, high] = [0, this.files.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const path = this.files[middle]?.path ?? "";
      if (path < beginning || (typeof after === "string" && path <= after)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  list = ({ prefix, after, limit, folders, match, checksum }: Query): ObjectPage => {
    const beginning = String(prefix);
    const isSearch = match !== undefined || checksum !== undefined;
    const pattern = match === undefined ? null : toRegExp(String(match));
    const page: ObjectPage = { objects: [], folders: [], left_out: [] };
    let scanned = 0;
    let last = "";
    for (let at = this.place(beginning, after); at < this.files.length; at += 1) {
      const file = this.files[at];
      if (!file?.path.startsWith(beginning)) break;
      const name = file.path.slice(beginning.length);
      const folder =
        folders === true && name.includes("/") ? `${beginning}${name.split("/")[0] ?? ""}/` : null;
      if (folder !== null && (folder === String(after) || page.folders.includes(folder))) continue;
      const isFull = page.objects.length + page.folders.length >= Number(limit);
      if (isFull || (isSearch && scanned >= SCANNED_AT_ONCE)) {
        page.next = last;
        break;
      }
      scanned += 1;
      last = folder ?? file.path;
      const isWanted = checksum === undefined || file.checksum === checksum;
      if (folder !== null) page.folders.push(folder);
      else if (isWanted && (!pattern || pattern.test(name))) page.objects.push(file);
    }
    return isSearch ? { ...page, scanned } : page;
  };
}

function toRegExp(pattern: string): RegExp {
  return new RegExp(`^${pattern.replaceAll(".", "\\.").replaceAll("*", ".*")}$`);
}
