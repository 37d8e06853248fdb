// Long lists of which only the rows in sight are in the page.

import {
  type Virtualizer,
  defaultRangeExtractor,
  measureElement,
  useVirtualizer,
} from "@tanstack/react-virtual";
import { type RefObject, useCallback } from "react";

interface Options<Item> {
  items: readonly Item[];
  /** An item has one key, whichever function says it. */
  keyOf: (item: Item) => string | number;
  frame: RefObject<HTMLElement>;
  /** The height of a row that was not seen yet. */
  heightOf: (item: Item) => number;
  /** Rows beyond those in sight. */
  overscan: number;
  /** The place of a row that stays in the page, wherever one scrolls to; -1 for none. */
  kept?: number;
}

export function useRows<Item>(options: Options<Item>): Virtualizer<HTMLElement, Element> {
  const { items, keyOf, frame, heightOf, overscan, kept = -1 } = options;
  return useVirtualizer<HTMLElement, Element>({
    count: items.length,
    getScrollElement: () => frame.current,
    estimateSize: (index) => {
      const item = items[index];
      return item === undefined ? 0 : heightOf(item);
    },
    // With another function all rows would be laid out anew, at each step of scrolling.
    getItemKey: useCallback(
      (index: number) => {
        const item = items[index];
        return item === undefined ? index : keyOf(item);
      },
      [items],
    ),
    overscan,
    measureElement: heightOfRow,
    rangeExtractor: (range) => {
      const shown = defaultRangeExtractor(range);
      return kept < 0 || shown.includes(kept) ? shown : [...shown, kept].sort((a, b) => a - b);
    },
  });
}

/** The height of a row. In a tab behind another one nothing has a height, and each row keeps its own. */
export function heightOfRow(
  element: Element,
  entry: ResizeObserverEntry | undefined,
  rows: Virtualizer<HTMLElement, Element>,
): number {
  const height = measureElement(element, entry, rows);
  if (height > 0) return height;
  const index = rows.indexFromElement(element);
  return rows.measurementsCache[index]?.size ?? rows.options.estimateSize(index);
}
