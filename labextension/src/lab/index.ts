// The plugins of CTS in JupyterLab and Notebook 7: small, so that each can be disabled.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { URLExt } from "@jupyterlab/coreutils";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import { ServerConnection } from "@jupyterlab/services";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";

import { type Fetch, ServerService } from "../service/server";
import { EventStream } from "../service/stream";
import { JobStore } from "../store/jobs";
import { commands } from "./commands";
import { examples } from "./examples";
import { form } from "./form";
import { MIME_TYPE, JobOutputWidget } from "./mime";
import { notify } from "./notify";
import { page } from "./page";
import { sidebar } from "./sidebar";
import { status } from "./status";
import { ICTS, NEW_JOB, OPEN_JOB } from "./tokens";
import { view } from "./view";

const TEXTS = "cts_jupyter";
/** Before text/html, so that the live card is shown instead of the snapshot. */
const RANK = 10;

const service: JupyterFrontEndPlugin<ICTS> = {
  id: "cts-jupyter:service",
  description: "Provides the jobs of the CTS service of this Jupyter server.",
  autoStart: true,
  provides: ICTS,
  optional: [ITranslator],
  activate: (app: JupyterFrontEnd, translator: ITranslator | null): ICTS => {
    const settings = app.serviceManager.serverSettings;
    const root = new URL(URLExt.join(settings.baseUrl, "cts/"), location.href).href;
    const tr = (translator ?? nullTranslator).load(TEXTS);
    const send: Fetch = (url, init) => ServerConnection.makeRequest(url, init, settings);
    const server = new ServerService(root, send, tr);
    return {
      tr,
      name: tr.__("this Jupyter server"),
      store: new JobStore(server, new EventStream(server)),
      open: (id) => void app.commands.execute(OPEN_JOB, { id }),
      newJob: (from) => void app.commands.execute(NEW_JOB, from === undefined ? {} : { from }),
    };
  },
};

const mime: JupyterFrontEndPlugin<void> = {
  id: "cts-jupyter:mime",
  description: "Shows a job in a notebook as a live card.",
  autoStart: true,
  requires: [ICTS, IRenderMimeRegistry],
  activate: (_: JupyterFrontEnd, cts: ICTS, registry: IRenderMimeRegistry): void => {
    registry.addFactory(
      {
        safe: true,
        mimeTypes: [MIME_TYPE],
        createRenderer: () => new JobOutputWidget(cts, registry),
      },
      RANK,
    );
  },
};

export default [service, mime, sidebar, view, form, page, status, notify, examples, commands];
