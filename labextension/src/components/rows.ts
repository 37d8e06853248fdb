// Long lists of which only the rows in sight are in the page.

import { type Range, type Virtualizer, useVirtualizer } from "@tanstack/react-virtual";
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
  rangeExtractor?: (range: Range) => number[];
}

export function useRows<Item>(options: Options<Item>): Virtualizer<HTMLElement, Element> {
  const { items, keyOf, frame, heightOf, ...rest } = options;
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
    ...rest,
  });
}
