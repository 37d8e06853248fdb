import { type ReactNode, useState } from "react";

import { MAX_FILES } from "../../rules/problems";
import type { Translator } from "../../rules/translator";
import { formatCount, formatSize, number, sentence } from "../../rules/words";
import { asServiceError } from "../../service/errors";
import type { Task } from "../../store/checksums";
import type { Chosen, Selection, SelectionView } from "../../store/selection";
import { useTranslator, useView } from "../context";
import { ChecksumMark } from "./ChecksumMark";
import { Rows } from "./Rows";
import type { FilesModel } from "./model";

const keyOf = ({ path }: Chosen): string => path;

/** The chosen files: how many, what is wrong with them, and which. */
export function ChosenList({ files }: { files: FilesModel }): ReactNode {
  const { selection } = files;
  const tr = useTranslator();
  const view = useView(selection);
  return (
    <section className="cts-chosen" aria-label={tr.__("Chosen files")}>
      <div className="cts-chosen-head">
        <strong aria-live="polite">{describe(view, tr)}</strong>
        {view.files.length > 0 && (
          <button
            type="button"
            onClick={() => {
              selection.clear();
            }}
          >
            {tr.__("Clear")}
          </button>
        )}
      </div>
      {view.from && <p className="cts-faint">{tr.__("from %1", view.from)}</p>}
      <Troubles files={files} />
      <ChecksumsLine files={files} />
      {view.files.length > 0 ? (
        <Rows
          role="list"
          label={tr.__("Chosen files")}
          items={view.files}
          keyOf={keyOf}
          onKey={(key, { path }) => {
            if (key !== "Delete" && key !== "Backspace") return null;
            selection.remove([path]);
            return "stay";
          }}
          row={(file, tabIndex) => <ChosenRow file={file} tabIndex={tabIndex} files={files} />}
        />
      ) : (
        <p className="cts-rows cts-empty">{tr.__("No file is chosen yet.")}</p>
      )}
    </section>
  );
}

function describe({ files, bytes, unknown }: SelectionView, tr: Translator): string {
  const count = tr._n("%2 file chosen", "%2 files chosen", files.length, number(files.length));
  return files.length && !unknown ? `${count} · ${formatSize(bytes)}` : count;
}

/** What keeps the chosen files from being a job's inputs, with what mends it. */
function Troubles({ files: { selection, browser } }: { files: FilesModel }): ReactNode {
  const tr = useTranslator();
  const { files, unknown, changed, gone, isFull, all } = useView(selection);
  const [state, setState] = useState<"" | "looking" | { error: string }>("");
  const look = async (): Promise<void> => {
    setState("looking");
    try {
      await browser.look();
      setState("");
    } catch (error) {
      setState({ error: asServiceError(error).message });
    }
  };
  return (
    <>
      {files.length > MAX_FILES && (
        <p className="cts-warnings" role="alert">
          {tr.__(
            "A job takes at most %1 files. Make %2 jobs?",
            number(MAX_FILES),
            number(Math.ceil(Math.max(files.length, all ?? 0) / MAX_FILES)),
          )}
          {isFull &&
            ` ${
              all === null
                ? tr.__("Not all that match are chosen.")
                : tr.__("%1 of the %2 that match are chosen.", number(files.length), number(all))
            }`}
        </p>
      )}
      {changed.length > 0 && (
        <p className="cts-warnings" role="alert">
          {tr._n(
            "%2 changed since it was chosen: %3",
            "%2 changed since they were chosen: %3",
            changed.length,
            number(changed.length),
            nameSome(changed),
          )}{" "}
          <button
            type="button"
            onClick={() => {
              selection.accept();
            }}
          >
            {tr.__("Take as now")}
          </button>
          <Remove files={changed} selection={selection} />
        </p>
      )}
      {gone.length > 0 && (
        <p className="cts-warnings" role="alert">
          {tr._n(
            "%2 is not there: %3",
            "%2 are not there: %3",
            gone.length,
            number(gone.length),
            nameSome(gone),
          )}{" "}
          <Remove files={gone} selection={selection} />
        </p>
      )}
      {files.length > 0 && (
        <p>
          <button type="button" disabled={state === "looking"} onClick={() => void look()}>
            {unknown > 0 ? tr.__("Look at them") : tr.__("Look again")}
          </button>{" "}
          <span className="cts-faint" role="status">
            {typeof state === "object"
              ? sentence(state.error)
              : state === "looking"
                ? tr.__("Looking …")
                : ""}
          </span>
        </p>
      )}
    </>
  );
}

function Remove({ files, selection }: { files: readonly Chosen[]; selection: Selection }): ReactNode {
  const tr = useTranslator();
  return (
    <button
      type="button"
      onClick={() => {
        selection.remove(files.map(({ path }) => path));
      }}
    >
      {tr.__("Remove")}
    </button>
  );
}

const NAMED = 3;

function nameSome(files: readonly Chosen[]): string {
  const names = files.slice(0, NAMED).map(({ path }) => path);
  return names.join(", ") + (files.length > NAMED ? ", …" : "");
}

/** Missing checksums, and how far those are that are computed. */
function ChecksumsLine({ files: { selection, checksums } }: { files: FilesModel }): ReactNode {
  const tr = useTranslator();
  const { missing: all } = useView(selection);
  const { isOffered, isAsking, running, failed, error, marks } = useView(checksums);
  // Those that are neither there nor on the way.
  const missing = all.filter(({ path }) => marks.get(path) !== "waiting");
  const bytes = missing.reduce((sum, { size = 0 }) => sum + size, 0);
  return (
    <>
      {missing.length > 0 && (
        <p className="cts-warnings">
          {tr._n(
            "%2 without a checksum.",
            "%2 without a checksum.",
            missing.length,
            formatCount(missing.length, "file", tr),
          )}{" "}
          {isOffered === true && (
            <button
              type="button"
              disabled={isAsking || missing.length > MAX_FILES}
              onClick={() => void checksums.compute(missing)}
            >
              {tr._n("Compute it (%2)", "Compute them (%2)", missing.length, formatSize(bytes))}
            </button>
          )}
          {isOffered === false && tr.__("This service does not compute checksums in the background.")}
        </p>
      )}
      {running.map((task) => (
        <p key={task.id} className="cts-computing" role="status">
          {describeTask(task, (path) => selection.get(path)?.size, tr)}{" "}
          <button type="button" onClick={() => void checksums.cancel(task.id)}>
            {tr.__("Stop")}
          </button>
        </p>
      ))}
      {failed.slice(0, NAMED).map(({ file, error: why }) => (
        <p key={file} className="cts-warnings" role="alert">
          {sentence(why ?? tr.__("The checksum of %1 could not be computed", file))}
        </p>
      ))}
      {error && (
        <p className="cts-warnings" role="alert">
          {sentence(error.message)}
        </p>
      )}
    </>
  );
}

function describeTask({ files }: Task, sizeOf: (path: string) => number | undefined, tr: Translator): string {
  const ended = files.filter(({ state }) => state !== "waiting");
  const sum = (some: Task["files"]): number =>
    some.reduce((total, { file }) => total + (sizeOf(file) ?? 0), 0);
  const total = sum(files);
  const count = tr._n(
    "Computing %2 checksum: %3 done",
    "Computing %2 checksums: %3 done",
    files.length,
    number(files.length),
    number(ended.length),
  );
  const size = total ? `, ${tr.__("%1 of %2", formatSize(sum(ended)), formatSize(total))}` : "";
  return `${count}${size}. ${tr.__("It goes on if you close this.")}`;
}

interface RowProps {
  file: Chosen;
  tabIndex: 0 | -1;
  files: FilesModel;
}

function ChosenRow({ file, tabIndex, files: { selection, checksums } }: RowProps): ReactNode {
  const tr = useTranslator();
  const { marks } = useView(checksums);
  return (
    <div className="cts-file" role="listitem" title={file.path}>
      <span className="cts-name">{file.path}</span>
      {file.now && <span className="cts-changed">{tr.__("changed since")}</span>}
      {file.isGone === true && <span className="cts-changed">{tr.__("not there")}</span>}
      <span className="cts-size">{file.size === undefined ? "" : formatSize(file.size)}</span>
      <ChecksumMark checksum={file.checksum} computed={marks.get(file.path)} />
      <button
        type="button"
        className="cts-plain"
        tabIndex={tabIndex}
        aria-label={tr.__("Remove %1", file.path)}
        onClick={() => {
          selection.remove([file.path]);
        }}
      >
        ×
      </button>
    </div>
  );
}
