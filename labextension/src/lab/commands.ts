// Commands for a job that a person chooses: to cancel it, and to copy what submits it again.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";

import { LANGUAGES } from "../rules/languages";
import type { JobActions, Wanted } from "./actions";
import { jobsIcon } from "./icon";
import { CANCEL_JOB, COPY_JOB, ICTS } from "./tokens";
import { JobWidget } from "./view";

export const commands: JupyterFrontEndPlugin<void> = {
  id: "cts-jupyter:commands",
  description: "Adds commands for jobs to the command palette.",
  autoStart: true,
  requires: [ICTS],
  optional: [ICommandPalette],
  activate: ({ commands: all, shell }: JupyterFrontEnd, cts: ICTS, palette: ICommandPalette | null): void => {
    const { store, tr } = cts;
    const wanted = (id: unknown): Wanted => ({
      id: typeof id === "string" ? id : null,
      current: shell.currentWidget instanceof JobWidget ? shell.currentWidget.jobId : null,
    });
    /** Most pages need none of it as they start. */
    const load = async (): Promise<JobActions> => {
      const [actions, { dialogs }] = await Promise.all([import("./actions"), import("./dialogs")]);
      return new actions.JobActions(store, tr, dialogs);
    };
    const id = { type: "string", description: tr.__("The job's id; without it you choose one") } as const;
    all.addCommand(CANCEL_JOB, {
      label: tr.__("Cancel job …"),
      caption: tr.__("Cancel a job of the CTS, once you have confirmed it"),
      icon: jobsIcon,
      describedBy: { args: { type: "object", properties: { id } } },
      execute: async (args) => (await load()).cancel(wanted(args["id"])),
    });
    all.addCommand(COPY_JOB, {
      label: tr.__("Copy job as code …"),
      caption: tr.__("Copy what submits a job again"),
      icon: jobsIcon,
      describedBy: {
        args: {
          type: "object",
          properties: {
            id,
            language: {
              oneOf: LANGUAGES.map((language) => ({ const: language })),
              description: tr.__("What it is written as; without it you choose"),
            },
          },
        },
      },
      execute: async (args) => {
        const language = LANGUAGES.find((one) => one === args["language"]) ?? null;
        await (await load()).copyCode(wanted(args["id"]), language);
      },
    });
    for (const command of [CANCEL_JOB, COPY_JOB]) palette?.addItem({ command, category: "CTS" });
  },
};
