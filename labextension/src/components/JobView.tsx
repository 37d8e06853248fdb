import type { ReactNode } from "react";

import type { JobStore } from "../store/jobs";
import { JobCard } from "./JobCard";
import { WhyMissing } from "./WhyMissing";
import { useJob, useTranslator } from "./context";

interface Props {
  store: JobStore;
  id: string;
  service: string;
  open: (id: string) => void;
  newJob?: ((from: string) => void) | undefined;
}

/** A job in a place of its own. */
export function JobView({ store, id, service, open, newJob }: Props): ReactNode {
  const tr = useTranslator();
  const { job, error } = useJob(store, id);
  return (
    <div className="cts-view">
      <JobCard key={id} store={store} id={id} service={service} size="wide" open={open} newJob={newJob} />
      {!job && (
        <p className="cts-empty" role="status">
          {error ? (
            <WhyMissing
              error={error}
              unknown={tr.__("The service does not know this job. It may be on another service.")}
            />
          ) : (
            tr.__("Loading …")
          )}
        </p>
      )}
    </div>
  );
}
