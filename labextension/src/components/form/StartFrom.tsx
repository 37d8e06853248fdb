import { type ReactNode, useState } from "react";

import type { JobPreview } from "../../api/types";
import { toolOf } from "../../rules/folders";
import type { Translator } from "../../rules/translator";
import { formatState, formatTime, sentence, shortId } from "../../rules/words";
import { asServiceError } from "../../service/errors";
import { type DraftStore, isFrozen } from "../../store/draft";
import { useDraft, useTranslator } from "../context";

/** Fills a form with what an earlier job was submitted with, or empties it. */
export function StartFrom({ store }: { store: DraftStore }): ReactNode {
  const tr = useTranslator();
  const { catalogue, previous, sent } = useDraft(store);
  const [refused, setRefused] = useState("");
  const start = async (id: string): Promise<void> => {
    setRefused("");
    try {
      await store.startFrom(id);
    } catch (error) {
      setRefused(sentence(asServiceError(error).message));
    }
  };
  return (
    <div className="cts-start">
      {catalogue.jobs.length > 0 && (
        <select
          aria-label={tr.__("Start from a job")}
          value=""
          disabled={isFrozen(sent)}
          onChange={(event) => void start(event.currentTarget.value)}
        >
          <option value="" disabled>
            {tr.__("Start from a job …")}
          </option>
          {catalogue.jobs.map((job) => (
            <option key={job.id} value={job.id}>
              {formatJob(job, tr)}
            </option>
          ))}
        </select>
      )}
      <button
        type="button"
        disabled={isFrozen(sent)}
        onClick={() => {
          store.reset();
        }}
      >
        {tr.__("Reset")}
      </button>
      {previous && (
        <button
          type="button"
          disabled={isFrozen(sent)}
          onClick={() => {
            store.undo();
          }}
        >
          {tr.__("Undo")}
        </button>
      )}
      {refused && <p role="alert">{refused}</p>}
    </div>
  );
}

function formatJob(
  { id, state, job_input: { image }, transition_times: times }: JobPreview,
  tr: Translator,
): string {
  return [toolOf(image), formatTime(times[0]?.time ?? 0), formatState(state, tr), shortId(id)].join(" · ");
}
