// What commands do with a job that a person chooses; how they are asked is the page's.

import type { Job, JobPreview, Jobs } from "../api/types";
import { formatCode, requestOf } from "../rules/code";
import { type Language, languagesFor, nameLanguage } from "../rules/languages";
import type { Translator } from "../rules/translator";
import {
  formatProgress,
  formatState,
  hasEnded,
  sentence,
  shortId,
  shownState,
  statesOf,
} from "../rules/words";
import { asServiceError } from "../service/errors";
import type { Query } from "../service/port";
import type { JobStore } from "../store/jobs";

/** Jobs that one may choose from, the latest first; any other is opened by its id. */
const MAX_CHOICES = 100;

/** How the page asks a person, and tells them. */
export interface Dialogs {
  /** The place of the item that was chosen, at first `current`; null if none was. The items differ. */
  choose(title: string, label: string, items: readonly string[], current?: number): Promise<number | null>;
  /** Whether a person agrees; not to is what Enter does. */
  confirm(question: Question): Promise<boolean>;
  tell(text: string, isFailure: boolean): void;
  /** Whether the browser let the page copy it. */
  copy(text: string): Promise<boolean>;
}

export interface Question {
  title: string;
  text: string;
  yes: string;
  no: string;
}

/** `id` is the job; without it a person chooses one, with `current`, which they look at, as the first. */
export interface Wanted {
  id: string | null;
  current: string | null;
}

export class JobActions {
  constructor(
    private readonly store: JobStore,
    private readonly tr: Translator,
    private readonly dialogs: Dialogs,
  ) {}

  async cancel(wanted: Wanted): Promise<void> {
    const { store, tr, dialogs } = this;
    const live = [...statesOf("waiting"), ...statesOf("running")];
    const title = tr.__("Cancel a job");
    await this.orTell(tr.__("Not cancelled"), async () => {
      const job = await this.find(wanted, title, tr.__("None of your jobs is live."), {
        query: { state: live },
        isMeant: (shown) => !hasEnded(shown.state),
      });
      if (!job) return;
      const name = `${shortId(job.id)} (${job.job_input.image})`;
      const { containers } = job;
      const progress = containers ? formatProgress(job.job_input.num_containers, containers, tr) : "";
      const isSure = await dialogs.confirm({
        title: tr.__("Cancel this job?"),
        text: [
          tr.__("Job %1.", name),
          progress && `${progress}.`,
          tr.__("Its outputs so far stay. This cannot be undone."),
        ]
          .filter(Boolean)
          .join(" "),
        yes: tr.__("Cancel the job"),
        no: tr.__("Keep it running"),
      });
      if (!isSure) return;
      await store.cancel(job.id);
      dialogs.tell(tr.__("Job %1 is being cancelled", name), false);
    });
  }

  /** Copies what submits a job again; a person chooses the language that is not given. */
  async copyCode(wanted: Wanted, given: Language | null): Promise<void> {
    const { store, tr, dialogs } = this;
    const { service } = store;
    const title = tr.__("Copy a job as code");
    await this.orTell(tr.__("Not copied"), async () => {
      const job = await this.find(wanted, title, tr.__("You have no jobs yet."), {
        query: {},
        // What the code is made of is for the job's owner.
        isMeant: (_, isOthers) => !isOthers,
      });
      if (!job) return;
      const url = service.url("jobs");
      const languages = languagesFor(url);
      const names = languages.map((one) => nameLanguage(one, tr));
      const question = tr.__("Copy job %1 as code", shortId(job.id));
      const place = given ? languages.indexOf(given) : await dialogs.choose(question, tr.__("As"), names);
      const language = languages[place ?? -1];
      if (!language) return;
      const whole = await service.get<Job>(pathOf(job.id));
      const isCopied = await dialogs.copy(formatCode(requestOf(whole), language, url ?? ""));
      if (isCopied) dialogs.tell(tr.__("Copied job %1", shortId(job.id)), false);
      else dialogs.tell(tr.__("Not copied: the browser does not let this page"), true);
    });
  }

  /** The job that is meant; null if a person chose none, or there is none. Rejects with ServiceError. */
  private async find(
    { id, current }: Wanted,
    title: string,
    none: string,
    { query, isMeant }: Choice,
  ): Promise<JobPreview | null> {
    const { store, tr, dialogs } = this;
    const { service } = store;
    if (id !== null) return service.get<JobPreview>(pathOf(id), { files: false });
    const { jobs } = await service.get<Jobs>("jobs", { ...query, containers: true, limit: MAX_CHOICES });
    const { job: shown, isOthers } = store.view(current ?? "");
    const first = shown && isMeant(shown, isOthers) ? [shown] : [];
    // An older service takes notice of one state alone.
    const others = jobs.filter((job) => job.id !== first[0]?.id && isMeant(job, false));
    const choices = [...first, ...others];
    if (!choices.length) {
      dialogs.tell(none, false);
      return null;
    }
    const names = choices.map((job) => nameJob(job, tr));
    const place = await dialogs.choose(title, tr.__("Job"), names);
    return choices[place ?? -1] ?? null;
  }

  /** Does what the service may refuse, and tells why it did. */
  private async orTell(what: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.dialogs.tell(`${what}: ${sentence(asServiceError(error).message)}`, true);
    }
  }
}

/** The jobs that one may choose from: those that `query` is for, and the one that is shown if it is meant, too. */
interface Choice {
  query: Query;
  isMeant: (job: JobPreview, isOthers: boolean) => boolean;
}

function pathOf(id: string): string {
  return `jobs/${encodeURIComponent(id)}`;
}

/** A name that no other job has. */
function nameJob({ id, state, containers = {}, job_input: { image } }: JobPreview, tr: Translator): string {
  return [image, formatState(shownState(state, containers), tr), id].join(" · ");
}
