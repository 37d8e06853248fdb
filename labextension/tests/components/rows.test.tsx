import type { Virtualizer } from "@tanstack/react-virtual";
import { render, screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { heightOfRow } from "../../src/components/rows";

it.each([
  [30, 30],
  [0, 18],
])("takes a row of %i pixels, as in a tab that is hidden, for %i", (measured, height) => {
  render(<p data-index="0">row</p>);
  const element = screen.getByText("row");
  const rows = {
    options: { getItemKey: (index: number) => index, estimateSize: () => 24 },
    indexFromElement: () => 0,
    measurementsCache: [{ size: 18 }],
    itemSizeCache: new Map(),
  } as unknown as Virtualizer<HTMLElement, Element>;
  const entry = { borderBoxSize: [{ blockSize: measured }] } as unknown as ResizeObserverEntry;
  expect(heightOfRow(element, entry, rows)).toBe(height);
});
