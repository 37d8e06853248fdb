import { type KeyboardEvent, type MouseEvent, type ReactNode, useCallback, useRef } from "react";

import { nameOf, parentOf } from "../../rules/paths";
import { previewOf } from "../../rules/preview";
import { formatSize, number, sentence } from "../../rules/words";
import type { Row } from "../../store/files";
import { useTranslator, useView } from "../context";
import { ChecksumMark } from "./ChecksumMark";
import { Rows } from "./Rows";
import type { FilesModel } from "./model";

interface Props {
  files: FilesModel;
  /** Puts the focus where a pattern is typed. */
  search: () => void;
  toFolder: (folder: string) => void;
  /** Shows the beginning of a file; of none for null. */
  look: (path: string | null) => void;
}

const keyOf = ({ key }: Row): string => key;

/** Folders and files, chosen by click, by key and by range, and opened by Enter. */
export function FileTree({ files, search, toFolder, look }: Props): ReactNode {
  const { browser, selection } = files;
  const tr = useTranslator();
  const { rows, folder, scanned, isLoading } = useView(browser);
  // Where a range begins, and what it has chosen so far.
  const anchor = useRef<string | null>(null);
  const range = useRef<string[]>([]);

  const extend = (to: string): void => {
    const from = rows.findIndex(({ key }) => key === (anchor.current ?? to));
    const until = rows.findIndex(({ key }) => key === to);
    const between = rows
      .slice(Math.min(from, until), Math.max(from, until) + 1)
      .flatMap((row) => (row.kind === "file" ? [row.file] : []));
    const paths = new Set(between.map(({ path }) => path));
    selection.remove(range.current.filter((path) => !paths.has(path)));
    const isNew = between.filter(({ path }) => !selection.has(path));
    selection.add(isNew);
    range.current = [...range.current.filter((path) => paths.has(path)), ...isNew.map(({ path }) => path)];
  };
  const toggle = (row: Row): void => {
    anchor.current = row.key;
    range.current = [];
    if (row.kind === "file") {
      if (selection.has(row.path)) selection.remove([row.path]);
      else selection.add([row.file]);
    } else if (row.kind === "folder") {
      if (selection.countBelow(row.path)) selection.removeBelow(row.path);
      else void browser.chooseAll(row.path);
    } else void browser.more(row.folder);
  };
  const enter = (row: Row): void => {
    if (row.kind === "folder") toFolder(row.path);
    else if (row.kind === "file") look(row.path);
    else toggle(row);
  };
  const onKey = (key: string, row: Row, event: KeyboardEvent): "stay" | number | { to: string } | null => {
    switch (key) {
      case " ":
        toggle(row);
        return "stay";
      case "Enter":
        enter(row);
        return "stay";
      case "Escape":
        look(null);
        return "stay";
      case "*":
        void browser.chooseAll();
        return "stay";
      case "/":
        search();
        return "stay";
      case "ArrowRight":
        if (row.kind !== "folder") return "stay";
        if (row.isOpen) return 1;
        if (folder) browser.toggle(row);
        return "stay";
      case "ArrowLeft": {
        if (row.kind === "folder" && row.isOpen) {
          browser.toggle(row);
          return "stay";
        }
        const parent = row.kind === "rest" ? row.folder : parentOf(row.path);
        return row.level > 1 ? { to: parent } : "stay";
      }
      case "ArrowDown":
      case "ArrowUp":
        if (event.shiftKey) anchor.current ??= row.key;
        else anchor.current = null;
        if (!event.shiftKey) range.current = [];
        return null;
      default:
        return null;
    }
  };
  const onClick = (row: Row, event: MouseEvent): void => {
    if (event.shiftKey && row.kind === "file" && anchor.current !== null) {
      extend(row.key);
      return;
    }
    const part = (event.target as HTMLElement).dataset["part"];
    if (row.kind === "folder" && part === "twisty" && folder) browser.toggle(row);
    else if (row.kind === "folder" && part !== "choose") toFolder(row.path);
    else if (row.kind === "file" && part === "look") look(row.path);
    else toggle(row);
  };
  const onReach = useCallback(
    (last: Row) => {
      if (last.kind === "rest" && last.state === "more" && !last.error) void browser.more(last.folder);
    },
    [browser],
  );

  return (
    <Rows
      role="tree"
      label={folder ? tr.__("Files in %1", folder) : tr.__("Where to look")}
      items={rows}
      keyOf={keyOf}
      isBusy={isLoading}
      onKey={onKey}
      onMove={(row, event) => {
        if (event.shiftKey) extend(row.key);
      }}
      onReach={onReach}
      row={(row, tabIndex) => (
        <TreeRow
          row={row}
          tabIndex={tabIndex}
          files={files}
          base={scanned === null ? "" : folder}
          onClick={onClick}
        />
      )}
    />
  );
}

interface RowProps {
  row: Row;
  tabIndex: 0 | -1;
  files: FilesModel;
  /** The folder below which found files are named; empty where they are named by their last part. */
  base: string;
  onClick: (row: Row, event: MouseEvent) => void;
}

function TreeRow({ row, tabIndex, files, base, onClick }: RowProps): ReactNode {
  const { selection, checksums } = files;
  const tr = useTranslator();
  useView(selection);
  const { marks } = useView(checksums);
  const isChosen = row.kind === "file" && selection.has(row.path);
  const isChanged = row.kind === "file" && selection.get(row.path)?.now !== undefined;
  const count = row.kind === "folder" ? selection.countBelow(row.path) : 0;
  return (
    // The tree hears the keys of all its rows.
    // eslint-disable-next-line jsx-a11y/click-events-have-key-events
    <div
      className="cts-file"
      role="treeitem"
      tabIndex={tabIndex}
      aria-level={row.level}
      aria-posinset={row.place}
      aria-setsize={row.siblings.size}
      aria-selected={isChosen || count > 0}
      aria-expanded={row.kind === "folder" ? row.isOpen : undefined}
      title={row.kind === "rest" ? undefined : row.path}
      data-kind={row.kind}
      style={{ paddingInlineStart: `${row.level - 0.5}em` }}
      onClick={(event) => {
        onClick(row, event);
      }}
    >
      {row.kind === "folder" && (
        <>
          <span
            className="cts-box"
            data-part="choose"
            data-some={count > 0}
            title={tr.__("Choose all in it")}
          />
          <span className="cts-twisty" data-part="twisty" />
          <span className="cts-name">{nameOf(row.path)}</span>
          {count > 0 && <span className="cts-faint">{tr.__("%1 chosen", number(count))}</span>}
        </>
      )}
      {row.kind === "file" && (
        <>
          <span className="cts-box" data-some={isChosen} />
          <span className="cts-name">{base ? row.path.slice(base.length) : nameOf(row.path)}</span>
          {previewOf(row.path) && (
            <span className="cts-look" data-part="look" title={tr.__("Look at it (Enter)")}>
              {tr.__("Look")}
            </span>
          )}
          {isChanged && <span className="cts-changed">{tr.__("changed since")}</span>}
          <span className="cts-size">{formatSize(row.file.size)}</span>
          <ChecksumMark checksum={row.file.checksum} computed={marks.get(row.path)} />
        </>
      )}
      {row.kind === "rest" && <span className="cts-faint">{describeRest(row, tr)}</span>}
    </div>
  );
}

function describeRest(
  { state, error }: Row & { kind: "rest" },
  tr: ReturnType<typeof useTranslator>,
): string {
  if (error) return tr.__("%1 Click to try again.", sentence(error.message));
  switch (state) {
    case "loading":
      return tr.__("Loading …");
    case "more":
    case "stopped":
      return tr.__("More …");
    case "full":
      return tr.__("There are more files than can be listed here: find them by a pattern.");
    case "empty":
      return tr.__("Empty");
  }
}
