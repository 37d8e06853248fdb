// What every component is given by the page that it is in.

import { createContext, useContext, useEffect, useState, useSyncExternalStore } from "react";

import { type Translator, english } from "../rules/translator";
import type { JobPreview } from "../api/types";
import type { StreamStatus } from "../service/stream";
import type { DraftStore, DraftView } from "../store/draft";
import type { JobStore, JobView } from "../store/jobs";
import type { JobList, ListView } from "../store/list";
import type { Observable } from "../store/observable";
import type { Reasons } from "../store/reasons";

export const TranslatorContext = createContext<Translator>(english);

export function useTranslator(): Translator {
  return useContext(TranslatorContext);
}

export function useJob(store: JobStore, id: string): JobView {
  const [subscribe] = useState(() => (callback: () => void) => store.watch(id, callback));
  return useSyncExternalStore(subscribe, () => store.view(id));
}

export function useStatus(store: JobStore): StreamStatus {
  const [subscribe] = useState(() => (callback: () => void) => store.watchStatus(callback));
  return useSyncExternalStore(subscribe, () => store.status);
}

export function useList(list: JobList): ListView {
  const [subscribe] = useState(() => (callback: () => void) => list.watch(callback));
  return useSyncExternalStore(subscribe, () => list.view);
}

export function useDraft(draft: DraftStore): DraftView {
  const [subscribe] = useState(() => (callback: () => void) => draft.watch(callback));
  return useSyncExternalStore(subscribe, () => draft.view);
}

export function useView<View>(store: Observable<View>): View {
  const [subscribe] = useState(() => (callback: () => void) => store.watch(callback));
  return useSyncExternalStore(subscribe, () => store.view);
}

export function useReason(reasons: Reasons, job: JobPreview, tr: Translator): string {
  const [subscribe] = useState(() => (callback: () => void) => reasons.watch(callback));
  return useSyncExternalStore(subscribe, () => reasons.of(job, tr));
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
