// The status bar: how many jobs are live, and whether CTS can be reached.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IStatusBar } from "@jupyterlab/statusbar";
import { ReactWidget } from "@jupyterlab/ui-components";
import type { ReactElement } from "react";

import { formatStatus } from "../components/StreamLine";
import { LiveCount } from "../store/counts";
import { ICTS, SHOW_JOBS } from "./tokens";

const RANK = 40;

class Status extends ReactWidget {
  private readonly count: LiveCount;

  constructor(
    private readonly cts: ICTS,
    private readonly openJobs: () => void,
  ) {
    super();
    const { service, stream } = cts.store;
    this.count = new LiveCount(service, stream, () => {
      this.update();
    });
    this.count.start();
  }

  override dispose(): void {
    this.count.stop();
    super.dispose();
  }

  protected override render(): ReactElement | null {
    const { live, status } = this.count;
    if (!live) return null;
    const { tr } = this.cts;
    const isAway = status.state === "offline" || status.state === "signed-out";
    const text = tr._n("CTS: %1 live", "CTS: %1 live", live);
    return (
      <button
        type="button"
        className="cts-status jp-StatusBar-TextItem"
        title={formatStatus(status, tr)}
        onClick={this.openJobs}
      >
        {isAway ? `⚠ ${text}` : text}
      </button>
    );
  }
}

export const status: JupyterFrontEndPlugin<void> = {
  id: "cts-jupyter:status",
  description: "Shows in the status bar how many jobs are live.",
  autoStart: true,
  requires: [ICTS],
  optional: [IStatusBar],
  activate: (app: JupyterFrontEnd, cts: ICTS, bar: IStatusBar | null): void => {
    if (!bar) return;
    const item = new Status(cts, () => void app.commands.execute(SHOW_JOBS));
    bar.registerStatusItem("cts-jupyter:status", { item, align: "left", rank: RANK });
  },
};
