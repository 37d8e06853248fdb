// Tells when a job ends, in JupyterLab and by the browser; off until a person switches it on.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, Notification as LabNotification } from "@jupyterlab/apputils";
import { ISettingRegistry } from "@jupyterlab/settingregistry";

import { type End, Ends } from "../store/ends";
import { ICTS, OPEN_JOB, SHOW_JOBS } from "./tokens";

const ID = "cts-jupyter:notify";
const SETTING = "whenJobsEnd";
const TOGGLE = "cts:notify";

export const notify: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Tells when a job ends; off at first.",
  autoStart: true,
  requires: [ICTS, ISettingRegistry],
  optional: [ICommandPalette],
  activate: async (
    app: JupyterFrontEnd,
    cts: ICTS,
    registry: ISettingRegistry,
    palette: ICommandPalette | null,
  ): Promise<void> => {
    const { commands } = app;
    const { store, tr } = cts;
    const open = (id: string | null): void => {
      void (id === null ? commands.execute(SHOW_JOBS) : commands.execute(OPEN_JOB, { id }));
    };
    const ends = new Ends(store.service, tr, (end) => {
      tellInLab(end, tr.__("Show"), open);
      tellByBrowser(end, open);
    });
    const settings = await registry.load(ID);
    const isOn = (): boolean => settings.get(SETTING).composite === true;
    const follow = (): void => {
      if (isOn()) store.stream.add(ends);
      else store.stream.remove(ends);
      commands.notifyCommandChanged(TOGGLE);
    };
    commands.addCommand(TOGGLE, {
      label: tr.__("Tell me when jobs end"),
      isToggled: isOn,
      describedBy: { args: { type: "object", properties: {} } },
      execute: async () => {
        // A browser asks its user only where a person has just acted.
        if (!isOn() && "Notification" in window) await Notification.requestPermission();
        if (!isOn() && !window.isSecureContext) {
          LabNotification.warning(
            tr.__("Only JupyterLab tells you here: the browser does so on pages of https alone."),
            { autoClose: 10_000 },
          );
        }
        await settings.set(SETTING, !isOn());
      },
    });
    palette?.addItem({ command: TOGGLE, category: "CTS" });
    settings.changed.connect(follow);
    follow();
  },
};

function tellInLab({ text, id, isFailure }: End, label: string, open: (id: string | null) => void): void {
  LabNotification.emit(text, isFailure ? "error" : "success", {
    autoClose: 10_000,
    actions: [
      {
        label,
        callback: () => {
          open(id);
        },
      },
    ],
  });
}

function tellByBrowser({ text, id }: End, open: (id: string | null) => void): void {
  if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return;
  const shown = new Notification("CTS", { body: text, tag: id ?? "cts" });
  shown.onclick = () => {
    window.focus();
    open(id);
  };
}
