// The files of the object store as a tree: folders page by page, or what the service finds in one by a pattern.

import type { FileSummary, ObjectPage, Roots, StoredObject } from "../api/types";
import { commonPrefix, parentOf } from "../rules/paths";
import { MAX_FILES } from "../rules/problems";
import { type ServiceError, asServiceError, isAbort } from "../service/errors";
import type { IService, Query } from "../service/port";
import { Observable } from "./observable";
import type { Selection } from "./selection";

export const PAGE = 1_000;
/** Rows that are kept of one folder or search. */
export const MAX_ROWS = 100_000;
/** Pages that are read to look again at what is chosen. */
const MAX_LOOKS = 100;
const TYPING_MS = 300;

export interface FileFilter {
  /** A glob; without a slash it is matched against names. */
  readonly match: string;
  readonly isMissing: boolean;
}

interface InTree {
  readonly key: string;
  /** From 1 on. */
  readonly level: number;
  /** Among its siblings, from 1 on. */
  readonly place: number;
  /** The number of them is -1 while it is not known. */
  readonly siblings: { readonly size: number };
}
export type Row =
  | (InTree & { readonly kind: "folder"; readonly path: string; readonly isOpen: boolean })
  | (InTree & { readonly kind: "file"; readonly path: string; readonly file: StoredObject })
  | (InTree & {
      readonly kind: "rest";
      readonly folder: string;
      /** "stopped": there is more, which is not read until a person asks. */
      readonly state: "loading" | "more" | "stopped" | "empty" | "full";
      readonly error: ServiceError | null;
    });

/** What the service offers; an older one does not know how to search, say. */
export interface Offers {
  readonly roots: boolean;
  readonly search: boolean;
  readonly summary: boolean;
}

export interface BrowserView {
  /** Where one can look; null until they are known. */
  readonly roots: readonly string[] | null;
  readonly offers: Offers;
  /** The folder that is looked at; empty where one chooses among the roots. */
  readonly folder: string;
  readonly filter: FileFilter;
  readonly rows: readonly Row[];
  /** Why there are no rows. */
  readonly error: ServiceError | null;
  readonly isLoading: boolean;
  /** Files that a search has looked at; null without one. */
  readonly scanned: number | null;
  /** Whether the search, or the listing of the folder, came to its end. */
  readonly isWhole: boolean;
  readonly totals: FileSummary | null;
  /** Files are being chosen all at once: so many were so far. */
  readonly choosing: number | null;
}

const START: BrowserView = {
  roots: null,
  offers: { roots: true, search: true, summary: true },
  folder: "",
  filter: { match: "", isMissing: false },
  rows: [],
  error: null,
  isLoading: true,
  scanned: null,
  isWhole: false,
  totals: null,
  choosing: null,
};

/** A folder or a search, as far as it has been read. */
class Listing {
  readonly rows: Exclude<Row, { kind: "rest" }>[] = [];
  next: string | undefined;
  scanned = 0;
  isRead = false;
  isLoading = false;
  isStopped = false;
  private opened = 0;
  error: ServiceError | null = null;

  constructor(private readonly level: number) {}

  get hasMore(): boolean {
    return !this.isRead || this.next !== undefined;
  }

  get size(): number {
    return this.hasMore ? -1 : this.rows.length;
  }

  take({ objects, folders, next, scanned }: ObjectPage): void {
    const files = new Map(objects.map((file) => [file.path, file]));
    // Of objects and folders, each page has those between two paths.
    for (const path of [...folders, ...files.keys()].sort()) {
      const file = files.get(path);
      const place = this.placeOf(path);
      this.rows.push(
        file ? { kind: "file", path, file, ...place } : { kind: "folder", path, isOpen: false, ...place },
      );
    }
    this.next = next;
    this.scanned += scanned ?? 0;
    this.isRead = true;
  }

  get isOpenBelow(): boolean {
    return this.opened > 0;
  }

  turn(folder: string, isOpen: boolean): void {
    const index = this.rows.findIndex(({ path }) => path === folder);
    const row = this.rows[index];
    if (row?.kind !== "folder") return;
    this.rows[index] = { ...row, isOpen };
    this.opened += isOpen ? 1 : -1;
  }

  /** The row after all others, if there is something to say. */
  rest(folder: string): Row | null {
    const { hasMore, isLoading, isStopped, error, rows } = this;
    if (!hasMore && rows.length) return null;
    const more = rows.length >= MAX_ROWS ? "full" : isStopped ? "stopped" : "more";
    const state = isLoading ? "loading" : hasMore ? more : "empty";
    return { kind: "rest", folder, state, error, ...this.placeOf(`${folder}\n`) };
  }

  private placeOf(key: string): InTree {
    return { key, level: this.level, place: this.rows.length + 1, siblings: this };
  }
}

export class FileBrowser extends Observable<BrowserView> {
  private readonly listings = new Map<string, Listing>();
  private found: Listing | null = null;
  private reading = new AbortController();
  private walking = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly service: IService,
    private readonly selection: Selection,
  ) {
    super(START);
  }

  /** Looks where one can look, once. */
  async start(): Promise<void> {
    if (this.view.roots !== null) return;
    await this.guard(async () => {
      const [roots, search, summary] = await Promise.all([
        this.service.knows("GET", "/files/roots"),
        this.service.knows("GET", "/files", "match"),
        this.service.knows("GET", "/files/summary"),
      ]);
      const found = roots ? (await this.service.get<Roots>("files/roots")).roots : [];
      const paths = found.map(({ path }) => path);
      this.set({ roots: paths, offers: { roots, search, summary }, isLoading: false, error: null });
      const [only] = paths;
      if (paths.length === 1 && only !== undefined && !this.view.folder) this.open(only);
      else this.show();
    });
  }

  /** Looks into a folder; into none to choose among the roots. */
  open(folder: string): void {
    this.set({ folder, filter: START.filter });
    this.reload();
  }

  /** Reads all anew that is shown. */
  reload(): void {
    this.stop();
    this.listings.clear();
    this.found = null;
    this.set({ error: null, totals: null, isWhole: false, scanned: null });
    if (this.view.roots === null) void this.start();
    if (this.view.folder) this.read();
    else this.show();
  }

  setFilter(changes: Partial<FileFilter>): void {
    const filter = { ...this.view.filter, ...changes };
    const isTyping = filter.match !== this.view.filter.match;
    this.set({ filter });
    clearTimeout(this.timer);
    this.timer = setTimeout(
      () => {
        this.stop();
        this.found = null;
        this.set({ totals: null });
        this.read();
      },
      isTyping ? TYPING_MS : 0,
    );
  }

  /** Opens a folder in its place, or closes it. */
  toggle(row: Row & { kind: "folder" }): void {
    const { path, isOpen } = row;
    this.listings.get(parentOf(path))?.turn(path, !isOpen);
    if (isOpen || this.listings.has(path)) this.show();
    else void this.more(path);
  }

  /** Reads the next page of a folder that is shown, or of the search; tries again what failed. */
  async more(folder: string): Promise<void> {
    const search = this.found && this.search();
    const listing = this.found ?? this.listing(folder);
    if (listing.isLoading || !listing.hasMore || listing.rows.length >= MAX_ROWS) return;
    const { signal } = this.reading;
    listing.isLoading = true;
    listing.isStopped = false;
    listing.error = null;
    this.show();
    const enough = listing.rows.length + PAGE;
    try {
      do {
        const query = search ?? { prefix: folder, folders: true };
        const page = await this.page({ ...query, after: listing.next }, signal);
        if (signal.aborted) return;
        listing.take(page);
        this.selection.see(page.objects);
        if (search) this.show();
        // A search may look at many files and find none.
      } while (search && listing.next !== undefined && listing.rows.length < enough);
    } catch (error) {
      if (!isAbort(error)) listing.error = asServiceError(error);
    } finally {
      listing.isStopped = signal.aborted;
      listing.isLoading = false;
      this.show();
    }
  }

  /** Ends a search, or what chooses many files; what they found stays. */
  stop(): void {
    this.reading.abort();
    this.reading = new AbortController();
    this.walking.abort();
  }

  /** Chooses all files in a folder that the filter lets through, and says so meanwhile. */
  async chooseAll(folder = this.view.folder): Promise<void> {
    if (this.view.choosing !== null || !folder) return;
    this.walking = new AbortController();
    const { signal } = this.walking;
    const query = this.isSearch && folder === this.view.folder ? this.search() : { prefix: folder };
    const { match } = this.view.filter;
    const from = `${folder}${"match" in query && match.trim() ? match.trim() : ""}`;
    let after: string | undefined;
    let count = 0;
    this.set({ choosing: 0 });
    try {
      await this.guard(async () => {
        do {
          const page = await this.page({ ...query, after }, signal);
          if (signal.aborted) return;
          this.selection.add(page.objects, from);
          count += page.objects.length;
          after = page.next;
          this.set({ choosing: count });
        } while (after !== undefined && this.selection.view.files.length <= MAX_FILES);
        const { totals, filter } = this.view;
        const isCounted = folder === this.view.folder && !filter.isMissing && totals?.complete === true;
        if (after !== undefined) this.selection.leaveRest(isCounted ? totals.objects : null);
      });
    } finally {
      this.set({ choosing: null });
    }
  }

  /** Looks again at the files that are chosen: which are there, which have changed. Rejects with ServiceError. */
  async look(): Promise<void> {
    const folders = new Map<string, string[]>();
    for (const { path } of this.selection.view.files) {
      const folder = parentOf(path);
      const paths = folders.get(folder);
      if (paths) paths.push(path);
      else folders.set(folder, [path]);
    }
    let looks = 0;
    for (const paths of folders.values()) {
      const last = paths.reduce((a, b) => (a > b ? a : b));
      const gone = new Set(paths);
      let after: string | undefined;
      do {
        if ((looks += 1) > MAX_LOOKS) return;
        const page = await this.page({ prefix: commonPrefix(paths), after });
        this.selection.see(page.objects);
        for (const { path } of page.objects) gone.delete(path);
        after = page.next;
      } while (after !== undefined && after < last);
      if (gone.size) this.selection.miss(gone);
    }
  }

  /** Adds up the files of the folder that the filter lets through, or goes on with it. */
  async sum(): Promise<void> {
    const { folder, filter, totals, offers } = this.view;
    if (!folder || !offers.summary) return;
    const { signal } = this.reading;
    const query = { prefix: folder, match: filter.match.trim() || undefined, after: totals?.next };
    try {
      const part = await this.service.get<FileSummary>("files/summary", query, signal);
      if (signal.aborted) return;
      this.set({
        totals: {
          ...part,
          objects: part.objects + (totals?.objects ?? 0),
          bytes: part.bytes + (totals?.bytes ?? 0),
          missing: part.missing + (totals?.missing ?? 0),
          scanned: part.scanned + (totals?.scanned ?? 0),
        },
      });
    } catch (error) {
      // Totals are an extra: without them there is a button that tries again.
      if (!isAbort(error)) asServiceError(error);
    }
  }

  private get isSearch(): boolean {
    const { filter, offers } = this.view;
    return offers.search && (filter.match.trim() !== "" || filter.isMissing);
  }

  private search(): Query {
    const { folder, filter } = this.view;
    return {
      prefix: folder,
      match: filter.match.trim() || undefined,
      checksum: filter.isMissing ? "missing" : undefined,
    };
  }

  private read(): void {
    if (!this.view.folder) return;
    this.found = this.isSearch ? new Listing(1) : null;
    const { signal } = this.reading;
    // One after the other: the service looks through files for a few requests at once.
    void this.more(this.view.folder).then(() => (signal.aborted ? undefined : this.sum()));
  }

  private page(query: Query, signal?: AbortSignal): Promise<ObjectPage> {
    return this.service.get<ObjectPage>("files", { limit: PAGE, ...query }, signal);
  }

  private listing(folder: string): Listing {
    let listing = this.listings.get(folder);
    if (!listing) {
      const level = folder.slice(this.view.folder.length).split("/").length;
      this.listings.set(folder, (listing = new Listing(level)));
    }
    return listing;
  }

  private show(): void {
    const { folder, roots } = this.view;
    const top = this.found ?? (folder ? this.listing(folder) : null);
    // One that is empty says so in place of rows.
    const rows = !top ? rowsOfRoots(roots ?? []) : top.size === 0 ? [] : this.rowsOf(folder, top);
    const isFirst = top !== null && !top.isRead && !top.isStopped;
    this.set({
      rows: isFirst ? [] : rows,
      isLoading: isFirst ? top.isLoading : roots === null,
      error: isFirst ? top.error : null,
      scanned: this.found?.scanned ?? null,
      isWhole: top !== null && !top.hasMore,
    });
  }

  private rowsOf(folder: string, listing: Listing): Row[] {
    const rows = listing.isOpenBelow
      ? listing.rows.flatMap((row) =>
          row.kind === "folder" && row.isOpen
            ? [row, ...this.rowsOf(row.path, this.listing(row.path))]
            : [row],
        )
      : listing.rows;
    const rest = listing.rest(folder);
    return rest ? [...rows, rest] : [...rows];
  }

  /** Keeps what a request is refused with. */
  private async guard(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      if (!isAbort(error)) this.set({ error: asServiceError(error), isLoading: false });
    }
  }
}

function rowsOfRoots(roots: readonly string[]): Row[] {
  const siblings = { size: roots.length };
  return roots.map((path, index) => ({
    kind: "folder",
    path,
    isOpen: false,
    key: path,
    level: 1,
    place: index + 1,
    siblings,
  }));
}
