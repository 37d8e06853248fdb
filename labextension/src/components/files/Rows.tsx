import {
  type KeyboardEvent,
  type ReactNode,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";

import { useRows } from "../rows";

export const ROW_PX = 26;
/** Rows beyond those in sight. */
const OVERSCAN = 8;
const PAGE_ROWS = 10;

/** What moves to another row. */
export type Step = number | "first" | "last";
const STEPS: Readonly<Record<string, Step>> = {
  ArrowDown: 1,
  ArrowUp: -1,
  PageDown: PAGE_ROWS,
  PageUp: -PAGE_ROWS,
  Home: "first",
  End: "last",
};

interface Props<Item> {
  role: "tree" | "list";
  label: string;
  items: readonly Item[];
  keyOf: (item: Item) => string;
  /** `tabIndex` is for the one element of a row that takes the focus: a single row has 0. */
  row: (item: Item, tabIndex: 0 | -1) => ReactNode;
  /** Takes a key in a row, and returns where to go, or null where the key is none of its own. */
  onKey: (key: string, item: Item, event: KeyboardEvent) => Step | { to: string } | "stay" | null;
  /** The row that a person went to by keys, and from which one. */
  onMove?: (to: Item, event: KeyboardEvent) => void;
  /** Called with the last row that is near to be seen. */
  onReach?: (last: Item) => void;
  isBusy?: boolean;
}

/** Rows of which only those in sight are in the page, with one tab stop for all. */
export function Rows<Item>(props: Props<Item>): ReactNode {
  const { role, label, items, keyOf, row, onKey, onMove, onReach, isBusy = false } = props;
  const frame = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState<string | null>(null);
  const [isMoving, setMoving] = useState(false);
  const found = useMemo(
    () => (active === null ? -1 : items.findIndex((item) => keyOf(item) === active)),
    [items, keyOf, active],
  );
  const current = Math.max(found, 0);
  const rows = useRows({
    items,
    keyOf,
    frame,
    heightOf: () => ROW_PX,
    overscan: OVERSCAN,
    // The row with the focus.
    kept: current,
  });
  const shown = rows.getVirtualItems();
  const last = items[(rows.range?.endIndex ?? 0) + OVERSCAN] ?? items.at(-1);
  useEffect(() => {
    if (last !== undefined) onReach?.(last);
  }, [last, onReach]);
  useEffect(() => {
    if (!isMoving) return;
    setMoving(false);
    frame.current?.querySelector<HTMLElement>('[data-active="true"] [tabindex="0"]')?.focus({
      preventScroll: true,
    });
  }, [isMoving]);

  const place = useRef(0);
  const hasFocus = useRef(false);
  // A row that had the focus and is gone leaves it to the one that is in its place now.
  useLayoutEffect(() => {
    if (found >= 0) place.current = found;
    else if (active !== null && hasFocus.current && document.activeElement === document.body) {
      const next = items[Math.min(place.current, items.length - 1)];
      if (next === undefined) return;
      setActive(keyOf(next));
      setMoving(true);
    }
  }, [found, active, items, keyOf]);

  const go = (to: number, event: KeyboardEvent): void => {
    const index = Math.min(Math.max(to, 0), items.length - 1);
    const item = items[index];
    if (item === undefined) return;
    setActive(keyOf(item));
    setMoving(true);
    rows.scrollToIndex(index);
    onMove?.(item, event);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const item = items[current];
    if (item === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = onKey(event.key, item, event) ?? STEPS[event.key] ?? null;
    if (step === null) return;
    event.preventDefault();
    event.stopPropagation();
    if (step === "first") go(0, event);
    else if (step === "last") go(items.length - 1, event);
    else if (typeof step === "number") go(current + step, event);
    else if (step !== "stay") {
      go(
        items.findIndex((each) => keyOf(each) === step.to),
        event,
      );
    }
  };
  return (
    // The rows have the focus, one at a time; their keys are heard here.
    // eslint-disable-next-line jsx-a11y/no-static-element-interactions
    <div
      ref={frame}
      className="cts-rows"
      role={role}
      aria-label={label}
      aria-busy={isBusy}
      aria-multiselectable={role === "tree" ? true : undefined}
      data-lm-suppress-shortcuts="true"
      onKeyDown={onKeyDown}
      onFocus={({ target }) => {
        const at = target.closest<HTMLElement>("[data-index]")?.dataset["index"];
        const item = at === undefined ? undefined : items[Number(at)];
        if (item !== undefined) setActive(keyOf(item));
        hasFocus.current = true;
      }}
      onBlur={() => {
        hasFocus.current = false;
      }}
    >
      <div role="presentation" style={{ height: rows.getTotalSize(), position: "relative" }}>
        {shown.map(({ index, start, key }) => {
          const item = items[index];
          return item === undefined ? null : (
            <div
              key={String(key)}
              role="presentation"
              className="cts-place"
              data-index={index}
              data-active={index === current}
              style={{ transform: `translateY(${start}px)` }}
            >
              {row(item, index === current ? 0 : -1)}
            </div>
          );
        })}
      </div>
    </div>
  );
}
