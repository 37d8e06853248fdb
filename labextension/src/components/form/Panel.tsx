import {
  type FormEvent,
  type KeyboardEvent,
  type ReactNode,
  useEffect,
  useId,
  useRef,
  useState,
} from "react";

import type { Fault } from "../../rules/problems";
import { toNumber, toSubmission } from "../../rules/spec";
import { shortId } from "../../rules/words";
import { findImage } from "../../store/catalogue";
import type { EventStream } from "../../service/stream";
import { type DraftStore, isFrozen } from "../../store/draft";
import type { JobStore } from "../../store/jobs";
import { JobCard } from "../JobCard";
import { useDraft, useTranslator } from "../context";
import { ArgvPreview } from "./ArgvPreview";
import { CheckResult } from "./CheckResult";
import { CodeMenu } from "./CodeMenu";
import { ImagePicker } from "./ImagePicker";
import { Inputs } from "./Inputs";
import { Labels } from "./Labels";
import { Advanced } from "./Advanced";
import { OutputFolder } from "./OutputFolder";
import { Arguments, Environment } from "./ParameterBuilder";
import { Resources } from "./Resources";
import { StartFrom } from "./StartFrom";
import { SubmitBar } from "./SubmitBar";
import { FaultsContext } from "./fields";

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
  const { sent } = useDraft(store);
  return (
    <div className="cts-panel">
      {sent.phase === "done" ? (
        <Submitted store={store} sent={sent} jobs={jobs} service={service} open={open} />
      ) : (
        <Form store={store} stream={jobs.stream} />
      )}
    </div>
  );
}

interface SubmittedProps extends Omit<PanelProps, "draft"> {
  store: DraftStore;
  sent: { jobId: string; wasLost: boolean };
}

function Submitted({ store, sent: { jobId, wasLost }, jobs, service, open }: SubmittedProps): ReactNode {
  const tr = useTranslator();
  return (
    <div className="cts-submitted">
      {wasLost && (
        <p role="status">{tr.__("The answer was lost. The job was submitted once: %1.", shortId(jobId))}</p>
      )}
      <JobCard store={jobs} id={jobId} service={service} open={open} />
      <div className="cts-adds">
        <button
          type="button"
          onClick={() => {
            store.another();
          }}
        >
          {tr.__("Another job like this")}
        </button>
        <button
          type="button"
          onClick={() => {
            store.reset();
          }}
        >
          {tr.__("New job")}
        </button>
      </div>
    </div>
  );
}

function Form({ store, stream }: { store: DraftStore; stream: EventStream }): ReactNode {
  const tr = useTranslator();
  const form = useRef<HTMLFormElement>(null);
  const { draft, faults, catalogue, lacking, check, sent, away } = useDraft(store);
  // Fields that are not filled in are no mistakes before one submits.
  const [isTried, setTried] = useState(false);
  useEffect(() => {
    const refresh = (): void => {
      store.refresh();
    };
    // The service may be reached without a network.
    const ask = (): void => {
      store.refresh(0);
    };
    window.addEventListener("focus", refresh);
    window.addEventListener("offline", ask);
    return () => {
      window.removeEventListener("focus", refresh);
      window.removeEventListener("offline", ask);
    };
  }, [store]);
  const go = (fault: Fault): void => {
    focusPlace(form.current, fault);
  };
  const submit = (): void => {
    setTried(true);
    const [first] = faults;
    if (first) {
      go(first);
      if (faults.every(({ isFound }) => isFound)) store.checkNow();
    } else if (!away) void store.submit();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Enter") return;
    if (!event.ctrlKey && !event.metaKey) {
      // A browser would submit.
      if (event.defaultPrevented || !(event.target instanceof HTMLInputElement)) return;
      event.preventDefault();
      store.checkNow();
      return;
    }
    event.preventDefault();
    if (check.phase === "done" || check.phase === "missing") submit();
    else store.checkNow();
  };
  const onSubmit = (event: FormEvent): void => {
    event.preventDefault();
    submit();
  };
  return (
    // The keys are for all fields alike.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <form
      ref={form}
      className="cts-form"
      aria-label={tr.__("New job")}
      data-lm-suppress-shortcuts="true"
      noValidate
      onSubmit={onSubmit}
      onKeyDown={onKeyDown}
    >
      <FaultsContext.Provider value={isTried ? faults : faults.filter(({ isMissing }) => !isMissing)}>
        <div className="cts-form-head">
          <h2>{tr.__("New job")}</h2>
          <StartFrom store={store} />
        </div>
        <div className="cts-columns">
          <fieldset className="cts-column" disabled={isFrozen(sent)} aria-label={tr.__("What runs")}>
            <Part title={tr.__("Inputs")}>
              <Inputs store={store} stream={stream} />
            </Part>
            <Part title={tr.__("Tool")}>
              <ImagePicker store={store} />
            </Part>
            <Part title={tr.__("Parameters")}>
              <Arguments
                args={draft.args}
                onChange={(args) => {
                  store.change({ args });
                }}
              />
              <Environment
                variables={draft.environment}
                onChange={(environment) => {
                  store.change({ environment });
                }}
              />
              <Advanced store={store} />
            </Part>
            <Part title={tr.__("Command line")}>
              <ArgvPreview draft={draft} image={findImage(catalogue.images, draft.image)} />
            </Part>
          </fieldset>
          <div className="cts-column">
            <fieldset disabled={isFrozen(sent)} aria-label={tr.__("Where it runs")}>
              <Part title={tr.__("Resources")}>
                <Resources store={store} />
              </Part>
              <Part title={tr.__("Outputs")}>
                <OutputFolder store={store} />
                <Labels
                  service={store.service}
                  labels={draft.labels}
                  onChange={(labels) => {
                    store.change({ labels });
                  }}
                />
              </Part>
            </fieldset>
            <Part title={tr.__("Check")}>
              <CheckResult
                faults={faults}
                check={check}
                lacking={lacking}
                go={go}
                retry={() => {
                  store.checkNow();
                }}
              />
            </Part>
            <SubmitBar
              containers={toNumber(draft.containers)}
              sent={sent}
              away={away}
              again={() => void store.submit()}
              giveUp={() => {
                store.giveUp();
              }}
            />
            <CodeMenu submission={() => toSubmission(draft)} url={store.service.url("jobs")} />
          </div>
        </div>
      </FaultsContext.Provider>
    </form>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }): ReactNode {
  const id = useId();
  return (
    <section className="cts-part" aria-labelledby={id}>
      <h3 id={id}>{title}</h3>
      {children}
    </section>
  );
}

/** Gives the focus to the field of a fault, or of what it is a part of. */
function focusPlace(form: HTMLFormElement | null, { place }: Fault): void {
  for (let length = place.length; form && length > 0; length -= 1) {
    const wanted = place.slice(0, length).join("/");
    const found = [...form.querySelectorAll<HTMLElement>("[data-place]")].find(
      ({ dataset }) => dataset["place"] === wanted,
    );
    if (!found) continue;
    found.closest("details")?.setAttribute("open", "");
    const control = found.matches("fieldset")
      ? found.querySelector<HTMLElement>("input:not(:disabled)")
      : found;
    control?.focus();
    return;
  }
}
