// The outputs of a job, with what the object store has of each now.

import type { JobOutput, JobOutputs, ObjectPage, StoredObject } from "../api/types";
import { asServiceError, isAbort } from "../service/errors";
import type { IService } from "../service/port";
import { Observable } from "./observable";

/** The outputs that are listed, and the objects that are looked at, at most. */
export const MAX_LISTED = 10_000;
const PAGE = 1_000;

/** "same": the object has the checksum that the output had; "changed": it has another; "gone": there is none. */
export type Check = "same" | "changed" | "gone" | "unknown";

export interface OutputFile {
  readonly file: string;
  readonly crc64nvme: string | undefined;
  readonly container: number | undefined;
  readonly size: number | null;
  readonly check: Check;
}

export interface OutputsState {
  readonly files: readonly OutputFile[];
  readonly isLoading: boolean;
  /** Whether there are more than are listed. */
  readonly isCut: boolean;
  /** Whether the service tells what the object store has. */
  readonly hasObjects: boolean;
  /** Why the latest request failed; empty if it did not. */
  readonly message: string;
}

const LOADING: OutputsState = { files: [], isLoading: true, isCut: false, hasObjects: true, message: "" };

/** Loads its list when it is first watched. */
export class OutputList extends Observable<OutputsState> {
  private request = new AbortController();

  constructor(
    private readonly service: IService,
    private readonly jobId: string,
    /** Ends with a slash. */
    private readonly folder: string,
    /** All outputs, where they are known. */
    private readonly known: readonly Pick<JobOutput, "file" | "crc64nvme" | "container">[] | null,
  ) {
    super(LOADING);
  }

  protected override onWatched(): void {
    this.request = new AbortController();
    void this.load(this.request.signal);
  }

  protected override onUnwatched(): void {
    this.request.abort();
  }

  private async load(signal: AbortSignal): Promise<void> {
    try {
      await this.loadOutputs(signal);
      await this.loadObjects(signal);
    } catch (error) {
      if (isAbort(error)) return;
      this.set({ message: asServiceError(error).message });
    }
    this.set({ isLoading: false });
  }

  private async loadOutputs(signal: AbortSignal): Promise<void> {
    if (this.known) {
      this.set({ files: this.known.map(toFile) });
      return;
    }
    const path = `jobs/${encodeURIComponent(this.jobId)}/outputs`;
    let after: string | undefined;
    let files: OutputFile[] = [];
    do {
      const page: JobOutputs = await this.service.get(path, { limit: PAGE, after }, signal);
      files = [...files, ...page.outputs.map(toFile)];
      after = page.next;
      this.set({ files, isCut: after !== undefined });
    } while (after !== undefined && files.length < MAX_LISTED);
  }

  private async loadObjects(signal: AbortSignal): Promise<void> {
    const stored = new Map<string, StoredObject>();
    let after: string | undefined;
    try {
      do {
        const page: ObjectPage = await this.service.get(
          "files",
          { prefix: this.folder, limit: PAGE, after },
          signal,
        );
        for (const object of page.objects) stored.set(object.path, object);
        after = page.next;
      } while (after !== undefined && stored.size < MAX_LISTED);
    } catch (error) {
      if (isAbort(error) || !asServiceError(error).isUnknown) throw error;
      this.set({ hasObjects: false });
      return;
    }
    const isWhole = after === undefined;
    this.set({ files: this.view.files.map((file) => compare(file, stored.get(file.file), isWhole)) });
  }
}

function toFile({
  file,
  crc64nvme,
  container,
}: Pick<JobOutput, "file" | "crc64nvme" | "container">): OutputFile {
  return { file, crc64nvme, container, size: null, check: "unknown" };
}

function compare(file: OutputFile, stored: StoredObject | undefined, isWhole: boolean): OutputFile {
  if (!stored) return isWhole ? { ...file, check: "gone" } : file;
  const { size, crc64nvme } = stored;
  const check =
    crc64nvme === undefined || file.crc64nvme === undefined
      ? "unknown"
      : crc64nvme === file.crc64nvme
        ? "same"
        : "changed";
  return { ...file, size, check };
}
