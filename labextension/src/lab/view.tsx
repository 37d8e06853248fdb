// A job in the main area, which is there again after a reload.

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, InputDialog, MainAreaWidget, WidgetTracker } from "@jupyterlab/apputils";
import { ReactWidget } from "@jupyterlab/ui-components";

import { ErrorBoundary } from "../components/ErrorBoundary";
import { JobView } from "../components/JobView";
import { TranslatorContext } from "../components/context";
import { shortId } from "../rules/words";
import { jobsIcon } from "./icon";
import { JOB_ID } from "./mime";
import { ICTS, OPEN_JOB } from "./tokens";

const NAMESPACE = "cts-job";

export class JobWidget extends MainAreaWidget<ReactWidget> {
  constructor(
    cts: ICTS,
    readonly jobId: string,
  ) {
    const content = ReactWidget.create(
      <TranslatorContext.Provider value={cts.tr}>
        <ErrorBoundary>
          <JobView store={cts.store} id={jobId} service={cts.name} open={cts.open} newJob={cts.newJob} />
        </ErrorBoundary>
      </TranslatorContext.Provider>,
    );
    content.node.style.overflow = "auto";
    super({ content });
    this.id = `${NAMESPACE}-${jobId}`;
    this.title.label = cts.tr.__("Job %1", shortId(jobId));
    this.title.icon = jobsIcon;
    this.title.closable = true;
  }
}

export const view: JupyterFrontEndPlugin<void> = {
  id: "cts-jupyter:job-view",
  description: "Opens a job in the main area.",
  autoStart: true,
  requires: [ICTS],
  optional: [ILayoutRestorer, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    cts: ICTS,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
  ): void => {
    const { commands, shell } = app;
    const { tr } = cts;
    const tracker = new WidgetTracker<JobWidget>({ namespace: NAMESPACE });
    commands.addCommand(OPEN_JOB, {
      label: tr.__("Open job …"),
      caption: tr.__("Open a job by its id"),
      icon: jobsIcon,
      describedBy: {
        args: { type: "object", properties: { id: { type: "string", description: tr.__("The job's id") } } },
      },
      execute: async ({ id: given }) => {
        const id = typeof given === "string" ? given : await askForId(cts);
        if (id === null || !JOB_ID.test(id)) return;
        const open = tracker.find(({ jobId }) => jobId === id);
        const widget = open ?? new JobWidget(cts, id);
        if (!open) {
          await tracker.add(widget);
          shell.add(widget, "main");
        }
        shell.activateById(widget.id);
      },
    });
    palette?.addItem({ command: OPEN_JOB, category: "CTS" });
    void restorer?.restore(tracker, {
      command: OPEN_JOB,
      args: ({ jobId }) => ({ id: jobId }),
      name: ({ jobId }) => jobId,
    });
  },
};

async function askForId({ tr }: ICTS): Promise<string | null> {
  const { value } = await InputDialog.getText({ title: tr.__("Open a job"), label: tr.__("The job's id") });
  return value?.trim() ?? null;
}
