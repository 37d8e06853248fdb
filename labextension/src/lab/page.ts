// Lets the widgets of kernels take their component from this page.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";

import type { Mounting } from "../widget/mount";
import { ICTS } from "./tokens";

/** With the version of what is between loader and component: an older kernel brings a component of its own. */
const PAGE_KEY = Symbol.for("cts.page.v1");

export const page: JupyterFrontEndPlugin<void> = {
  id: "cts-jupyter:page",
  description: "Shows the widgets of kernels.",
  autoStart: true,
  requires: [ICTS],
  activate: (_: JupyterFrontEnd, cts: ICTS): void => {
    // Loaded when a widget is first shown.
    const mount: Mounting["mount"] = async (...shown) => {
      const [{ mounting }] = await Promise.all([
        import("../widget/mount"),
        import("../components/form/styles"),
      ]);
      return mounting(cts).mount(...shown);
    };
    (globalThis as unknown as Record<symbol, Mounting>)[PAGE_KEY] = { mount };
  },
};
