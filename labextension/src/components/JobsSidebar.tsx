import { type ReactNode, useCallback, useEffect, useId, useRef, useState } from "react";

import { GROUPINGS, type Grouping } from "../rules/groups";
import type { Translator } from "../rules/translator";
import { formatTime, sentence } from "../rules/words";
import type { ServiceError } from "../service/errors";
import { asServiceError } from "../service/errors";
import type { JobStore } from "../store/jobs";
import { CHOICES, type Chosen, type JobList } from "../store/list";
import { JobListBox } from "./JobListBox";
import { StreamLine } from "./StreamLine";
import { useList, useStatus, useTranslator } from "./context";

/** A list that comes sooner than this shows nothing before it. */
const PATIENCE_MS = 150;

interface Props {
  store: JobStore;
  list: JobList;
  grouping: Grouping;
  setGrouping: (grouping: Grouping) => void;
  open: (id: string) => void;
  /** Opens a form for a new job. */
  newJob?: () => void;
  /** Opens the quickstart, where there is one. */
  learn?: () => void;
}

/** The user's jobs, as they are now. */
export function JobsSidebar({ store, list, grouping, setGrouping, open, newJob, learn }: Props): ReactNode {
  const tr = useTranslator();
  const view = useList(list);
  const status = useStatus(store);
  const box = useRef<HTMLInputElement>(null);
  const groupId = useId();
  const isFiltered = view.filter.text.trim() !== "" || view.filter.chosen !== "all";
  const clear = (): void => {
    list.setFilter({ text: "", chosen: "all" });
  };
  const more = useCallback(() => void list.more(), [list]);
  const search = useCallback(() => box.current?.focus(), []);
  return (
    <div className="cts-sidebar">
      <div className="cts-sidebar-head">
        <h2>CTS</h2>
        <StreamLine status={status} isShort />
      </div>
      <Away
        status={status}
        tryNow={() => {
          store.stream.tryNow();
        }}
      />
      {newJob && (
        <div className="cts-new">
          <button
            type="button"
            onClick={() => {
              newJob();
            }}
          >
            {tr.__("New job")}
          </button>
        </div>
      )}
      <div className="cts-filters" role="search">
        <input
          ref={box}
          type="search"
          placeholder={tr.__("Search jobs")}
          aria-label={tr.__("Search jobs")}
          value={view.filter.text}
          onChange={(event) => {
            list.setFilter({ text: event.currentTarget.value });
          }}
        />
        <select
          aria-label={tr.__("Which jobs")}
          value={view.filter.chosen}
          onChange={(event) => {
            list.setFilter({ chosen: event.currentTarget.value as Chosen });
          }}
        >
          {CHOICES.map((choice) => (
            <option key={choice} value={choice}>
              {nameChoice(choice, tr)}
            </option>
          ))}
        </select>
        <label htmlFor={groupId}>{tr.__("by")}</label>
        <select
          id={groupId}
          aria-label={tr.__("Group by")}
          value={grouping}
          onChange={(event) => {
            setGrouping(event.currentTarget.value as Grouping);
          }}
        >
          {GROUPINGS.map((choice) => (
            <option key={choice} value={choice}>
              {nameGrouping(choice, tr)}
            </option>
          ))}
        </select>
      </div>
      <News list={list} count={view.news.length} />
      {view.jobs.length > 0 ? (
        <JobListBox store={store} view={view} grouping={grouping} open={open} more={more} search={search} />
      ) : view.isLoading ? (
        <Loading />
      ) : view.error ? (
        <p className="cts-empty" role="alert">
          {explainMissing(view.error, tr)}
        </p>
      ) : isFiltered ? (
        <div className="cts-empty">
          <p>{tr.__("No job matches.")}</p>
          {view.isCut && <p>{tr.__("The search looked through the latest jobs alone.")}</p>}
          <button type="button" onClick={clear}>
            {tr.__("Clear filters")}
          </button>
        </div>
      ) : (
        <div className="cts-empty">
          <p>{tr.__("No jobs yet. In a notebook, %%%%cts submit makes one.")}</p>
          {learn && (
            <button type="button" onClick={learn}>
              {tr.__("Open the quickstart")}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function nameChoice(choice: Chosen, tr: Translator): string {
  const names: Record<Chosen, string> = {
    all: tr.__("All"),
    live: tr.__("Live"),
    ended: tr.__("Ended"),
    done: tr.__("Done"),
    failed: tr.__("Failed"),
    cancelled: tr.__("Cancelled"),
  };
  return names[choice];
}

function nameGrouping(grouping: Grouping, tr: Translator): string {
  const names: Record<Grouping, string> = {
    day: tr.__("Day"),
    image: tr.__("Image"),
    label: tr.__("Label"),
    none: tr.__("Nothing"),
  };
  return names[grouping];
}

/** Why there is no list. */
export function explainMissing(error: ServiceError, tr: Translator): string {
  if (error.isSignedOut) return tr.__("Your Jupyter session has ended. Reload the page to sign in again.");
  if (error.status === 404) return tr.__("This Jupyter server has no CTS.");
  return sentence(error.message);
}

function Loading(): ReactNode {
  const tr = useTranslator();
  const [isSlow, setSlow] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => {
      setSlow(true);
    }, PATIENCE_MS);
    return () => {
      clearTimeout(timer);
    };
  }, []);
  if (!isSlow) return null;
  return (
    <div className="cts-skeleton" role="status" aria-label={tr.__("Loading your jobs …")}>
      <span />
      <span />
      <span />
    </div>
  );
}

interface AwayProps {
  status: JobStore["status"];
  tryNow: () => void;
}

function Away({ status, tryNow }: AwayProps): ReactNode {
  const tr = useTranslator();
  if (status.state !== "offline" && status.state !== "signed-out") return null;
  const since = formatTime(status.since);
  return (
    <div className="cts-banner" role="status">
      <span>
        {status.state === "signed-out"
          ? tr.__("Your Jupyter session has ended. Reload the page to sign in again.")
          : tr.__("%1 What you see is from %2.", sentence(status.reason), since)}
      </span>
      {status.state === "offline" && (
        <button type="button" onClick={tryNow}>
          {tr.__("Try now")}
        </button>
      )}
    </div>
  );
}

function News({ list, count }: { list: JobList; count: number }): ReactNode {
  const tr = useTranslator();
  const [refused, setRefused] = useState("");
  if (!count && !refused) return null;
  const see = async (): Promise<void> => {
    try {
      await list.see();
      setRefused("");
    } catch (error) {
      setRefused(asServiceError(error).message);
    }
  };
  return (
    <div className="cts-news">
      <span>
        {refused || tr._n("%1 ended since you last looked", "%1 ended since you last looked", count)}
      </span>
      <button type="button" onClick={() => void see()}>
        {tr.__("Seen")}
      </button>
    </div>
  );
}
