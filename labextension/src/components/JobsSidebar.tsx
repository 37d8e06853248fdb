import { type ReactNode, useCallback, useEffect, useId, useMemo, useRef, useState } from "react";

import type { JobPreview } from "../api/types";
import { ALL, countFilters } from "../rules/filter";
import { GROUPINGS, type Grouping, nameGrouping } from "../rules/groups";
import type { Translator } from "../rules/translator";
import { type Mood, formatTime, hasEnded, moodOf, number, sentence, shortId } from "../rules/words";
import { asServiceError } from "../service/errors";
import type { JobStore } from "../store/jobs";
import type { JobList, ListView } from "../store/list";
import { Reasons } from "../store/reasons";
import { FilterMenu } from "./FilterMenu";
import { JobCard } from "./JobCard";
import { JobListBox } from "./JobListBox";
import { SiteLoads } from "./SiteLoads";
import { StreamLine, formatStatus } from "./StreamLine";
import { SignedOut, WhyMissing } from "./WhyMissing";
import { copyText } from "./clipboard";
import { useKnows, useList, useTranslator } from "./context";
import { onKeys } from "./keys";

/** A list that comes sooner than this shows nothing before it. */
const PATIENCE_MS = 150;

interface Props {
  store: JobStore;
  list: JobList;
  /** The service's name for people. */
  service: string;
  grouping: Grouping;
  setGrouping: (grouping: Grouping) => void;
  open: (id: string) => void;
  /** Opens a form for a new job. */
  newJob?: (from?: string) => void;
  /** Opens the quickstart, where there is one. */
  learn?: () => void;
}

/** The user's jobs, or everybody's for an admin, as they are now. */
export function JobsSidebar({
  store,
  list,
  service,
  grouping,
  setGrouping,
  open,
  newJob,
  learn,
}: Props): ReactNode {
  const tr = useTranslator();
  const view = useList(list);
  const { status, isEverybodys } = view;
  const admin = useAdmin(store);
  const canSearch = useKnows(store.service, "GET", "/jobs", "text");
  useEffect(
    () =>
      store.watchLabels((id, labels) => {
        list.setLabels(id, labels);
      }),
    [store, list],
  );
  const box = useRef<HTMLInputElement>(null);
  const groupId = useId();
  const filters = countFilters(view.filter);
  const isFiltered = view.filter.text.trim() !== "" || filters > 0;
  const clear = (): void => {
    list.setFilter(ALL);
    box.current?.focus();
  };
  const menuId = useId();
  const [hasMenu, showMenu] = useState(false);
  const menuButton = useRef<HTMLButtonElement>(null);
  const firstFilter = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (hasMenu) firstFilter.current?.focus();
  }, [hasMenu]);
  const [reasons] = useState(() => new Reasons(store.service));
  const [asked, ask] = useState<JobPreview | null>(null);
  const [told, tell] = useState("");
  const [peeked, peek] = useState<string | null>(null);
  const sidebar = useRef<HTMLDivElement>(null);
  const toList = useCallback(() => sidebar.current?.querySelector<HTMLElement>(".cts-list")?.focus(), []);
  const unpeek = useCallback(() => {
    peek(null);
    toList();
  }, [toList]);
  const more = useCallback(() => void list.more(), [list]);
  const acts = useMemo(
    () => ({
      search: () => box.current?.focus(),
      filter: () => {
        showMenu(true);
      },
      cancel: (job: JobPreview) => {
        if (!hasEnded(job.state)) ask(job);
      },
      ...(newJob && {
        resubmit: (job: JobPreview) => {
          // The request of another user's job is for its owner.
          if (!isEverybodys || job.user === admin) newJob(job.id);
        },
      }),
      copy: (job: JobPreview) => {
        void copyText(job.id).then((isCopied) => {
          if (isCopied) tell(tr.__("Copied the id %1", shortId(job.id)));
        });
      },
      peek,
      ...(peeked !== null && { unpeek }),
    }),
    [newJob, tr, isEverybodys, admin, peeked, unpeek],
  );
  return (
    <div ref={sidebar} className="cts-sidebar">
      <div className="cts-sidebar-head">
        <h2>CTS</h2>
        <StreamLine status={status} isShort />
      </div>
      <Away
        status={status}
        tryNow={() => {
          list.tryNow();
        }}
      />
      <div className="cts-new">
        {newJob && (
          <button
            type="button"
            onClick={() => {
              newJob();
            }}
          >
            {tr.__("New job")}
          </button>
        )}
        <span>
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
        </span>
      </div>
      {admin !== null && (
        <label className="cts-toggle">
          <input
            type="checkbox"
            checked={isEverybodys}
            onChange={(event) => {
              list.setEverybodys(event.currentTarget.checked);
            }}
          />
          {tr.__("Everybody's jobs")}
        </label>
      )}
      {isEverybodys && status.state === "asking" && <p className="cts-faint">{formatStatus(status, tr)}</p>}
      {isEverybodys && <SiteLoads queue={store.queue} jobs={view.jobs} />}
      {canSearch ? (
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
          <button
            ref={menuButton}
            type="button"
            aria-expanded={hasMenu}
            aria-controls={menuId}
            onClick={() => {
              showMenu(!hasMenu);
            }}
          >
            {filters ? tr._n("%1 filter", "%1 filters", filters) : tr.__("Filters")}{" "}
            <span aria-hidden="true">{hasMenu ? "▴" : "▾"}</span>
          </button>
        </div>
      ) : (
        <p className="cts-lacking cts-faint">
          {tr.__("This service neither searches nor filters: it lists its latest jobs.")}
        </p>
      )}
      {hasMenu && canSearch && (
        <FilterMenu
          id={menuId}
          service={store.service}
          filter={view.filter}
          setFilter={(changes) => {
            list.setFilter(changes);
          }}
          hasUsers={isEverybodys}
          jobs={view.jobs}
          first={firstFilter}
          close={() => {
            showMenu(false);
            menuButton.current?.focus();
          }}
        />
      )}
      {asked && (
        <CancelQuestion
          store={store}
          job={asked}
          close={() => {
            ask(null);
            toList();
          }}
        />
      )}
      <p className="cts-told" role="status">
        {told}
      </p>
      {view.error && view.jobs.length > 0 && status.state === "live" && (
        <p className="cts-banner" role="alert">
          <WhyMissing error={view.error} />
        </p>
      )}
      <News list={list} view={view} goOn={toList} />
      {view.jobs.length > 0 ? (
        <JobListBox
          store={store}
          view={view}
          grouping={grouping}
          reasons={reasons}
          open={open}
          more={more}
          acts={acts}
        />
      ) : view.isLoading ? (
        <Loading />
      ) : view.error ? (
        <p className="cts-empty" role="alert">
          <WhyMissing error={view.error} />
        </p>
      ) : isFiltered ? (
        <div className="cts-empty">
          <p>{tr.__("No job matches.")}</p>
          <button type="button" onClick={clear}>
            {tr.__("Clear filters")}
          </button>
        </div>
      ) : (
        <div className="cts-empty">
          <p>
            {isEverybodys
              ? tr.__("Nobody has a job yet.")
              : newJob
                ? tr.__("No jobs yet. New job opens a form; in a notebook, %%%%cts submit does the same.")
                : tr.__("No jobs yet. In a notebook, %%%%cts submit makes one.")}
          </p>
          {learn && (
            <button type="button" onClick={learn}>
              {tr.__("Open the quickstart")}
            </button>
          )}
        </div>
      )}
      <ListEnd list={list} view={view} goOn={toList} />
      {peeked !== null && (
        // Its buttons have the focus; their Escape is heard here.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
        <section className="cts-peek" aria-label={tr.__("Peek")} onKeyDown={onKeys({ Escape: unpeek })}>
          <button type="button" onClick={unpeek}>
            {tr.__("Close")}
          </button>
          <JobCard key={peeked} store={store} id={peeked} service={service} open={open} newJob={newJob} />
        </section>
      )}
    </div>
  );
}

/** The name of an admin whom the service lists everybody's jobs for; null for any other user. */
function useAdmin(store: JobStore): string | null {
  const [admin, setAdmin] = useState<string | null>(null);
  useEffect(() => {
    let isGone = false;
    const find = async (): Promise<void> => {
      try {
        const name = await store.admin();
        const isListed = name !== null && (await store.service.knows("GET", "/admin/jobs"));
        if (!isGone && isListed) setAdmin(name);
      } catch (error) {
        // The list says why the service does not answer.
        asServiceError(error);
      }
    };
    void find();
    return () => {
      isGone = true;
    };
  }, [store]);
  return admin;
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
    <div className="cts-skeleton" role="status">
      <span aria-hidden="true" />
      <span aria-hidden="true" />
      <span aria-hidden="true" />
      <span className="cts-unseen">{tr.__("Loading your jobs …")}</span>
    </div>
  );
}

interface QuestionProps {
  store: JobStore;
  job: JobPreview;
  close: () => void;
}

/** Asks before a job is cancelled by a key of the list; the focus is on what changes nothing. */
function CancelQuestion({ store, job, close }: QuestionProps): ReactNode {
  const tr = useTranslator();
  const [refused, setRefused] = useState("");
  const keep = useRef<HTMLButtonElement>(null);
  useEffect(() => keep.current?.focus(), []);
  const cancel = async (): Promise<void> => {
    try {
      await store.cancel(job.id);
      close();
    } catch (error) {
      setRefused(sentence(asServiceError(error).message));
    }
  };
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <div
      className="cts-banner"
      role="alertdialog"
      aria-label={tr.__("Cancel the job?")}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        close();
      }}
    >
      <span>
        {refused ||
          tr.__(
            "Cancel job %1 (%2)? Its outputs so far stay. This cannot be undone.",
            shortId(job.id),
            job.job_input.image,
          )}
      </span>
      <span>
        <button type="button" onClick={() => void cancel()}>
          {tr.__("Cancel the job")}
        </button>{" "}
        <button ref={keep} type="button" onClick={close}>
          {tr.__("Keep it running")}
        </button>
      </span>
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
        {status.state === "signed-out" ? (
          <SignedOut />
        ) : (
          tr.__("%1 What you see is from %2.", sentence(status.reason), since)
        )}
      </span>
      {status.state === "offline" && (
        <button type="button" onClick={tryNow}>
          {tr.__("Try now")}
        </button>
      )}
    </div>
  );
}

/** What ended since the last look; once it is seen, the focus goes on to the list. */
function News({ list, view, goOn }: { list: JobList; view: ListView; goOn: () => void }): ReactNode {
  const tr = useTranslator();
  const [refused, setRefused] = useState("");
  const { news, filter } = view;
  if (!news.length && !refused) return null;
  const see = async (): Promise<void> => {
    try {
      await list.see();
      setRefused("");
      goOn();
    } catch (error) {
      setRefused(asServiceError(error).message);
    }
  };
  return (
    <div className="cts-news">
      <span>{refused || formatNews(view, tr)}</span>
      <span>
        <button
          type="button"
          onClick={() => {
            list.setFilter(filter.isNew ? { isNew: false } : { ...ALL, isNew: true });
          }}
        >
          {filter.isNew ? tr.__("Show all") : tr.__("Show")}
        </button>{" "}
        <button type="button" onClick={() => void see()}>
          {tr.__("Seen")}
        </button>
      </span>
    </div>
  );
}

/** Where the list ends though there are more jobs; once all were looked through, the focus goes on to the list. */
function ListEnd({ list, view, goOn }: { list: JobList; view: ListView; goOn: () => void }): ReactNode {
  const tr = useTranslator();
  const { isFull, isCut, searchedUntil, hasMore, jobs } = view;
  if (isFull) {
    return (
      <p className="cts-list-end" role="status">
        {tr.__("The list ends after %1 jobs. A search or filters find older ones.", number(jobs.length))}
      </p>
    );
  }
  if (!isCut) return null;
  const look = async (): Promise<void> => {
    await list.lookFurther();
    if (!list.view.isCut) goOn();
  };
  return (
    <div className="cts-list-end">
      <span role="status">
        {searchedUntil === null
          ? tr.__("The search looked through the latest jobs alone.")
          : tr.__("The search looked through the latest jobs alone, back to %1.", formatTime(searchedUntil))}
      </span>
      {searchedUntil !== null && !hasMore && (
        <button type="button" aria-busy={view.isLoading} onClick={() => void look()}>
          {tr.__("Look further")}
        </button>
      )}
    </div>
  );
}

/** How many jobs ended, and how. */
function formatNews({ news, hasMoreNews }: ListView, tr: Translator): string {
  const count = (mood: Mood): number => news.filter(({ state }) => moodOf(state) === mood).length;
  const [failed, cancelled, done] = [count("failed"), count("cancelled"), count("done")];
  const parts = [
    failed && tr.__("%1 failed", number(failed)),
    cancelled && tr.__("%1 cancelled", number(cancelled)),
    done && tr.__("%1 done", number(done)),
  ];
  const how = parts.filter(Boolean).join(", ");
  return hasMoreNews
    ? tr.__("More than %1 ended since you last looked; of the latest: %2", number(news.length), how)
    : tr._n("%1 ended since you last looked: %2", "%1 ended since you last looked: %2", news.length, how);
}
