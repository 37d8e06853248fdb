import { type ReactNode, useDeferredValue, useEffect, useMemo, useState } from "react";

import type { Container, Containers } from "../api/types";
import { nameOf } from "../rules/paths";
import { formatSeconds, secondsOf, sortContainers } from "../rules/strip";
import type { Translator } from "../rules/translator";
import { MOODS, type Mood, formatCount, formatSize, moodOf, nameMood, number } from "../rules/words";
import { asServiceError, isAbort } from "../service/errors";
import type { IService } from "../service/port";
import type { LogName } from "../store/log";
import { StateMark } from "./StateMark";
import { type Column, VirtualTable } from "./VirtualTable";
import { useNow, useTranslator } from "./context";

/** Inputs of a container that are named; the others are counted. */
const MAX_INPUTS = 50;
/** Containers whose inputs are asked for at once. */
const PAGE = 250;

interface Props {
  service: IService;
  /** Of the job, whose files are asked for; null where they are for another user. */
  path: string | null;
  containers: readonly Container[];
  /** Those that each container asked for. */
  cpus: number;
  /** The time by the service's clock. */
  now: () => number;
  isLive: boolean;
  chosen: number | null;
  choose: (container: number) => void;
  showLog: (container: number, name: LogName) => void;
}

/** The containers of a job, those that failed first, with the inputs of the one that is chosen. */
export function ContainerTable({
  service,
  path,
  containers,
  cpus,
  now: clock,
  isLive,
  chosen,
  choose,
  showLog,
}: Props): ReactNode {
  const tr = useTranslator();
  const now = useNow(clock, isLive);
  const [mood, setMood] = useState<Mood | null>(null);
  const counts = useMemo(() => {
    const all = new Map<Mood, number>();
    for (const { state } of containers) all.set(moodOf(state), (all.get(moodOf(state)) ?? 0) + 1);
    return all;
  }, [containers]);
  const inputs = useInputs(service, path);
  const [typed, type] = useState("");
  const wanted = useDeferredValue(typed.trim());
  /** The input that is wanted, of each container that has it. */
  const found = useMemo(() => (wanted ? findInputs(inputs.names, wanted) : null), [inputs.names, wanted]);
  const rows = useMemo(
    () =>
      sortContainers(containers).filter(
        ({ state, number: each }) =>
          (mood === null || moodOf(state) === mood) && (found === null || found.has(each)),
      ),
    [containers, mood, found],
  );
  const columns: Column<Container>[] = [
    {
      title: tr.__("No."),
      className: "cts-c-number",
      cell: (container) => (
        <button
          type="button"
          aria-pressed={container.number === chosen}
          aria-label={tr.__("Container %1", container.number)}
          onClick={() => {
            choose(container.number);
          }}
        >
          {container.number}
        </button>
      ),
    },
    {
      title: tr.__("State"),
      className: "cts-c-state",
      cell: ({ state, error }) => (
        <>
          <StateMark state={state} />
          {error !== undefined && <div className="cts-faint">{error}</div>}
        </>
      ),
    },
    { title: tr.__("Exit code"), className: "cts-c-code", cell: ({ exit_code: code }) => code },
    {
      title: tr.__("Took"),
      className: "cts-c-took",
      cell: (container) => formatSeconds(secondsOf(container, now)),
    },
    {
      title: tr.__("Memory"),
      className: "cts-c-memory",
      cell: ({ max_anonymous_memory: needed, max_memory: total }) => {
        const bytes = needed ?? total;
        return bytes === undefined ? "" : formatSize(bytes);
      },
    },
    {
      title: tr.__("Cpu"),
      className: "cts-c-cpu",
      cell: ({ cpu_seconds: busy, wall_seconds: wall }) =>
        busy === undefined || !wall ? "" : tr.__("%1%%", Math.round((100 * busy) / (wall * cpus))),
    },
  ];
  if (path !== null) {
    columns.push({
      title: tr.__("Inputs"),
      className: "cts-c-inputs",
      cell: ({ number: each }) => {
        const names = inputs.names.get(each) ?? [];
        const name = found?.get(each) ?? names[0];
        if (name === undefined) return "";
        const shown = nameOf(name);
        return (
          <span title={name}>
            {names.length > 1 ? tr.__("%1 and %2 more", shown, number(names.length - 1)) : shown}
          </span>
        );
      },
    });
  }
  return (
    <>
      <div className="cts-controls">
        <select
          aria-label={tr.__("Containers that are shown")}
          value={mood ?? ""}
          onChange={(event) => {
            setMood(MOODS.find((each) => each === event.currentTarget.value) ?? null);
          }}
        >
          <option value="">{tr.__("All (%1)", number(containers.length))}</option>
          {MOODS.filter((each) => (counts.get(each) ?? 0) > 0 || each === mood).map((each) => (
            <option key={each} value={each}>
              {tr.__("%1 (%2)", nameMood(each, tr), number(counts.get(each) ?? 0))}
            </option>
          ))}
        </select>
        {inputs.names.size > 0 && (
          <>
            <input
              type="search"
              className="cts-find"
              aria-label={tr.__("Find by an input")}
              placeholder={tr.__("Find by an input")}
              value={typed}
              onChange={(event) => {
                type(event.currentTarget.value);
              }}
            />
            <span role="status" className="cts-faint">
              {found && formatFound(rows.length, inputs.isWhole, tr)}
            </span>
          </>
        )}
        {inputs.message && <span role="alert">{tr.__("Inputs: %1", inputs.message)}</span>}
      </div>
      <VirtualTable
        label={tr.__("Containers")}
        rows={rows}
        columns={columns}
        keyOf={({ number: key }) => key}
        isChosen={({ number: key }) => key === chosen}
      />
      {chosen !== null && (
        <ContainerDetail key={chosen} service={service} path={path} container={chosen} showLog={showLog} />
      )}
    </>
  );
}

interface Inputs {
  /** The inputs of each container whose inputs are known, by its number. */
  names: ReadonlyMap<number, readonly string[]>;
  isWhole: boolean;
  /** Why they are not known; empty if they are, or will be. */
  message: string;
}

const NO_INPUTS: Inputs = { names: new Map(), isWhole: false, message: "" };

/** What the containers work on, asked for page by page. */
function useInputs(service: IService, path: string | null): Inputs {
  const [inputs, setInputs] = useState(NO_INPUTS);
  useEffect(() => {
    if (path === null) return undefined;
    const request = new AbortController();
    const load = async (): Promise<void> => {
      let names: Inputs["names"] = new Map();
      let after: number | undefined;
      do {
        const query = { limit: PAGE, ...(after !== undefined && { after }) };
        const page = await service.get<Containers>(`${path}/containers`, query, request.signal);
        if (request.signal.aborted) return;
        const more = page.containers.map(
          ({ number: each, inputs: files = [] }) => [each, files.map(({ file }) => file)] as const,
        );
        names = new Map([...names, ...more.filter(([, files]) => files.length)]);
        after = page.next;
        setInputs({ names, isWhole: after === undefined, message: "" });
      } while (after !== undefined);
    };
    load().catch((error: unknown) => {
      if (isAbort(error)) return;
      const { message } = asServiceError(error);
      setInputs((before) => ({ ...before, message }));
    });
    return () => {
      request.abort();
    };
  }, [service, path]);
  return inputs;
}

/** The first input of each container that a text is part of, whatever the cases. */
function findInputs(names: Inputs["names"], wanted: string): Map<number, string> {
  const text = wanted.toLowerCase();
  return new Map(
    [...names].flatMap(([each, files]) => {
      const file = files.find((one) => one.toLowerCase().includes(text));
      return file === undefined ? [] : [[each, file] as const];
    }),
  );
}

function formatFound(count: number, isOfAll: boolean, tr: Translator): string {
  const containers = formatCount(count, "container", tr);
  return isOfAll ? containers : tr.__("%1 so far", containers);
}

interface DetailProps extends Pick<Props, "service" | "path" | "showLog"> {
  container: number;
}

/** What one container works on, asked for when it is chosen. */
function ContainerDetail({ service, path, container, showLog }: DetailProps): ReactNode {
  const tr = useTranslator();
  const [found, setFound] = useState<Container | string | null>(null);
  useEffect(() => {
    if (path === null) return undefined;
    const request = new AbortController();
    // The page of one container; an older service answers all of them.
    const query = { limit: 1, ...(container > 0 && { after: container - 1 }) };
    service.get<Containers>(`${path}/containers`, query, request.signal).then(
      ({ containers }) => {
        const one = containers.find(({ number: each }) => each === container);
        setFound(one ?? tr.__("The service does not know this container. Its log may still tell of it."));
      },
      (error: unknown) => {
        if (!isAbort(error)) setFound(asServiceError(error).message);
      },
    );
    return () => {
      request.abort();
    };
  }, [service, path, container, tr]);
  const inputs = typeof found === "object" ? (found?.inputs ?? []) : [];
  const outputs = typeof found === "object" ? (found?.outputs ?? []) : [];
  return (
    <div className="cts-detail" role="group" aria-label={tr.__("Container %1", container)}>
      <div className="cts-controls">
        <strong>{tr.__("Container %1", container)}</strong>
        {(["stdout", "stderr"] as const).map((name) => (
          <button
            key={name}
            type="button"
            onClick={() => {
              showLog(container, name);
            }}
          >
            {tr.__("Show %1", name)}
          </button>
        ))}
      </div>
      {found === null && path !== null && <p className="cts-faint">{tr.__("Loading …")}</p>}
      {typeof found === "string" && <p role="alert">{found}</p>}
      {typeof found === "object" && found?.warnings?.map((warning) => <p key={warning}>{warning}</p>)}
      <FileList title={tr._n("%2 input", "%2 inputs", inputs.length, number(inputs.length))} files={inputs} />
      <FileList
        title={tr._n("%2 output", "%2 outputs", outputs.length, number(outputs.length))}
        files={outputs}
      />
    </div>
  );
}

function FileList({ title, files }: { title: string; files: readonly { file: string }[] }): ReactNode {
  const tr = useTranslator();
  if (!files.length) return null;
  const hidden = files.length - MAX_INPUTS;
  return (
    <>
      <p className="cts-faint">{title}</p>
      <ul>
        {files.slice(0, MAX_INPUTS).map(({ file }) => (
          <li key={file}>{file}</li>
        ))}
        {hidden > 0 && <li>{tr.__("and %1 more", number(hidden))}</li>}
      </ul>
    </>
  );
}
