import { type ReactNode, useEffect, useState } from "react";

import { type Labels as JobLabels, adopt, findClashes, mergeLabels } from "../rules/labels";
import { faultsOfLabels } from "../rules/problems";
import { type Label, toLabelLines, toLabels } from "../rules/spec";
import type { Translator } from "../rules/translator";
import { asServiceError } from "../service/errors";
import type { JobStore } from "../store/jobs";
import { Box } from "./Box";
import { Labels } from "./form/Labels";
import { FaultsContext } from "./form/fields";
import { useTranslator } from "./context";

interface Props {
  store: JobStore;
  /** Of the job. */
  id: string;
  title: string;
  close: () => void;
}

/**
 * The labels of a job, by which it is found again, to change them. They are asked for when this opens and before they are
 * saved: no event tells of what another page or a notebook made of them.
 */
export function LabelsBox({ store, id, title, close }: Props): ReactNode {
  const tr = useTranslator();
  /** Those that the job had when they were asked for; null before. */
  const [before, setBefore] = useState<JobLabels | null>(null);
  const [lines, setLines] = useState<readonly Label[]>([]);
  const [said, say] = useState("");
  const [isSaving, setSaving] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const [hasFailed, setFailed] = useState(false);
  useEffect(() => {
    let isGone = false;
    setFailed(false);
    say(tr.__("Loading …"));
    store.labels(id).then(
      (labels) => {
        if (isGone) return;
        setBefore(labels);
        setLines(toLabelLines(labels));
        say("");
      },
      (error: unknown) => {
        if (isGone) return;
        setFailed(true);
        say(asServiceError(error).message);
      },
    );
    return () => {
      isGone = true;
    };
  }, [store, id, tr, attempt]);
  const faults = faultsOfLabels(lines, tr);
  const send = async (known: JobLabels): Promise<void> => {
    if (isSaving) return;
    setSaving(true);
    say(tr.__("Saving …"));
    try {
      const now = await store.labels(id);
      const wanted = toLabels(lines);
      const [clash] = findClashes(known, wanted, now);
      if (clash === undefined) {
        const merged = mergeLabels(known, wanted, now);
        await store.setLabels(id, merged);
        setBefore(merged);
        setLines(toLabelLines(merged));
        say(tr.__("Saved"));
      } else {
        // Who saves once more knows of it.
        setBefore(adopt(known, clash, now));
        say(explainClash(clash, now[clash], tr));
      }
    } catch (error) {
      say(tr.__("Not saved: %1", asServiceError(error).message));
    } finally {
      setSaving(false);
    }
  };
  return (
    <Box title={title} close={close}>
      {before && (
        <FaultsContext.Provider value={faults}>
          <div className="cts-form">
            {/* What is saved is shown at the end of it. */}
            <fieldset disabled={isSaving}>
              <Labels
                service={store.service}
                labels={lines}
                onChange={(changed) => {
                  setLines(changed);
                  say("");
                }}
              />
            </fieldset>
          </div>
        </FaultsContext.Provider>
      )}
      <div className="cts-controls">
        {before && (
          <button type="button" disabled={faults.length > 0} onClick={() => void send(before)}>
            {tr.__("Save")}
          </button>
        )}
        <span role="status">{said}</span>
        {hasFailed && (
          <button
            type="button"
            onClick={() => {
              setAttempt(attempt + 1);
            }}
          >
            {tr.__("Try again")}
          </button>
        )}
      </div>
    </Box>
  );
}

function explainClash(name: string, text: string | undefined, tr: Translator): string {
  return text === undefined
    ? tr.__("Not saved: %1 was removed meanwhile. Save again to have yours.", name)
    : tr.__("Not saved: %1 was changed meanwhile, to “%2”. Save again to have yours.", name, text);
}
