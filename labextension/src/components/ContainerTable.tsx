import { type ReactNode, useEffect, useMemo, useState } from "react";

import type { Container, Containers } from "../api/types";
import { formatSeconds, secondsOf, sortContainers } from "../rules/strip";
import { MOODS, type Mood, formatSize, moodOf, nameMood, number } from "../rules/words";
import { asServiceError, isAbort } from "../service/errors";
import type { IService } from "../service/port";
import type { LogName } from "../store/log";
import { StateMark } from "./StateMark";
import { type Column, VirtualTable } from "./VirtualTable";
import { useNow, useTranslator } from "./context";

/** Inputs of a container that are named; the others are counted. */
const MAX_INPUTS = 50;

interface Props {
  service: IService;
  /** Of the job, whose files are asked for; null where they are for another user. */
  path: string | null;
  containers: readonly Container[];
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
  const rows = useMemo(
    () => sortContainers(containers).filter(({ state }) => mood === null || moodOf(state) === mood),
    [containers, mood],
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
  ];
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
