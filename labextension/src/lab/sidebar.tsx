// The sidebar with the user's jobs, or everybody's for an admin.

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ReactWidget } from "@jupyterlab/ui-components";
import type { ReactElement } from "react";

import { TranslatorContext } from "../components/context";
import { GROUPINGS, type Grouping } from "../rules/groups";
import { JobList } from "../store/list";
import { jobsIcon } from "./icon";
import { LazySidebar, Loading } from "./lazy";
import { ICTS, OPEN_EXAMPLE, SHOW_JOBS } from "./tokens";

const ID = "cts-jupyter:sidebar";
const RANK = 220;

/** Asks for jobs only while it is in sight. */
class Sidebar extends ReactWidget {
  grouping: Grouping = "day";
  private readonly list: JobList;

  constructor(
    private readonly cts: ICTS,
    private readonly setGrouping: (grouping: Grouping) => void,
    private readonly learn: () => void,
  ) {
    super();
    const { store } = cts;
    this.list = new JobList(store.service, store.stream, () => store.everybodysStream);
    this.id = "cts-jobs";
    this.title.icon = jobsIcon;
    this.title.caption = cts.tr.__("CTS jobs");
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", cts.tr.__("CTS jobs"));
  }

  protected override onAfterShow(): void {
    this.update();
  }

  protected override onAfterHide(): void {
    this.update();
  }

  protected override render(): ReactElement | null {
    if (!this.isVisible) return null;
    return (
      <TranslatorContext.Provider value={this.cts.tr}>
        <Loading>
          <LazySidebar
            store={this.cts.store}
            list={this.list}
            service={this.cts.name}
            grouping={this.grouping}
            setGrouping={this.setGrouping}
            open={this.cts.open}
            newJob={this.cts.newJob}
            learn={this.learn}
          />
        </Loading>
      </TranslatorContext.Provider>
    );
  }
}

function toGrouping(value: unknown): Grouping {
  return GROUPINGS.find((grouping) => grouping === value) ?? "day";
}

export const sidebar: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Adds a sidebar with the user's jobs.",
  autoStart: true,
  requires: [ICTS],
  optional: [ISettingRegistry, ILayoutRestorer, ICommandPalette, ILauncher],
  activate: (
    app: JupyterFrontEnd,
    cts: ICTS,
    registry: ISettingRegistry | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
  ): void => {
    const { commands, shell } = app;
    let settings: ISettingRegistry.ISettings | null = null;
    const show = (grouping: Grouping): void => {
      widget.grouping = grouping;
      widget.update();
    };
    const keep = (grouping: Grouping): void => {
      show(grouping);
      void settings?.set("grouping", grouping);
    };
    const learn = (): void => {
      void commands.execute(OPEN_EXAMPLE, { name: "quickstart" });
    };
    const widget = new Sidebar(cts, keep, learn);
    void registry?.load(ID).then((loaded) => {
      settings = loaded;
      const read = (): void => {
        show(toGrouping(loaded.get("grouping").composite));
      };
      loaded.changed.connect(read);
      read();
    });
    shell.add(widget, "left", { rank: RANK, type: "CTS" });
    restorer?.add(widget, widget.id);
    commands.addCommand(SHOW_JOBS, {
      label: cts.tr.__("Show my jobs"),
      caption: cts.tr.__("Show the jobs of the CTS"),
      icon: jobsIcon,
      describedBy: { args: { type: "object", properties: {} } },
      execute: () => {
        shell.activateById(widget.id);
      },
    });
    palette?.addItem({ command: SHOW_JOBS, category: "CTS" });
    launcher?.add({ command: SHOW_JOBS, category: cts.tr.__("Other"), rank: 100 });
  },
};
