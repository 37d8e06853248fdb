import { Token } from "@lumino/coreutils";

import type { Translator } from "../rules/translator";
import type { JobStore } from "../store/jobs";

/** CTS in this page: the jobs, and the texts to show them with. */
export interface ICTS {
  readonly store: JobStore;
  readonly tr: Translator;
  /** The service's name for people. */
  readonly name: string;
  /** Opens a job in the main area. */
  readonly open: (id: string) => void;
  /** Opens a form for a new job, filled in with the values of another. */
  readonly newJob: (from?: string) => void;
}

export const ICTS = new Token<ICTS>(
  "cts-jupyter:ICTS",
  "The jobs of the CTS service of this Jupyter server.",
);

/** Commands. */
export const SHOW_JOBS = "cts:show-jobs";
export const OPEN_JOB = "cts:open-job";
export const OPEN_EXAMPLE = "cts:open-example";
export const NEW_JOB = "cts:new-job";
export const CANCEL_JOB = "cts:cancel-job";
export const COPY_JOB = "cts:copy-job";
export const GROUP_JOBS = "cts:group-jobs";
