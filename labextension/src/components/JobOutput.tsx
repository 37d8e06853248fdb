import { type ReactNode, useEffect, useState } from "react";

import { asServiceError } from "../service/errors";
import type { JobStore, JobView } from "../store/jobs";
import { JobCard, WhySaved } from "./JobCard";
import { useJob, useTranslator } from "./context";

interface Props {
  store: JobStore;
  id: string;
  service: string;
  /** The records that the job is in, where the output says it. */
  instance?: string;
  open: (id: string) => void;
  newJob?: ((from: string) => void) | undefined;
  onLoad: (view: Pick<JobView, "job" | "error">) => void;
}

/** A job below a cell: its card, or why there is only what was saved. */
export function JobOutput({ instance, ...props }: Props): ReactNode {
  const tr = useTranslator();
  const isHere = useIsHere(props.store, instance);
  if (isHere === null) return null;
  if (isHere) return <Here {...props} />;
  return (
    <p className="cts-note" role="status">
      {tr.__(
        "This is what was saved: the job is elsewhere, at %1, and not at the CTS of this page.",
        props.service,
      )}
    </p>
  );
}

/** Whether the page's service has these records; null while that is not known. A service that is away may have them. */
function useIsHere(store: JobStore, instance: string | undefined): boolean | null {
  const [isHere, setHere] = useState(instance === undefined ? true : null);
  useEffect(() => {
    if (instance === undefined) return;
    store.instance().then(
      (own) => {
        setHere(own === undefined || own === instance);
      },
      (error: unknown) => {
        asServiceError(error);
        setHere(true);
      },
    );
  }, [store, instance]);
  return isHere;
}

function Here(props: Omit<Props, "instance">): ReactNode {
  const { job, error } = useJob(props.store, props.id);
  return (
    <>
      <JobCard key={props.id} {...props} />
      {!job && error && (
        <p className="cts-note" role="status">
          <WhySaved error={error} />
        </p>
      )}
    </>
  );
}
