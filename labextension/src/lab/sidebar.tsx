// The sidebar with the user's jobs, or everybody's for an admin.

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ReactWidget } from "@jupyterlab/ui-components";
import type { ReactElement } from "react";

import { TranslatorContext } from "../components/context";
import { GROUPINGS, type Grouping, nameGrouping } from "../rules/groups";
import type { Translator } from "../rules/translator";
import { JobList } from "../store/list";
import { jobsIcon } from "./icon";
import { LazySidebar, Loading } from "./lazy";
import { GROUP_JOBS, ICTS, OPEN_EXAMPLE, SHOW_JOBS } from "./tokens";

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

function toGrouping(value: unknown): Grouping | undefined {
  return GROUPINGS.find((grouping) => grouping === value);
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
    const { tr } = cts;
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
        show(toGrouping(loaded.get("grouping").composite) ?? "day");
      };
      loaded.changed.connect(read);
      read();
    });
    shell.add(widget, "left", { rank: RANK, type: "CTS" });
    restorer?.add(widget, widget.id);
    commands.addCommand(SHOW_JOBS, {
      label: tr.__("Show my jobs"),
      caption: tr.__("Show the jobs of the CTS"),
      icon: jobsIcon,
      describedBy: { args: { type: "object", properties: {} } },
      execute: () => {
        shell.activateById(widget.id);
      },
    });
    commands.addCommand(GROUP_JOBS, {
      label: tr.__("Group jobs by …"),
      caption: tr.__("Group the list of jobs by day, image or label"),
      icon: jobsIcon,
      describedBy: {
        args: {
          type: "object",
          properties: {
            by: {
              oneOf: GROUPINGS.map((grouping) => ({ const: grouping })),
              description: tr.__("What the list is grouped by; without it you choose"),
            },
          },
        },
      },
      execute: async ({ by }) => {
        const wanted = toGrouping(by) ?? (await askForGrouping(widget.grouping, tr));
        if (wanted) keep(wanted);
      },
    });
    for (const command of [SHOW_JOBS, GROUP_JOBS]) palette?.addItem({ command, category: "CTS" });
    launcher?.add({ command: SHOW_JOBS, category: tr.__("Other"), rank: 100 });
  },
};

async function askForGrouping(current: Grouping, tr: Translator): Promise<Grouping | undefined> {
  const { dialogs } = await import("./dialogs");
  const names = GROUPINGS.map((grouping) => nameGrouping(grouping, tr));
  const place = await dialogs.choose(tr.__("Group jobs"), tr.__("By"), names, GROUPINGS.indexOf(current));
  return GROUPINGS[place ?? -1];
}
