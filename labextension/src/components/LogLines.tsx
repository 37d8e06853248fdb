import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, type RefObject, memo, useCallback, useEffect, useLayoutEffect, useRef } from "react";

import { rowAt, rowPlace, rowText } from "../rules/log";
import { markSpans, spansOf } from "../rules/sgr";
import type { LogReader, LogState } from "../store/log";
import { useTranslator } from "./context";
import { onKeys } from "./keys";
import { heightOfRow } from "./rows";

const ROW_PX = 18;
/** Rows beyond those in sight. */
const OVERSCAN = 20;
/** How near to an end of what is loaded the next part is asked for, in pixels. */
const NEAR_PX = 400;
const AT_END_PX = 4;

interface Props {
  frame: RefObject<HTMLDivElement>;
  reader: LogReader;
  state: LogState;
  isWrapped: boolean;
  isFollowing: boolean;
  follow: (wants: boolean) => void;
  /** A text that is marked. */
  wanted: string;
  /** The place in the log of the line that is to be in sight. */
  current: number | null;
  /** What keys do. */
  actions: Readonly<Record<string, () => void>>;
}

/** The lines of the part of a log that is loaded, of which only those in sight are in the page. */
export function LogLines({
  frame,
  reader,
  state: { window },
  isWrapped,
  isFollowing,
  follow,
  wanted,
  current,
  actions,
}: Props): ReactNode {
  const tr = useTranslator();
  const lines = useVirtualizer<HTMLElement, Element>({
    count: window.rows.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW_PX,
    getItemKey: useCallback((index: number) => rowPlace(window, index), [window]),
    overscan: OVERSCAN,
    measureElement: heightOfRow,
  });
  useEffect(() => {
    lines.measure();
  }, [lines, isWrapped]);

  const top = useRef(0);
  /** The line at the top of what is in sight, and how far it is scrolled out. */
  const anchor = useRef({ place: 0, offset: 0 });
  // When lines are added or dropped above those that a person reads, these stay where they are.
  const start = useRef(window.start);
  useLayoutEffect(() => {
    if (window.start === start.current) return;
    start.current = window.start;
    const { place, offset } = anchor.current;
    const [begin = 0] = lines.getOffsetForIndex(rowAt(window, place), "start") ?? [];
    if (!isFollowing && frame.current) {
      top.current = begin + offset;
      frame.current.scrollTop = top.current;
    }
  }, [lines, window, isFollowing, frame]);
  // Known at once when a person scrolls up: the state that says so comes with a later render.
  const stays = useRef(isFollowing);
  useLayoutEffect(() => {
    stays.current = isFollowing;
  }, [isFollowing]);
  // After each render, as lines are measured only then.
  useLayoutEffect(() => {
    if (stays.current && frame.current) frame.current.scrollTop = frame.current.scrollHeight;
  });
  useEffect(() => {
    if (current !== null) lines.scrollToIndex(rowAt(reader.view.window, current), { align: "center" });
  }, [lines, reader, current]);

  const onScroll = useRef<() => void>(() => undefined);
  onScroll.current = () => {
    if (!frame.current) return;
    const { scrollTop, scrollHeight, clientHeight } = frame.current;
    const below = scrollHeight - clientHeight - scrollTop;
    const isUp = scrollTop < top.current;
    const isDown = scrollTop > top.current;
    top.current = scrollTop;
    const first = lines.getVirtualItemForOffset(scrollTop);
    if (first) anchor.current = { place: rowPlace(window, first.index), offset: scrollTop - first.start };
    if (isUp && stays.current && below > AT_END_PX) {
      stays.current = false;
      follow(false);
    }
    if (isDown && !stays.current && below <= AT_END_PX && !reader.hasLater) follow(true);
    if (isUp && scrollTop < NEAR_PX && reader.hasEarlier) void reader.earlier();
    if (isDown && below < NEAR_PX && reader.hasLater) void reader.later();
  };
  useLayoutEffect(() => {
    const log = frame.current;
    const listener = (): void => {
      onScroll.current();
    };
    // Before the listener of the virtual rows, which renders at once.
    log?.addEventListener("scroll", listener, { capture: true, passive: true });
    return () => log?.removeEventListener("scroll", listener, { capture: true });
  }, [frame]);
  const shown = lines.getVirtualItems();
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- keys of what scrolls; buttons do the same
    <div
      ref={frame}
      className="cts-log"
      data-wrapped={isWrapped}
      role="region"
      tabIndex={0}
      aria-label={tr.__("Log")}
      onKeyDown={onKeys(actions)}
    >
      <div style={{ height: lines.getTotalSize() }}>
        <div className="cts-log-lines" style={{ transform: `translateY(${shown[0]?.start ?? 0}px)` }}>
          {shown.map(({ index, key }) => (
            <div
              key={key}
              ref={isWrapped ? lines.measureElement : null}
              data-index={index}
              data-current={key === current}
            >
              <Line text={rowText(window, index)} wanted={wanted} />
            </div>
          ))}
        </div>
      </div>
    </div>
  );
}

const Line = memo(function Line({ text, wanted }: { text: string; wanted: string }): ReactNode {
  return markSpans(spansOf(text), wanted).map(({ text: piece, look, isFound }, n) =>
    isFound ? (
      <mark key={n} className={look}>
        {piece}
      </mark>
    ) : look ? (
      <span key={n} className={look}>
        {piece}
      </span>
    ) : (
      piece
    ),
  );
});
