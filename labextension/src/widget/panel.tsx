// The form in a widget, by whichever way the page reaches the service of the widget's kernel.

import { type ReactNode, useEffect, useState } from "react";

import { TranslatorContext } from "../components/context";
import { Panel } from "../components/form/Panel";
import { type Translator, english } from "../rules/translator";
import { isAbort } from "../service/errors";
import { ServiceError } from "../service/errors";
import { KernelService } from "../service/kernel";
import { EventStream } from "../service/stream";
import { DraftStore } from "../store/draft";
import { JobStore } from "../store/jobs";
import { type Model, bind } from "./binding";

/** The service that a page reaches by itself. */
export interface Page {
  readonly store: JobStore;
  readonly tr: Translator;
  readonly name: string;
  readonly open: (id: string) => void;
}

interface Bound {
  draft: DraftStore;
  jobs: JobStore;
  isByKernel: boolean;
  end: () => void;
}

const MAX_NAME = 300;
/** The form of a widget, with how many views show it. */
interface Shared {
  readonly bound: Promise<Bound>;
  views: number;
}
const shared = new WeakMap<Model, Shared>();

/** The views of one widget show one form, which ends with the last of them: the kernel keeps what is filled in. */
export async function boundTo(
  model: Model,
  page: Page | null,
): Promise<{ bound: Bound; release: () => void }> {
  let form = shared.get(model);
  if (!form) shared.set(model, (form = { bound: make(model, page), views: 0 }));
  const one = form;
  one.views += 1;
  try {
    const bound = await one.bound;
    const release = (): void => {
      one.views -= 1;
      if (one.views) return;
      shared.delete(model);
      bound.end();
    };
    return { bound, release };
  } catch (error) {
    // The next view tries again.
    shared.delete(model);
    throw error;
  }
}

async function make(model: Model, page: Page | null): Promise<Bound> {
  if (page && (await isSame(model, page))) {
    const draft = new DraftStore(page.store.service);
    return { draft, jobs: page.store, isByKernel: false, end: bind(model, draft) };
  }
  const service = new KernelService(`kernel:${Math.random()}`, model, page?.tr ?? english);
  const draft = new DraftStore(service);
  const unbind = bind(model, draft);
  const end = (): void => {
    unbind();
    service.close();
  };
  return { draft, jobs: new JobStore(service, new EventStream(service, {})), isByKernel: true, end };
}

/** Whether the page reaches the records of the kernel's service: another one may have jobs of the same ids. */
async function isSame(model: Model, { store }: Page): Promise<boolean> {
  const instance = model.get("_instance");
  if (model.get("_by_kernel") === true || typeof instance !== "string" || !instance) return false;
  try {
    const { instance: own } = await store.service.get<{ instance?: string }>("whoami");
    return own === instance;
  } catch (error) {
    if (error instanceof ServiceError || isAbort(error)) return false;
    throw error;
  }
}

interface Props extends Omit<Bound, "end"> {
  model: Model;
  page: Page | null;
}

export function WidgetPanel({ draft, jobs, isByKernel, model, page }: Props): ReactNode {
  const tr = page?.tr ?? english;
  const named = model.get("_service");
  const service = typeof named === "string" ? named.slice(0, MAX_NAME) : "";
  const isGone = useGone(model);
  return (
    <TranslatorContext.Provider value={tr}>
      <div className="cts-output cts-widget">
        {isByKernel && !isGone && (
          <p className="cts-note">{tr.__("By the kernel, which asks %1 for this page.", service)}</p>
        )}
        {isGone && (
          <p className="cts-note" role="alert">
            {isByKernel
              ? tr.__("The kernel was restarted or ended, and this form asks by it: run its cell again.")
              : tr.__(
                  "The kernel was restarted or ended, so the notebook no longer has what is filled in here. Run the cell again for a form that it has.",
                )}
          </p>
        )}
        <Panel draft={draft} jobs={jobs} service={service} open={isByKernel ? undefined : page?.open} />
      </div>
    </TranslatorContext.Provider>
  );
}

/** Whether the kernel of a widget was restarted or ended, after which no widget of it is the kernel's again. */
function useGone(model: Model): boolean {
  const [isGone, setGone] = useState(false);
  useEffect(() => {
    const hear = (): void => {
      setGone(true);
    };
    model.on("comm_live_update", hear);
    return () => {
      model.off("comm_live_update", hear);
    };
  }, [model]);
  return isGone;
}
