// A job in the output of a cell: live without a kernel, and in a notebook that is not trusted, as it runs no script.

import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import type { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import { ReactWidget } from "@jupyterlab/ui-components";
import { Panel, type Widget } from "@lumino/widgets";

import { ErrorBoundary } from "../components/ErrorBoundary";
import { JobOutput } from "../components/JobOutput";
import { TranslatorContext } from "../components/context";
import type { ICTS } from "./tokens";

export const MIME_TYPE = "application/vnd.cts.job+json";

export const JOB_ID = /^[\w-]{1,100}$/;
const MAX_NAME = 300;

interface Shown {
  id: string;
  service: string;
  /** The records that the job is in; an earlier version did not say. */
  instance?: string;
}

/** Returns what an output says about its job, if it is of a kind that this version knows. */
export function readOutput(data: unknown): Shown | null {
  if (typeof data !== "object" || data === null) return null;
  const { job, service, instance } = data as Record<string, unknown>;
  if (typeof job !== "string" || !JOB_ID.test(job)) return null;
  return {
    id: job,
    service: typeof service === "string" ? service.slice(0, MAX_NAME) : "",
    ...(typeof instance === "string" && { instance }),
  };
}

/** Shows the snapshot that the kernel wrote until the job is loaded, and its live card then. */
export class JobOutputWidget extends Panel implements IRenderMime.IRenderer {
  private shown: Shown | null = null;
  private card: Widget | null = null;
  private readonly snapshot: IRenderMime.IRenderer;

  constructor(
    private readonly cts: ICTS,
    registry: IRenderMimeRegistry,
  ) {
    super();
    this.addClass("cts-output");
    this.snapshot = registry.createRenderer("text/html");
    this.addWidget(this.snapshot);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const shown = readOutput(model.data[MIME_TYPE]);
    if (shown?.id !== this.shown?.id || !shown) {
      this.card?.dispose();
      this.card = shown && this.makeCard(shown);
      this.shown = shown;
    }
    await this.snapshot.renderModel(model);
  }

  private makeCard({ id, service, instance }: Shown): Widget {
    const { store, tr, open, newJob } = this.cts;
    const card = ReactWidget.create(
      <TranslatorContext.Provider value={tr}>
        <ErrorBoundary>
          <JobOutput
            store={store}
            id={id}
            service={service}
            {...(instance !== undefined && { instance })}
            open={open}
            newJob={newJob}
            onLoad={({ job }) => {
              this.snapshot.setHidden(job !== null);
            }}
          />
        </ErrorBoundary>
      </TranslatorContext.Provider>,
    );
    this.insertWidget(0, card);
    return card;
  }
}
