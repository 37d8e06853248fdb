import { type ReactNode, type RefObject, useEffect, useId, useState } from "react";

import type { JobPreview, Sites } from "../api/types";
import { ALL, type Filter, toTyped } from "../rules/filter";
import { MOODS, type Mood, nameMood } from "../rules/words";
import { asServiceError } from "../service/errors";
import type { IService } from "../service/port";
import { useTranslator } from "./context";
import { useLabelKeys } from "./useLabelKeys";

/** Values that are offered for a filter, of those that the listed jobs have. */
const MAX_OFFERED = 50;

interface Props {
  id: string;
  service: IService;
  filter: Filter;
  setFilter: (changes: Partial<Filter>) => void;
  /** Whether the list is of everybody's jobs, of which a user's may be chosen. */
  hasUsers: boolean;
  /** The jobs that are listed, whose images, labels and users are offered. */
  jobs: readonly JobPreview[];
  first: RefObject<HTMLInputElement>;
  close: () => void;
}

/** Which jobs are listed: by user, state, image, label, site and day. */
export function FilterMenu({
  id,
  service,
  filter,
  setFilter,
  hasUsers,
  jobs,
  first,
  close,
}: Props): ReactNode {
  const tr = useTranslator();
  const sites = useSites(service, jobs);
  const images = offer(jobs.map(({ job_input: { image } }) => image));
  // Of jobs that are not listed, the keys alone are known; everybody's are not.
  const keys = useLabelKeys(service);
  const labels = offer([
    ...jobs.flatMap(({ labels: all }) =>
      Object.entries(all ?? {}).map(([key, value]) => toTyped(key, value)),
    ),
    ...(hasUsers ? [] : keys.map((key) => `${key}=`)),
  ]);
  const toggle = (mood: Mood): void => {
    const { moods } = filter;
    setFilter({ moods: moods.includes(mood) ? moods.filter((other) => other !== mood) : [...moods, mood] });
  };
  return (
    // Escape closes it from each of its fields.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <form
      id={id}
      className="cts-filter-menu"
      aria-label={tr.__("Filters")}
      onSubmit={(event) => {
        event.preventDefault();
        close();
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        close();
      }}
    >
      <fieldset>
        <legend>{tr.__("State")}</legend>
        {MOODS.map((mood, index) => (
          <label key={mood} className="cts-toggle">
            <input
              ref={index ? undefined : first}
              type="checkbox"
              checked={filter.moods.includes(mood)}
              onChange={() => {
                toggle(mood);
              }}
            />
            {nameMood(mood, tr)}
          </label>
        ))}
      </fieldset>
      {!hasUsers && (
        <label className="cts-toggle">
          <input
            type="checkbox"
            checked={filter.isNew}
            onChange={() => {
              setFilter({ isNew: !filter.isNew });
            }}
          />
          {tr.__("Ended since you last looked")}
        </label>
      )}
      {hasUsers && (
        <Typed
          label={tr.__("User")}
          value={filter.user}
          offered={offer(jobs.map(({ user }) => user))}
          set={(user) => {
            setFilter({ user });
          }}
        />
      )}
      <Typed
        label={tr.__("Image")}
        value={filter.image}
        offered={images}
        set={(image) => {
          setFilter({ image });
        }}
      />
      <Typed
        label={tr.__("Label")}
        hint="key=value"
        value={filter.label}
        offered={labels}
        set={(label) => {
          setFilter({ label });
        }}
      />
      <label className="cts-filter-line">
        <span className="cts-filter-name">{tr.__("Site")}</span>
        <select
          className="cts-filter-value"
          value={filter.site}
          onChange={(event) => {
            setFilter({ site: event.currentTarget.value });
          }}
        >
          <option value="">{tr.__("Any")}</option>
          {sites.map((site) => (
            <option key={site}>{site}</option>
          ))}
        </select>
      </label>
      <Day
        label={tr.__("From")}
        value={filter.from}
        set={(from) => {
          setFilter({ from });
        }}
      />
      <Day
        label={tr.__("Until")}
        value={filter.until}
        set={(until) => {
          setFilter({ until });
        }}
      />
      <div className="cts-filter-acts">
        <button
          type="button"
          onClick={() => {
            setFilter({ ...ALL, text: filter.text });
          }}
        >
          {tr.__("Clear")}
        </button>
        <button type="submit">{tr.__("Close")}</button>
      </div>
    </form>
  );
}

interface TypedProps {
  label: string;
  value: string;
  offered: readonly string[];
  hint?: string;
  set: (value: string) => void;
}

function Typed({ label, value, offered, hint, set }: TypedProps): ReactNode {
  const id = useId();
  return (
    <label className="cts-filter-line">
      <span className="cts-filter-name">{label}</span>
      <input
        className="cts-filter-value"
        type="text"
        list={id}
        placeholder={hint}
        value={value}
        onChange={(event) => {
          set(event.currentTarget.value);
        }}
      />
      <datalist id={id}>
        {offered.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </label>
  );
}

function Day({ label, value, set }: Pick<TypedProps, "label" | "value" | "set">): ReactNode {
  return (
    <label className="cts-filter-line">
      <span className="cts-filter-name">{label}</span>
      <input
        className="cts-filter-value"
        type="date"
        value={value}
        onChange={(event) => {
          set(event.currentTarget.value);
        }}
      />
    </label>
  );
}

function offer(values: readonly string[]): string[] {
  return [...new Set(values)].slice(0, MAX_OFFERED);
}

/** The sites of the service, or those of the listed jobs while it does not answer. */
function useSites(service: IService, jobs: readonly JobPreview[]): string[] {
  const [sites, setSites] = useState<string[]>([]);
  useEffect(() => {
    const request = new AbortController();
    service.get<Sites>("sites", {}, request.signal).then(
      (answer) => {
        setSites(answer.sites.map(({ cluster }) => cluster));
      },
      (error: unknown) => {
        if (!request.signal.aborted) asServiceError(error);
      },
    );
    return () => {
      request.abort();
    };
  }, [service]);
  return offer([...sites, ...jobs.map(({ job_input: { cluster } }) => cluster)]);
}
