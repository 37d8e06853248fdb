import {
  type KeyboardEvent,
  type ReactNode,
  useDeferredValue,
  useEffect,
  useId,
  useMemo,
  useRef,
  useState,
} from "react";

import { endOf, hasText, rowAt, rowPlace, type LogWindow } from "../rules/log";
import type { Translator } from "../rules/translator";
import { formatSize, number } from "../rules/words";
import type { IService } from "../service/port";
import { type Found, type LogName, LogReader, type LogState } from "../store/log";
import { LogLines } from "./LogLines";
import { useTranslator, useView } from "./context";

export interface LogTarget {
  container: number;
  name: LogName;
}

interface Props {
  service: IService;
  /** Of the job, or of another user's as admins ask for it. */
  path: string;
  containers: number;
  target: LogTarget;
  setTarget: (target: LogTarget) => void;
  /** The next container that failed after this one, round about; null if none did. */
  nextFailed: (container: number) => number | null;
  /** Whether the job may still write. */
  isLive: boolean;
}

/** The logs of a job's containers, one at a time, of any size. */
export function LogView({
  service,
  path: ofJob,
  containers,
  target,
  setTarget,
  nextFailed,
  isLive,
}: Props): ReactNode {
  const tr = useTranslator();
  const inputId = useId();
  const { container, name } = target;
  const path = `${ofJob}/log/${container}/${name}`;
  const url = service.url(path);
  const failed = nextFailed(container);
  const goToFailed = (): void => {
    if (failed !== null) setTarget({ container: failed, name });
  };
  const other = name === "stdout" ? "stderr" : "stdout";
  const names = useRef<HTMLSelectElement>(null);
  // A key of a log leads to another one, which has the focus once it is there.
  const isAwaited = useRef(false);
  const goOn = (next: LogTarget): void => {
    isAwaited.current = next.container !== container || next.name !== name;
    setTarget(next);
  };
  const arrive = (log: HTMLElement | null): void => {
    if (isAwaited.current) (log ?? names.current)?.focus();
    isAwaited.current = false;
  };
  return (
    <>
      <div className="cts-controls">
        {containers > 1 && (
          <span>
            <label htmlFor={inputId}>{tr.__("Container")}</label>{" "}
            <input
              id={inputId}
              type="number"
              min={0}
              max={containers - 1}
              value={container}
              onChange={(event) => {
                const wanted = Math.trunc(event.currentTarget.valueAsNumber) || 0;
                setTarget({ container: Math.min(Math.max(wanted, 0), containers - 1), name });
              }}
            />{" "}
            <span className="cts-faint">{tr.__("0 to %1", number(containers - 1))}</span>
          </span>
        )}
        <select
          ref={names}
          aria-label={tr.__("Log of the container")}
          value={name}
          onChange={(event) => {
            setTarget({ container, name: event.currentTarget.value as LogName });
          }}
        >
          <option value="stdout">stdout</option>
          <option value="stderr">stderr</option>
        </select>
        {failed !== null && failed !== container && (
          <button type="button" onClick={goToFailed}>
            {tr.__("Next failed: %1", failed)}
          </button>
        )}
        {url !== null && (
          <a href={url} download={`container-${container}-${name}.txt`}>
            {tr.__("Download")}
          </a>
        )}
      </div>
      <OneLog
        key={path}
        service={service}
        path={path}
        isLive={isLive}
        keys={{
          n: () => {
            if (failed !== null) goOn({ container: failed, name });
          },
          o: () => {
            goOn({ container, name: other });
          },
        }}
        arrive={arrive}
      />
    </>
  );
}

interface Searched {
  wanted: string;
  step: 1 | -1;
  found: Found;
}

interface OneProps {
  service: IService;
  path: string;
  isLive: boolean;
  /** What keys do beside those of the log itself. */
  keys: Record<string, () => void>;
  /** Told once it is known whether there is a log, which it is given. */
  arrive: (log: HTMLElement | null) => void;
}

function OneLog({ service, path, isLive, keys, arrive }: OneProps): ReactNode {
  const tr = useTranslator();
  const live = useRef(isLive);
  live.current = isLive;
  const [reader] = useState(() => new LogReader(service, path, () => live.current));
  const state = useView(reader);
  const { window, phase, hasEnded } = state;
  const [isWrapped, setWrapped] = useState(true);
  const [isFollowing, setFollowing] = useState(true);
  const [wanted, setWanted] = useState("");
  const needle = useDeferredValue(wanted);
  const found = useMemo(() => findRows(window, needle), [window, needle]);
  /** The place in the log of the line that was found last. */
  const [current, setCurrent] = useState<number | null>(null);
  /** What became of the latest search beyond what is loaded, and which way it went. */
  const [searched, setSearched] = useState<Searched | null>(null);
  const finder = useRef<HTMLInputElement>(null);
  const frame = useRef<HTMLDivElement>(null);

  const arrived = useRef(arrive);
  arrived.current = arrive;
  useEffect(() => {
    if (phase !== "loading" || state.message) arrived.current(frame.current);
  }, [phase, state.message]);

  const follow = (wants: boolean): void => {
    setFollowing(wants);
    reader.setAtEnd(wants);
  };
  const toStart = (): void => {
    follow(false);
    void reader.toStart().then(() => {
      if (frame.current) frame.current.scrollTop = 0;
    });
  };
  const toEnd = (): void => {
    void reader.toEnd();
    follow(true);
  };
  const look = (wants: string): void => {
    reader.stopSearch();
    setWanted(wants);
    setCurrent(null);
  };
  const canSearch = (step: 1 | -1): boolean => (step > 0 ? reader.hasLater : reader.hasEarlier);
  const search = async (step: 1 | -1): Promise<void> => {
    setSearched(null);
    const place = await reader.search(wanted, step);
    setSearched({ wanted, step, found: place });
    if (typeof place !== "number") return;
    follow(false);
    setCurrent(place);
  };
  const find = (step: 1 | -1): void => {
    const from = current === null ? (step > 0 ? -1 : window.rows.length) : rowAt(window, current);
    const next =
      step > 0
        ? (found.find((row) => row > from) ?? found[0])
        : (found.findLast((row) => row < from) ?? found.at(-1));
    if (next === undefined) return;
    follow(false);
    setCurrent(rowPlace(window, next));
  };
  const actions: Record<string, () => void> = {
    ...keys,
    "/": () => finder.current?.focus(),
    g: toStart,
    Home: toStart,
    G: toEnd,
    End: toEnd,
    w: () => {
      setWrapped(!isWrapped);
    },
  };
  const onFindKey = (event: KeyboardEvent): void => {
    if (event.key === "Enter") find(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") frame.current?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const place = current === null ? -1 : found.indexOf(rowAt(window, current));
  return (
    <>
      {phase === "shown" && (
        <div className="cts-controls">
          <input
            ref={finder}
            type="search"
            className="cts-find"
            aria-label={tr.__("Find in the log")}
            placeholder={tr.__("Find")}
            value={wanted}
            onChange={(event) => {
              look(event.currentTarget.value);
            }}
            onKeyDown={onFindKey}
          />
          {wanted && (
            <>
              <button
                type="button"
                disabled={!found.length}
                title={tr.__("Previous (Shift+Enter)")}
                onClick={() => {
                  find(-1);
                }}
              >
                ↑
              </button>
              <button
                type="button"
                disabled={!found.length}
                title={tr.__("Next (Enter)")}
                onClick={() => {
                  find(1);
                }}
              >
                ↓
              </button>
              {state.searched === null ? (
                <>
                  {canSearch(-1) && (
                    <button type="button" onClick={() => void search(-1)}>
                      {tr.__("Search earlier")}
                    </button>
                  )}
                  {canSearch(1) && (
                    <button type="button" onClick={() => void search(1)}>
                      {tr.__("Search on")}
                    </button>
                  )}
                </>
              ) : (
                <button
                  type="button"
                  onClick={() => {
                    reader.stopSearch();
                  }}
                >
                  {tr.__("Stop")}
                </button>
              )}
              <span role="status" className="cts-faint">
                {formatFound(place, found.length, isWhole(state), tr)}
                {searched?.wanted === wanted && ` ${formatSearched(searched, tr)}`}
              </span>
              {state.searched !== null && (
                <span className="cts-faint">{tr.__("Searched to %1", formatSize(state.searched))}</span>
              )}
            </>
          )}
          <Check label={tr.__("Wrap")} isOn={isWrapped} set={setWrapped} />
          {isLive && !hasEnded && (
            <Check
              label={tr.__("Follow")}
              isOn={isFollowing}
              set={(wants) => {
                if (wants) toEnd();
                else follow(false);
              }}
            />
          )}
        </div>
      )}
      <p className="cts-faint" role="status">
        {formatPlace(state, { isLive, canDownload: service.url(path) !== null }, tr)}
      </p>
      {phase === "shown" && (
        <LogLines
          frame={frame}
          reader={reader}
          state={state}
          isWrapped={isWrapped}
          isFollowing={isFollowing}
          follow={follow}
          wanted={needle}
          current={current}
          actions={actions}
        />
      )}
      {phase === "shown" && (reader.hasEarlier || (reader.hasLater && !isFollowing)) && (
        <div className="cts-controls">
          {reader.hasEarlier && (
            <button type="button" title="g" onClick={toStart}>
              {tr.__("To the beginning")}
            </button>
          )}
          {reader.hasLater && !isFollowing && (
            <button type="button" title="G" onClick={toEnd}>
              {tr.__("To the end")}
            </button>
          )}
        </div>
      )}
    </>
  );
}

function Check({
  label,
  isOn,
  set,
}: {
  label: string;
  isOn: boolean;
  set: (isOn: boolean) => void;
}): ReactNode {
  return (
    <label>
      <input
        type="checkbox"
        checked={isOn}
        onChange={(event) => {
          set(event.currentTarget.checked);
        }}
      />{" "}
      {label}
    </label>
  );
}

function findRows(window: LogWindow, wanted: string): number[] {
  if (!wanted) return [];
  return window.rows.flatMap((_, row) => (hasText(window, row, wanted) ? [row] : []));
}

/** Whether all of the log is loaded that there is. */
function isWhole({ window, size, isCut }: LogState): boolean {
  return size === null ? !isCut : window.bytes.length >= size;
}

/** What was found, and that there may be more where only a part of the log is loaded. */
function formatFound(place: number, count: number, isOfAll: boolean, tr: Translator): string {
  const lines = count ? tr._n("%2 line", "%2 lines", count, number(count)) : tr.__("No line");
  const found = place < 0 ? lines : tr.__("%1 of %2", number(place + 1), lines);
  return isOfAll ? found : tr.__("%1 in the part that is loaded", found);
}

/** What became of a search beyond the part that is loaded. */
function formatSearched({ step, found }: Searched, tr: Translator): string {
  if (found === "stopped") return tr.__("The search was stopped.");
  if (found !== "none") return "";
  return step > 0 ? tr.__("None after it.") : tr.__("None before it.");
}

/** Which part of the log is loaded, or why there is none. */
function formatPlace(
  state: LogState,
  { isLive, canDownload }: { isLive: boolean; canDownload: boolean },
  tr: Translator,
): string {
  const { window, size, phase, isCut, message } = state;
  if (message) return message;
  if (phase === "loading") return tr.__("Loading …");
  if (phase === "none") return isLive ? tr.__("Nothing was written yet") : tr.__("Nothing was written");
  if (isCut) {
    return canDownload
      ? tr.__("The end of a longer log; Download gives the whole")
      : tr.__("The end of a longer log");
  }
  if (size === null || isWhole(state)) return "";
  return tr.__("%1 to %2 of %3", formatSize(window.start), formatSize(endOf(window)), formatSize(size));
}
