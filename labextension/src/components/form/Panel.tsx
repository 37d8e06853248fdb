import type { ReactNode } from "react";

import type { DraftStore } from "../../store/draft";
import { isFrozen } from "../../store/draft";
import type { JobStore } from "../../store/jobs";
import { JobCard } from "../JobCard";
import { useDraft, useTranslator } from "../context";
import { Inputs } from "./Inputs";

export interface PanelProps {
  draft: DraftStore;
  jobs: JobStore;
  /** The service's name for people. */
  service: string;
  /** Opens a job. */
  open?: ((id: string) => void) | undefined;
}

/** A form for a new job, which becomes the job's card once it is submitted. */
export function Panel({ draft: store, jobs, service, open }: PanelProps): ReactNode {
  const tr = useTranslator();
  const { draft, sent } = useDraft(store);
  if (sent.phase === "done") return <JobCard store={jobs} id={sent.jobId} service={service} open={open} />;
  return (
    <form
      className="cts-form"
      aria-label={tr.__("New job")}
      data-lm-suppress-shortcuts="true"
      onSubmit={(event) => {
        event.preventDefault();
        void store.submit();
      }}
    >
      <fieldset disabled={isFrozen(sent)}>
        <section className="cts-inputs">
          <h3>{tr.__("Inputs")}</h3>
          <Inputs
            paths={draft.files}
            onChange={(files) => {
              store.change({ files });
            }}
          />
        </section>
      </fieldset>
    </form>
  );
}
