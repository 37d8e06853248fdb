// The form for a new job in the main area, which is there again after a reload with what was filled in.

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, MainAreaWidget, Notification, WidgetTracker } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { ReactWidget } from "@jupyterlab/ui-components";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";

import { TranslatorContext } from "../components/context";
import { shortId } from "../rules/words";
import { asServiceError } from "../service/errors";
import { newKey } from "../service/key";
import { DraftStore, readSaved } from "../store/draft";
import { jobsIcon } from "./icon";
import { LazyPanel, Loading } from "./lazy";
import { JOB_ID } from "./mime";
import { ICTS, NEW_JOB } from "./tokens";

const NAMESPACE = "cts-form";
const SAVE_MS = 1_000;

class FormWidget extends MainAreaWidget<ReactWidget> {
  constructor(
    { store, tr, name, open }: ICTS,
    readonly draft: DraftStore,
    /** Tells it apart from other forms, also after a reload. */
    readonly key: string,
  ) {
    const content = ReactWidget.create(
      <TranslatorContext.Provider value={tr}>
        <Loading>
          <LazyPanel draft={draft} jobs={store} service={name} open={open} />
        </Loading>
      </TranslatorContext.Provider>,
    );
    content.node.style.overflow = "auto";
    super({ content });
    this.id = `${NAMESPACE}-${key}`;
    this.title.label = tr.__("New job");
    this.title.icon = jobsIcon;
    this.title.closable = true;
  }
}

export const form: JupyterFrontEndPlugin<void> = {
  id: "cts-jupyter:form",
  description: "Opens a form for a new job in the main area.",
  autoStart: true,
  requires: [ICTS],
  optional: [ILayoutRestorer, ICommandPalette, ILauncher],
  activate: (
    app: JupyterFrontEnd,
    cts: ICTS,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
  ): void => {
    const { commands, shell } = app;
    const { tr } = cts;
    const tracker = new WidgetTracker<FormWidget>({ namespace: NAMESPACE });
    commands.addCommand(NEW_JOB, {
      label: tr.__("New job"),
      caption: tr.__("Fill in a form for a new job of the CTS"),
      icon: jobsIcon,
      describedBy: {
        args: {
          type: "object",
          properties: {
            from: { type: "string", description: tr.__("The id of a job whose values are filled in") },
          },
        },
      },
      execute: async ({ from, saved, key }) => {
        const draft = new DraftStore(cts.store.service);
        const kept = readSaved(saved);
        if (kept) draft.restore(kept);
        const widget = new FormWidget(cts, draft, typeof key === "string" ? key : newKey());
        await tracker.add(widget);
        shell.add(widget, "main");
        shell.activateById(widget.id);
        draft.keep = () => tracker.save(widget);
        // Whatever is filled in is saved a moment later.
        let timer: ReturnType<typeof setTimeout> | undefined;
        const unwatch = draft.watch(() => {
          const { sent } = draft.view;
          widget.title.label =
            sent.phase === "done" ? tr.__("Job %1", shortId(sent.jobId)) : tr.__("New job");
          clearTimeout(timer);
          timer = setTimeout(() => void tracker.save(widget), SAVE_MS);
        });
        widget.disposed.connect(() => {
          unwatch();
          clearTimeout(timer);
        });
        if (typeof from !== "string" || !JOB_ID.test(from)) return;
        try {
          await draft.startFrom(from);
        } catch (error) {
          Notification.error(tr.__("Job %1 cannot be read: %2", from, asServiceError(error).message));
        }
      },
    });
    palette?.addItem({ command: NEW_JOB, category: "CTS" });
    launcher?.add({ command: NEW_JOB, category: tr.__("Other"), rank: 99 });
    void restorer?.restore(tracker, {
      command: NEW_JOB,
      name: ({ key }) => key,
      args: ({ draft, key }) => ({ key, saved: draft.saved as unknown as ReadonlyPartialJSONObject }),
    });
  },
};
