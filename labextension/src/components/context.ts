// What every component is given by the page that it is in.

import { createContext, useCallback, useContext, useEffect, useState, useSyncExternalStore } from "react";

import { type Translator, english } from "../rules/translator";
import { hasEnded } from "../rules/words";
import type { JobPreview, SiteLoad } from "../api/types";
import { asServiceError } from "../service/errors";
import type { IService } from "../service/port";
import type { StreamStatus } from "../service/stream";
import type { DraftStore, DraftView } from "../store/draft";
import type { JobStore, JobView } from "../store/jobs";
import type { JobList, ListView } from "../store/list";
import type { Observable } from "../store/observable";
import type { Queue } from "../store/queue";
import type { Reasons } from "../store/reasons";

export const TranslatorContext = createContext<Translator>(english);

export function useTranslator(): Translator {
  return useContext(TranslatorContext);
}

/** A thing that a component is shown, anew at each change; `watch` and `view` are of what they name in `of`. */
function useWatched<View>(
  watch: (callback: () => void) => () => void,
  view: () => View,
  of: readonly unknown[],
): View {
  return useSyncExternalStore(useCallback(watch, of), view);
}

export function useJob(store: JobStore, id: string): JobView {
  return useWatched(
    (callback) => store.watch(id, callback),
    () => store.view(id),
    [store, id],
  );
}

export function useStatus(store: JobStore): StreamStatus {
  return useWatched(
    (callback) => store.watchStatus(callback),
    () => store.status,
    [store],
  );
}

export function useView<View>(store: Pick<Observable<View>, "view" | "watch">): View {
  return useWatched(
    (callback) => store.watch(callback),
    () => store.view,
    [store],
  );
}

export const useList = (list: JobList): ListView => useView(list);
export const useDraft = (draft: DraftStore): DraftView => useView(draft);

export function useReason(reasons: Reasons, job: JobPreview, tr: Translator): string {
  return useWatched(
    (callback) => reasons.watch(callback),
    () => reasons.of(job, tr),
    [reasons],
  );
}

/** What a live job waits for, in words; empty if nothing is known. */
export function useWaiting(queue: Queue, job: JobPreview, tr: Translator): string {
  const { state } = job;
  const site = hasEnded(state) ? null : job.job_input.cluster;
  return useWatched(
    // In another state it waits for something else.
    (callback) => (site === null ? () => undefined : queue.watch(site, callback)),
    () => queue.of(job, tr),
    [queue, site, state],
  );
}

/** What waits and runs at a site, of everybody; null if it is not known. */
export function useLoad(queue: Queue, site: string): SiteLoad | null {
  return useWatched(
    (callback) => queue.watch(site, callback),
    () => queue.loadOf(site),
    [queue, site],
  );
}

/** Whether the service has a route, with a parameter, as one of this version does; false once it is known to lack it. */
export function useKnows(service: IService, method: string, path: string, parameter?: string): boolean {
  const [lacking, setLacking] = useState<IService | null>(null);
  useEffect(() => {
    let isWanted = true;
    service.knows(method, path, parameter).then(
      (isKnown) => {
        if (isWanted && !isKnown) setLacking(service);
      },
      // What is asked of a service that is away says so itself.
      asServiceError,
    );
    return () => {
      isWanted = false;
    };
  }, [service, method, path, parameter]);
  return lacking !== service;
}

const TICK_MS = 1_000;

/** The time now, each second anew while `isLive`. */
export function useNow(now: () => number, isLive: boolean): number {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!isLive) return undefined;
    const timer = setInterval(() => {
      tick((count) => count + 1);
    }, TICK_MS);
    return () => {
      clearInterval(timer);
    };
  }, [isLive]);
  return now();
}
