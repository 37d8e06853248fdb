// What a widget's loader finds in a page, or gets from its kernel.

import { createRoot } from "react-dom/client";

import type { Model } from "./binding";
import { type Page, WidgetPanel, boundTo } from "./panel";

export interface Mounting {
  /** Shows a component, and returns what ends it. */
  readonly mount: (name: "panel", el: HTMLElement, model: Model) => Promise<() => void>;
}

export function mounting(page: Page | null): Mounting {
  return {
    mount: async (_, el, model) => {
      const { bound, release } = await boundTo(model, page);
      const root = createRoot(el);
      root.render(
        <WidgetPanel
          draft={bound.draft}
          jobs={bound.jobs}
          isByKernel={bound.isByKernel}
          model={model}
          page={page}
        />,
      );
      return () => {
        root.unmount();
        release();
      };
    },
  };
}
