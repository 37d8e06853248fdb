import { type ReactNode, useCallback } from "react";

import type { Site } from "../../api/types";
import { cpuHours } from "../../rules/problems";
import { MEMORY_UNITS, RUNTIME_UNITS, toQuantity } from "../../rules/spec";
import type { Translator } from "../../rules/translator";
import { formatDuration, formatSize, number } from "../../rules/words";
import { type LastUse, findImage, loadLastUse, nameOf, withSpare } from "../../store/catalogue";
import type { DraftStore } from "../../store/draft";
import { useDraft, useTranslator } from "../context";
import { QuantityField, TextField, usePlace } from "./fields";
import { useLoaded } from "./useLoaded";

/** Where a draft runs, and what each container of it may use. */
export function Resources({ store }: { store: DraftStore }): ReactNode {
  const tr = useTranslator();
  const { draft } = useDraft(store);
  const hours = cpuHours(draft);
  return (
    <>
      <Sites store={store} />
      <div className="cts-grid">
        <TextField
          label={tr.__("Containers")}
          place={["num_containers"]}
          inputMode="numeric"
          value={draft.containers}
          onChange={(containers) => {
            store.change({ containers });
          }}
        />
        <TextField
          label={tr.__("CPUs each")}
          place={["cpus"]}
          inputMode="numeric"
          value={draft.cpus}
          onChange={(cpus) => {
            store.change({ cpus });
          }}
        />
        <QuantityField
          label={tr.__("Memory each")}
          place={["memory"]}
          units={Object.keys(MEMORY_UNITS)}
          unitLabel={tr.__("Unit of memory")}
          value={draft.memory}
          onChange={(memory) => {
            store.change({ memory });
          }}
        />
        <QuantityField
          label={tr.__("Each runs at most")}
          place={["runtime"]}
          units={Object.keys(RUNTIME_UNITS)}
          unitLabel={tr.__("Unit of time")}
          value={draft.runtime}
          onChange={(runtime) => {
            store.change({ runtime });
          }}
        />
      </div>
      {hours >= 0 && <p className="cts-hours">{formatHours(hours, tr)}</p>}
      <LastUsed store={store} />
    </>
  );
}

function formatHours(hours: number, tr: Translator): string {
  const shown = hours >= 10 ? number(Math.round(hours)) : String(Number(hours.toPrecision(2)));
  return tr.__("CPU hours: at most %1 (containers × CPUs × time)", shown);
}

function Sites({ store }: { store: DraftStore }): ReactNode {
  const tr = useTranslator();
  const { draft, catalogue } = useDraft(store);
  const { control, faults } = usePlace(["cluster"]);
  // A draft may name a site that the service does not list.
  const isListed = catalogue.sites.some(({ cluster }) => cluster === draft.site);
  return (
    <fieldset
      className="cts-sites"
      data-place={control["data-place"]}
      aria-describedby={control["aria-describedby"]}
    >
      <legend>{tr.__("Site")}</legend>
      {catalogue.sites.map((site) => (
        <label key={site.cluster}>
          <input
            type="radio"
            name={control.id}
            value={site.cluster}
            checked={site.cluster === draft.site}
            disabled={!isOpen(site) && site.cluster !== draft.site}
            onChange={() => {
              store.change({ site: site.cluster });
            }}
          />
          <span>
            <strong>{site.cluster}</strong>{" "}
            <span className="cts-faint">
              {isOpen(site) ? formatLimits(site, tr) : explainClosed(site, tr)}
            </span>
          </span>
        </label>
      ))}
      {draft.site && !isListed && <p className="cts-faint">{draft.site}</p>}
      {faults}
    </fieldset>
  );
}

function isOpen({ active, available }: Site): boolean {
  return active && available;
}

function formatLimits(
  { cpus_per_node: cpus, memory_per_node_gb: memory, max_runtime_min: minutes }: Site,
  tr: Translator,
): string {
  return tr.__(
    "a container has at most %1 CPUs, %2 and %3",
    number(cpus),
    formatSize(memory * 1e9),
    formatDuration(minutes * 60),
  );
}

function explainClosed({ unavailable_reason: reason, active }: Site, tr: Translator): string {
  return reason ?? (active ? tr.__("cannot be reached now") : tr.__("takes no jobs now"));
}

function LastUsed({ store }: { store: DraftStore }): ReactNode {
  const tr = useTranslator();
  const { draft, catalogue } = useDraft(store);
  const { service } = store;
  const image = findImage(catalogue.images, draft.image);
  const load = useCallback(
    (name: string, signal: AbortSignal) => loadLastUse(service, name, signal),
    [service],
  );
  const { value: last } = useLoaded(image ? nameOf(image) : "", load);
  if (!last) return null;
  const { memory, runtime } = withSpare(last);
  const wanted = [formatSize(memory), ...(runtime === null ? [] : [formatDuration(runtime)])].join(
    tr.__(" and "),
  );
  return (
    <p className="cts-last">
      <span className="cts-faint">{formatLast(last, tr)}</span>{" "}
      <button
        type="button"
        onClick={() => {
          store.change({
            memory: toQuantity(memory, MEMORY_UNITS),
            ...(runtime !== null && { runtime: toQuantity(runtime, RUNTIME_UNITS) }),
          });
        }}
      >
        {tr.__("Ask for %1", wanted)}
      </button>
    </p>
  );
}

function formatLast({ memory, askedMemory, runtime, askedRuntime }: LastUse, tr: Translator): string {
  if (runtime === undefined) {
    return tr.__(
      "A container of your last complete job used at most %1 of %2.",
      formatSize(memory),
      formatSize(askedMemory),
    );
  }
  return tr.__(
    "A container of your last complete job used at most %1 of %2, and ran %3 of %4.",
    formatSize(memory),
    formatSize(askedMemory),
    formatDuration(runtime),
    formatDuration(askedRuntime, { tenths: false }),
  );
}
