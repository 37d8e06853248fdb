// The form in a widget, by whichever way the page reaches the service of the widget's kernel.

import type { ReactNode } from "react";

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
}

const MAX_NAME = 300;
const bound = new WeakMap<Model, Promise<Bound>>();

/** The views of one widget show one form. */
export function boundTo(model: Model, page: Page | null): Promise<Bound> {
  let found = bound.get(model);
  if (!found) {
    bound.set(model, (found = make(model, page)));
    // The next view tries again.
    found.catch(() => bound.delete(model));
  }
  return found;
}

async function make(model: Model, page: Page | null): Promise<Bound> {
  const isByKernel = page === null || !(await isSame(model, page));
  const jobs = isByKernel ? throughKernel(model) : page.store;
  const draft = new DraftStore(jobs.service, undefined, page?.tr ?? english);
  bind(model, draft);
  return { draft, jobs, isByKernel };
}

function throughKernel(model: Model): JobStore {
  const service = new KernelService(`kernel:${Math.random()}`, model);
  return new JobStore(service, new EventStream(service, {}));
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

interface Props extends Bound {
  model: Model;
  page: Page | null;
}

export function WidgetPanel({ draft, jobs, isByKernel, model, page }: Props): ReactNode {
  const tr = page?.tr ?? english;
  const named = model.get("_service");
  const service = typeof named === "string" ? named.slice(0, MAX_NAME) : "";
  return (
    <TranslatorContext.Provider value={tr}>
      <div className="cts-output cts-widget">
        {isByKernel && (
          <p className="cts-note">{tr.__("By the kernel, which asks %1 for this page.", service)}</p>
        )}
        <Panel draft={draft} jobs={jobs} service={service} open={isByKernel ? undefined : page?.open} />
      </div>
    </TranslatorContext.Provider>
  );
}
