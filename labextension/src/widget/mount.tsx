// What a widget's loader finds in a page, or gets from its kernel.

import { createRoot } from "react-dom/client";

import type { Model } from "./binding";
import { type Page, WidgetPanel, boundTo } from "./panel";

/** With the version of what is between loader and component: an older kernel brings a component of its own. */
export const PAGE_KEY = Symbol.for("cts.page.v1");

export interface Mounting {
  /** Shows a component, and returns what ends it. */
  readonly mount: (name: "panel", el: HTMLElement, model: Model) => Promise<() => void>;
}

export function mounting(page: Page | null): Mounting {
  return {
    mount: async (_, el, model) => {
      const bound = await boundTo(model, page);
      const root = createRoot(el);
      root.render(<WidgetPanel {...bound} model={model} page={page} />);
      return () => {
        root.unmount();
      };
    },
  };
}
