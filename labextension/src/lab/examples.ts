// The example notebooks of the CTS, as copies to run and change: a card of the launcher for each.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Notification } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import { ILauncher } from "@jupyterlab/launcher";
import { ServerConnection } from "@jupyterlab/services";

import type { ExampleEntry, Examples } from "../api/types";
import { asServiceError } from "../service/errors";
import { jobsIcon } from "./icon";
import { ICTS, OPEN_EXAMPLE } from "./tokens";

const NAME = /^[a-z][a-z-]*$/;
const FIRST_RANK = 101;

export const examples: JupyterFrontEndPlugin<void> = {
  id: "cts-jupyter:examples",
  description: "Opens copies of the example notebooks of the CTS.",
  autoStart: true,
  requires: [ICTS],
  optional: [ILauncher],
  activate: (app: JupyterFrontEnd, cts: ICTS, launcher: ILauncher | null): void => {
    const { commands } = app;
    const { tr } = cts;
    let known: readonly ExampleEntry[] = [];
    const find = (name: unknown): ExampleEntry | undefined => known.find((example) => example.name === name);
    commands.addCommand(OPEN_EXAMPLE, {
      label: ({ name }) => find(name)?.title ?? tr.__("Open an example notebook"),
      caption: ({ name }) => find(name)?.summary ?? tr.__("Open a copy of an example notebook of the CTS"),
      icon: jobsIcon,
      describedBy: {
        args: {
          type: "object",
          properties: {
            name: { type: "string", description: tr.__("The notebook's name") },
            cwd: { type: "string", description: tr.__("The folder that it is copied into") },
          },
          required: ["name"],
        },
      },
      execute: async ({ name, cwd }) => {
        if (typeof name !== "string" || !NAME.test(name)) return;
        try {
          const path = PathExt.join(typeof cwd === "string" ? cwd : "", `${name}.ipynb`);
          await copy(app, cts, name, path);
          await commands.execute("docmanager:open", { path });
        } catch (error) {
          const { message } = asError(error);
          Notification.error(tr.__("The notebook was not copied: %1", message));
        }
      },
    });
    if (!launcher) return;
    void app.restored.then(async () => {
      try {
        known = (await cts.store.service.get<Examples>("examples")).examples;
      } catch (error) {
        // An older service has no examples, and the sidebar says why one does not answer.
        asServiceError(error);
      }
      known.forEach(({ name }, index) => {
        launcher.add({ command: OPEN_EXAMPLE, args: { name }, category: "CTS", rank: FIRST_RANK + index });
      });
    });
  },
};

/** Copies an example to where there is no file yet; a copy that was made before is kept, as a person may have changed it. */
async function copy(app: JupyterFrontEnd, cts: ICTS, name: string, path: string): Promise<void> {
  const { contents } = app.serviceManager;
  try {
    await contents.get(path, { content: false });
  } catch (error) {
    if (!(error instanceof ServerConnection.ResponseError) || error.response.status !== 404) throw error;
    const content = await cts.store.service.get(`examples/${name}`);
    await contents.save(path, { type: "notebook", format: "json", content });
  }
}

function asError(error: unknown): Error {
  if (error instanceof Error) return error;
  throw error;
}
