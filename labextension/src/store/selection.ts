// The files that a person chose as a job's inputs, in the order in which they were chosen.

import type { ChecksumState, StoredObject } from "../api/types";
import { parentOf } from "../rules/paths";
import { Observable } from "./observable";

/** Files that may be chosen: beyond what a job takes, so that a person sees how many too many there are. */
export const MAX_CHOSEN = 100_000;

/** A file as it was when it was chosen: what is not known of one that was named elsewhere is missing. */
export interface Chosen {
  readonly path: string;
  readonly size?: number;
  readonly etag?: string;
  readonly checksum?: ChecksumState;
  readonly crc64nvme?: string;
  /** What it is by now, where that is another content. */
  readonly now?: StoredObject;
  /** There is none any more, or never was one. */
  readonly isGone?: boolean;
}

export interface SelectionView {
  readonly files: readonly Chosen[];
  readonly bytes: number;
  /** Files that were not looked at yet. */
  readonly unknown: number;
  /** Those that have no checksum, and are still what they were. */
  readonly missing: readonly Chosen[];
  /** Those that are not what they were when they were chosen. */
  readonly changed: readonly Chosen[];
  readonly gone: readonly Chosen[];
  /** How the latest files were chosen together, such as by a pattern; empty if they were not. */
  readonly from: string;
  /** Not all that was to be chosen is. */
  readonly isFull: boolean;
  /** How many there were to choose, if not all are chosen and it is known. */
  readonly all: number | null;
}

const NONE: SelectionView = {
  files: [],
  bytes: 0,
  unknown: 0,
  missing: [],
  changed: [],
  gone: [],
  from: "",
  isFull: false,
  all: null,
};

export class Selection extends Observable<SelectionView> {
  private readonly chosen = new Map<string, Chosen>();
  private folders: ReadonlyMap<string, number> | null = null;

  constructor() {
    super(NONE);
  }

  has(path: string): boolean {
    return this.chosen.has(path);
  }

  get(path: string): Chosen | undefined {
    return this.chosen.get(path);
  }

  /** How many files below a folder are chosen. */
  countBelow(folder: string): number {
    this.folders ??= countFolders(this.chosen.keys());
    return this.folders.get(folder) ?? 0;
  }

  add(files: readonly StoredObject[], from = ""): void {
    let isFull = false;
    for (const file of files) {
      if (this.chosen.size >= MAX_CHOSEN && !this.chosen.has(file.path)) isFull = true;
      else this.chosen.set(file.path, toChosen(file));
    }
    this.changed({ from, isFull, all: null });
  }

  /** Notes that there is more that was to be chosen. */
  leaveRest(all: number | null): void {
    this.set({ isFull: true, all });
  }

  remove(paths: Iterable<string>): void {
    for (const path of paths) this.chosen.delete(path);
    this.changed({ isFull: false, all: null, ...(this.chosen.size === 0 && { from: "" }) });
  }

  removeBelow(folder: string): void {
    this.remove([...this.chosen.keys()].filter((path) => path.startsWith(folder)));
  }

  clear(): void {
    this.remove([...this.chosen.keys()]);
  }

  /** Chooses these alone; what is known of those that were chosen before is kept. */
  setPaths(paths: readonly string[]): void {
    const before = new Map(this.chosen);
    this.chosen.clear();
    for (const path of paths.slice(0, MAX_CHOSEN)) this.chosen.set(path, before.get(path) ?? { path });
    this.changed({ from: "", isFull: paths.length > MAX_CHOSEN, all: null });
  }

  /** Compares files as they are now with those that were chosen. */
  see(files: readonly StoredObject[]): void {
    let isNew = false;
    for (const file of files) {
      const chosen = this.chosen.get(file.path);
      if (!chosen) continue;
      const seen = compare(chosen, file);
      if (seen === chosen) continue;
      this.chosen.set(file.path, seen);
      isNew = true;
    }
    if (isNew) this.changed();
  }

  /** Marks files that are no more. */
  miss(paths: Iterable<string>): void {
    for (const path of paths) if (this.chosen.has(path)) this.chosen.set(path, { path, isGone: true });
    this.changed();
  }

  /** Takes files that changed as they are now. */
  accept(): void {
    for (const [path, { now }] of this.chosen) if (now) this.chosen.set(path, toChosen(now));
    this.changed();
  }

  /** Notes checksums that the service has stored since, which changes ETags at some stores. */
  noteChecksums(results: Iterable<readonly [path: string, crc64nvme: string | undefined]>): void {
    for (const [path, crc64nvme] of results) {
      const chosen = this.chosen.get(path);
      if (!chosen || chosen.now) continue;
      const { size } = chosen;
      this.chosen.set(path, {
        path,
        checksum: "stored",
        ...(size !== undefined && { size }),
        ...(crc64nvme !== undefined && { crc64nvme }),
      });
    }
    this.changed();
  }

  private changed(changes: Partial<SelectionView> = {}): void {
    this.folders = null;
    const files = [...this.chosen.values()];
    this.set({
      files,
      bytes: files.reduce((sum, { size = 0 }) => sum + size, 0),
      unknown: files.filter(({ size, isGone }) => size === undefined && !isGone).length,
      missing: files.filter(({ checksum, now }) => checksum === "missing" && !now),
      changed: files.filter(({ now }) => now),
      gone: files.filter(({ isGone }) => isGone),
      ...changes,
    });
  }
}

function toChosen({ path, size, etag, checksum, crc64nvme }: StoredObject): Chosen {
  return { path, size, etag, checksum, ...(crc64nvme !== undefined && { crc64nvme }) };
}

/** Returns what is known of a file after it was seen again; the same object if that is nothing new. */
function compare(chosen: Chosen, now: StoredObject): Chosen {
  if (chosen.size === undefined) return toChosen(now);
  const isSame =
    chosen.size === now.size &&
    (chosen.crc64nvme !== undefined && now.crc64nvme !== undefined
      ? chosen.crc64nvme === now.crc64nvme
      : chosen.etag === undefined || chosen.etag === now.etag);
  if (!isSame) return chosen.now?.etag === now.etag ? chosen : { ...chosen, now };
  const isKnown = !chosen.now && chosen.etag === now.etag && chosen.checksum === now.checksum;
  return isKnown ? chosen : toChosen(now);
}

function countFolders(paths: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const path of paths) {
    for (let folder = parentOf(path); folder; folder = parentOf(folder)) {
      counts.set(folder, (counts.get(folder) ?? 0) + 1);
    }
  }
  return counts;
}
