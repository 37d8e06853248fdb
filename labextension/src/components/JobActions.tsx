import { type ReactNode, Suspense, useState } from "react";

import type { JobPreview, ResubmissionOutput } from "../api/types";
import { languagesFor, nameLanguage } from "../rules/languages";
import { countMoods, hasEnded, number, shortId } from "../rules/words";
import { asServiceError } from "../service/errors";
import type { JobStore, JobView } from "../store/jobs";
import { ErrorBoundary } from "./ErrorBoundary";
import { Menu, type MenuItem } from "./Menu";
import type { RequestKind } from "./RequestBox";
import { copyText } from "./clipboard";
import { LabelsBox, RequestBox } from "./lazy";
import { useKnows, useTranslator } from "./context";

interface Props {
  store: JobStore;
  view: JobView;
  job: JobPreview;
  open: ((id: string) => void) | undefined;
  newJob: ((from: string) => void) | undefined;
}

const CHANGES: Readonly<Record<"failed" | "all", ResubmissionOutput>> = {
  failed: { failed: true, refresh_inputs: false },
  all: { failed: false, refresh_inputs: false },
};

/** What can be done with a job besides cancelling it: submitted again, and taken along as a text. */
export function JobActions({ store, view, job, open, newJob }: Props): ReactNode {
  const tr = useTranslator();
  const { id } = job;
  const [shown, show] = useState<RequestKind | "labels" | null>(null);
  // What was added before this was made anew.
  const [added, setAdded] = useState(
    () => store.resubmitted(id, CHANGES.failed) ?? store.resubmitted(id, CHANGES.all),
  );
  const [said, say] = useState(added === null ? "" : tr.__("Resubmitted as %1", shortId(added)));
  const [isSending, setSending] = useState(false);
  const { failed } = countMoods(view.counts);

  const resubmit = async (what: "all" | "failed"): Promise<void> => {
    if (isSending) return;
    setSending(true);
    say(tr.__("Submitting …"));
    try {
      const added = await store.resubmit(id, CHANGES[what]);
      setAdded(added);
      say(tr.__("Resubmitted as %1", shortId(added)));
    } catch (error) {
      say(tr.__("Not resubmitted: %1", asServiceError(error).message));
    }
    setSending(false);
  };
  const canResubmit = useKnows(store.service, "POST", "/jobs/{job_id}/resubmit");
  const hasMethods = useKnows(store.service, "GET", "/jobs/{job_id}/methods");
  const canLabel = useKnows(store.service, "PUT", "/jobs/{job_id}/labels");
  const again: MenuItem[] = [
    canResubmit
      ? { label: tr.__("All"), act: () => void resubmit("all") }
      : { label: tr.__("This service resubmits no job by itself"), act: null },
  ];
  if (canResubmit && failed) {
    again.push({ label: tr.__("Failed only (%1)", number(failed)), act: () => void resubmit("failed") });
  }
  if (newJob) {
    again.push({
      label: tr.__("With changes …"),
      act: () => {
        newJob(id);
      },
    });
  }
  const texts: [RequestKind, string][] = [
    ["argv", tr.__("Command lines")],
    ...languagesFor(store.service.url("jobs")).map((one): [RequestKind, string] => [
      one,
      tr.__("As %1", nameLanguage(one, tr)),
    ]),
  ];
  if (hasMethods) texts.push(["methods", tr.__("Paragraph for a paper")]);
  const labels = tr.__("Labels");
  const ofOwner: MenuItem[] = [
    ...texts.map(([kind, label]) => ({
      label,
      act: () => {
        show(kind);
      },
    })),
    ...(hasMethods ? [] : [{ label: tr.__("This service writes no paragraph for a paper"), act: null }]),
    canLabel
      ? {
          label: labels,
          act: () => {
            show("labels");
          },
        }
      : { label: tr.__("This service changes no labels"), act: null },
  ];
  const more: MenuItem[] = [
    {
      label: tr.__("Copy the id"),
      act: () =>
        void copyText(id).then((isCopied) => {
          say(isCopied ? tr.__("Copied") : id);
        }),
    },
    // What a text is made of is for the job's owner.
    ...(view.isOthers ? [] : ofOwner),
  ];
  const close = (): void => {
    show(null);
  };
  const title = texts.find(([kind]) => kind === shown)?.[1] ?? "";
  return (
    <div className="cts-actions">
      <div className="cts-controls">
        {hasEnded(job.state) && !view.isOthers && (
          <Menu label={tr.__("Resubmit ▾")} name={tr.__("Resubmit")} items={again} />
        )}
        <Menu label="⋯" name={tr.__("More")} items={more} />
        {said && <span role="status">{said}</span>}
        {added !== null && open && (
          <button
            type="button"
            onClick={() => {
              open(added);
            }}
          >
            {tr.__("Open it")}
          </button>
        )}
      </div>
      {shown && (
        <ErrorBoundary>
          <Suspense fallback={null}>
            {shown === "labels" ? (
              <LabelsBox store={store} id={id} title={labels} close={close} />
            ) : (
              <RequestBox
                key={shown}
                service={store.service}
                job={job}
                kind={shown}
                title={title}
                close={close}
              />
            )}
          </Suspense>
        </ErrorBoundary>
      )}
    </div>
  );
}
