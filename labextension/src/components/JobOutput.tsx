import type { ReactNode } from "react";

import type { JobStore, JobView } from "../store/jobs";
import { JobCard, explainSaved } from "./JobCard";
import { useJob, useTranslator } from "./context";

interface Props {
  store: JobStore;
  id: string;
  service: string;
  open: (id: string) => void;
  newJob?: ((from: string) => void) | undefined;
  onLoad: (view: Pick<JobView, "job" | "error">) => void;
}

/** A job below a cell: its card, or why there is only what was saved. */
export function JobOutput(props: Props): ReactNode {
  const tr = useTranslator();
  const { job, error } = useJob(props.store, props.id);
  return (
    <>
      <JobCard {...props} />
      {!job && error && (
        <p className="cts-note" role="status">
          {explainSaved(error, tr)}
        </p>
      )}
    </>
  );
}
