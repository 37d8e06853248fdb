import type { JupyterFrontEndPlugin } from "@jupyterlab/application";

/** The plugins of CTS in JupyterLab. */
const plugins: JupyterFrontEndPlugin<unknown>[] = [];

export default plugins;
