import { type ReactNode, useDeferredValue, useMemo, useState } from "react";

import type { Image } from "../../api/types";
import { quote } from "../../rules/args";
import { type ContainerPlan, PlanError, planContainer } from "../../rules/plan";
import { type Draft, toNumber, toSubmission } from "../../rules/spec";
import { number } from "../../rules/words";
import { CopyButton } from "../CopyButton";
import { useTranslator } from "../context";

/** Words of a command line, lines of a manifest, that are shown. */
const MAX_WORDS = 200;
const MAX_LINES = 10;

interface Props {
  draft: Draft;
  image: Image | undefined;
}

/** The command line of any container of a draft, as one would type it. */
export function ArgvPreview({ draft, image }: Props): ReactNode {
  const tr = useTranslator();
  const [wanted, setWanted] = useState(0);
  const shown = useDeferredValue(draft);
  const count = Math.max(1, Math.trunc(toNumber(draft.containers)) || 1);
  const current = Math.min(wanted, count - 1);
  const plan = useMemo(() => planOf(shown, image, current), [shown, image, current]);
  const go = (to: number): void => {
    setWanted(Math.min(Math.max(to, 0), count - 1));
  };
  return (
    <>
      <div className="cts-stepper" role="group" aria-label={tr.__("Container whose command line is shown")}>
        <span>{tr.__("Container")}</span>
        <button
          type="button"
          aria-label={tr.__("Previous container")}
          disabled={current === 0}
          onClick={() => {
            go(current - 1);
          }}
        >
          ‹
        </button>
        <input
          type="number"
          aria-label={tr.__("Number of the container, from 0")}
          min={0}
          max={count - 1}
          value={current}
          onChange={(event) => {
            go(Math.trunc(event.currentTarget.valueAsNumber) || 0);
          }}
        />
        <button
          type="button"
          aria-label={tr.__("Next container")}
          disabled={current >= count - 1}
          onClick={() => {
            go(current + 1);
          }}
        >
          ›
        </button>
        <span>
          {plan && !(plan instanceof PlanError)
            ? tr._n(
                "of %2 gets %1 file and runs",
                "of %2 gets %1 files and runs",
                plan.files.size,
                number(count),
              )
            : tr.__("of %1", number(count))}
        </span>
        {plan && !(plan instanceof PlanError) && (
          <CopyButton text={() => plan.argv.map(quote).join(" ")} label={tr.__("Copy")} />
        )}
      </div>
      {plan === null ? (
        <p className="cts-faint">{tr.__("With an image and files, its command line is shown here.")}</p>
      ) : plan instanceof PlanError ? (
        <p className="cts-faults">{plan.message}</p>
      ) : (
        <Command plan={plan} />
      )}
    </>
  );
}

function Command({
  plan: { number: container, argv, environment, manifest },
}: {
  plan: ContainerPlan;
}): ReactNode {
  const tr = useTranslator();
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${quote(value)}`);
  const hidden = argv.length - MAX_WORDS;
  const lines = manifest?.text.trimEnd().split("\n") ?? [];
  return (
    <>
      <pre role="region" tabIndex={0} aria-label={tr.__("Command line of container %1", container)}>
        {[...variables, ...argv.slice(0, MAX_WORDS).map(quote)].join(" ")}
        {hidden > 0 && ` ${tr.__("… and %1 more", number(hidden))}`}
      </pre>
      {manifest && (
        <>
          <p className="cts-faint">{tr.__("Its file %1:", manifest.name)}</p>
          <pre role="region" tabIndex={0} aria-label={tr.__("Manifest")}>
            {lines.slice(0, MAX_LINES).join("\n")}
            {lines.length > MAX_LINES && `\n${tr.__("… and %1 more", number(lines.length - MAX_LINES))}`}
          </pre>
        </>
      )}
    </>
  );
}

function planOf(draft: Draft, image: Image | undefined, container: number): ContainerPlan | PlanError | null {
  if (!image || !draft.files.length) return null;
  const submission = toSubmission(draft);
  const count = Math.max(1, Math.trunc(submission.num_containers) || 1);
  try {
    return planContainer(
      { ...submission, num_containers: count },
      image.entrypoint,
      Math.min(container, count - 1),
    );
  } catch (error) {
    if (error instanceof PlanError) return error;
    throw error;
  }
}
