import { type ReactNode, useEffect, useId, useMemo, useRef, useState } from "react";

import type { JobPreview } from "../api/types";
import { type Grouping, type Item, arrange } from "../rules/groups";
import { number } from "../rules/words";
import type { JobStore } from "../store/jobs";
import type { ListView } from "../store/list";
import type { Queue } from "../store/queue";
import type { Reasons } from "../store/reasons";
import { JobRow } from "./JobRow";
import { useNow, useTranslator } from "./context";
import { onKeys } from "./keys";
import { useRows } from "./rows";

const ROW_PX = 46;
const GROUP_PX = 28;
/** Rows beyond those in sight. */
const OVERSCAN = 6;
const PAGE_ROWS = 10;
/** Rows before the end at which the next page is loaded. */
const NEAR_END = 20;

interface Props {
  store: JobStore;
  view: ListView;
  grouping: Grouping;
  reasons: Reasons;
  open: (id: string) => void;
  more: () => void;
  /** What keys do besides going from row to row: "/", "f" and Escape for the list, Space and the others for a job. */
  acts: ListActs;
}

export interface ListActs {
  search: () => void;
  filter: () => void;
  cancel?: (job: JobPreview) => void;
  resubmit?: (job: JobPreview) => void;
  copy?: (job: JobPreview) => void;
  /** Shows a job below the list. */
  peek: (id: string) => void;
  /** Ends that; only while one is shown. */
  unpeek?: () => void;
}

/** The jobs as rows, of which only those in sight are in the page. */
export function JobListBox({ store, view, grouping, reasons, open, more, acts }: Props): ReactNode {
  const tr = useTranslator();
  const name = useId();
  const frame = useRef<HTMLDivElement>(null);
  const now = useNow(() => store.now(), true);
  const day = new Date(now).toDateString();
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const items = useMemo(
    () => arrange(view.jobs, grouping, opened, Date.parse(day), tr),
    [view.jobs, grouping, opened, day, tr],
  );
  const [chosen, choose] = useState<string | null>(null);
  const place = useMemo(
    () => items.findIndex((item) => item.kind === "job" && item.key === chosen),
    [items, chosen],
  );
  const current = items[place];
  const unfold = (id: string, isOpen: boolean): void => {
    setOpened((before) => new Set(isOpen ? [...before, id] : [...before].filter((other) => other !== id)));
  };
  /** Hides the resubmissions of the chosen job, or of the job that it resubmits. */
  const fold = (): void => {
    const at = items.findIndex(({ key }) => key === chosen);
    const root = items.slice(0, at + 1).findLast((item) => item.kind === "job" && item.depth === 0);
    if (!root) return;
    unfold(root.key, false);
    choose(root.key);
  };
  const rows = useRows({
    items,
    keyOf: (item) => item.key,
    frame,
    heightOf: (item) => (item.kind === "group" ? GROUP_PX : ROW_PX),
    overscan: OVERSCAN,
    // The list names its chosen row to screen readers.
    kept: place,
  });
  const shown = rows.getVirtualItems();
  const last = (rows.range?.endIndex ?? 0) + OVERSCAN;
  useEffect(() => {
    if (view.hasMore && last >= items.length - NEAR_END) more();
  }, [view.hasMore, last, items.length, more]);

  const places = useMemo(() => items.flatMap((item, index) => (item.kind === "job" ? [index] : [])), [items]);
  const go = (step: number | "first" | "last"): void => {
    const at = places.findIndex((index) => items[index]?.key === chosen);
    const wanted = step === "first" ? 0 : step === "last" ? places.length - 1 : at < 0 ? 0 : at + step;
    const index = places[Math.min(Math.max(wanted, 0), places.length - 1)];
    const item = index === undefined ? undefined : items[index];
    if (index === undefined || !item) return;
    choose(item.key);
    rows.scrollToIndex(index);
    if (acts.unpeek) acts.peek(item.key);
  };
  const onJob = (key: string, act?: (job: JobPreview) => void): Record<string, () => void> =>
    act && current?.kind === "job"
      ? {
          [key]: () => {
            act(current.job);
          },
        }
      : {};
  const keys: Record<string, () => void> = {
    ArrowDown: () => {
      go(1);
    },
    ArrowUp: () => {
      go(-1);
    },
    PageDown: () => {
      go(PAGE_ROWS);
    },
    PageUp: () => {
      go(-PAGE_ROWS);
    },
    Home: () => {
      go("first");
    },
    End: () => {
      go("last");
    },
    ...onJob("Enter", ({ id }) => {
      open(id);
    }),
    ArrowRight: () => {
      if (current?.kind === "job" && current.again.length) unfold(current.key, true);
    },
    ArrowLeft: fold,
    ...onJob(" ", ({ id }) => {
      acts.peek(id);
    }),
    ...(acts.unpeek && { Escape: acts.unpeek }),
    "/": acts.search,
    f: acts.filter,
    ...onJob("c", acts.cancel),
    ...onJob("r", acts.resubmit),
    ...onJob("y", acts.copy),
  };

  return (
    <div
      ref={frame}
      className="cts-list"
      role="listbox"
      tabIndex={0}
      aria-label={tr.__("Jobs")}
      aria-busy={view.isLoading}
      aria-activedescendant={current && `${name}${current.key}`}
      data-lm-suppress-shortcuts="true"
      onKeyDown={onKeys(keys)}
    >
      <div role="presentation" style={{ height: rows.getTotalSize(), position: "relative" }}>
        {shown.map(({ index, start, key }) => {
          const item = items[index];
          return item ? (
            <div
              key={String(key)}
              ref={rows.measureElement}
              role="presentation"
              data-index={index}
              className="cts-place"
              style={{ transform: `translateY(${start}px)` }}
            >
              <ItemLine
                item={item}
                id={`${name}${item.key}`}
                isChosen={item.key === chosen}
                size={view.hasMore ? -1 : places.length}
                now={now}
                showsUser={view.isEverybodys}
                reasons={reasons}
                queue={store.queue}
                open={(id) => {
                  choose(id);
                  open(id);
                }}
                unfold={unfold}
              />
            </div>
          ) : null;
        })}
      </div>
    </div>
  );
}

interface LineProps {
  item: Item;
  id: string;
  isChosen: boolean;
  /** The number of all rows; -1 if it is not known yet. */
  size: number;
  now: number;
  showsUser: boolean;
  reasons: Reasons;
  queue: Queue;
  open: (id: string) => void;
  unfold: (id: string, isOpen: boolean) => void;
}

function ItemLine(props: LineProps): ReactNode {
  const { item, id, isChosen, size, now, showsUser, reasons, queue, open, unfold } = props;
  if (item.kind === "group") {
    return (
      <div className="cts-group" role="presentation">
        {item.title} <span className="cts-faint">{number(item.count)}</span>
      </div>
    );
  }
  return (
    // The list has the focus and the keys of all its options.
    // eslint-disable-next-line jsx-a11y/click-events-have-key-events
    <div
      id={id}
      className="cts-option"
      role="option"
      tabIndex={-1}
      aria-selected={isChosen}
      aria-setsize={size}
      aria-posinset={item.place}
      style={{ paddingInlineStart: `${item.depth}em` }}
      onClick={() => {
        open(item.job.id);
      }}
    >
      <JobRow
        job={item.job}
        showsUser={showsUser}
        reasons={reasons}
        queue={queue}
        again={item.again}
        isOpen={item.isOpen}
        toggle={() => {
          unfold(item.key, !item.isOpen);
        }}
        now={now}
      />
    </div>
  );
}
