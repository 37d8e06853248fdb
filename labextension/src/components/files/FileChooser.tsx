import { type ReactNode, useCallback, useEffect, useId, useRef, useState } from "react";

import { nameOf, trailOf } from "../../rules/paths";
import { previewOf } from "../../rules/preview";
import type { Translator } from "../../rules/translator";
import { formatCount, formatSize, number, sentence } from "../../rules/words";
import type { BrowserView, FileBrowser } from "../../store/files";
import { Preview } from "../Preview";
import { useTranslator, useView } from "../context";
import { ChosenList } from "./ChosenList";
import { FileTree } from "./FileTree";
import type { FilesModel } from "./model";

/** The files of the object store, and those of them that are chosen. */
export function FileChooser({ files }: { files: FilesModel }): ReactNode {
  return (
    <div className="cts-chooser">
      <Browser files={files} />
      <ChosenList files={files} />
    </div>
  );
}

function Browser({ files }: { files: FilesModel }): ReactNode {
  const { browser, service } = files;
  const tr = useTranslator();
  const view = useView(browser);
  const [shown, look] = useState<string | null>(null);
  const kind = shown === null ? null : previewOf(shown);
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    void browser.start();
    return () => {
      browser.stop();
    };
  }, [browser]);
  const search = useCallback(() => box.current?.focus(), []);
  const toFolder = useCallback(
    (folder: string) => {
      browser.open(folder);
    },
    [browser],
  );
  return (
    <section className="cts-browser" aria-label={tr.__("Browse")}>
      <Place view={view} toFolder={toFolder} />
      {view.folder !== "" && <Filter browser={browser} view={view} box={box} />}
      {view.error && (
        <p className="cts-note" role="alert">
          {explain(view.error.message, view, tr)}{" "}
          <button
            type="button"
            onClick={() => {
              browser.reload();
            }}
          >
            {tr.__("Try again")}
          </button>
        </p>
      )}
      {view.rows.length > 0 ? (
        <FileTree files={files} search={search} toFolder={toFolder} look={look} />
      ) : (
        <p className="cts-rows cts-empty" role="status">
          {view.error ? "" : explainEmpty(view, tr)}
        </p>
      )}
      {view.folder !== "" && <Foot browser={browser} view={view} />}
      {shown !== null && kind && (
        <Preview
          key={shown}
          service={service}
          path={shown}
          kind={kind}
          close={() => {
            look(null);
          }}
        />
      )}
    </section>
  );
}

interface PlaceProps {
  view: BrowserView;
  toFolder: (folder: string) => void;
}

/** Where one is, as a way back up; or where to begin. */
function Place({ view: { folder, roots, offers }, toFolder }: PlaceProps): ReactNode {
  const tr = useTranslator();
  const id = useId();
  if (!offers.roots && !folder) {
    // An older service does not tell where to look.
    const go = (input: HTMLInputElement | null): void => {
      const path = input?.value.trim().replace(/^\/+/, "").replace(/\/*$/, "/") ?? "";
      if (path !== "/") toFolder(path);
    };
    return (
      <p className="cts-trail">
        <label htmlFor={id}>{tr.__("Folder to look into")}</label>
        <input
          id={id}
          placeholder="bucket/folder/"
          onKeyDown={(event) => {
            if (event.key !== "Enter") return;
            event.preventDefault();
            go(event.currentTarget);
          }}
          onBlur={(event) => {
            go(event.currentTarget);
          }}
        />
      </p>
    );
  }
  const trail = trailOf(folder, roots ?? []);
  const parts = trail.length ? trail : folder ? [folder] : [];
  const canLeave = folder !== "" && (!offers.roots || (roots ?? []).length > 1);
  return (
    <nav className="cts-trail" aria-label={tr.__("Folder")}>
      {canLeave && (
        <button
          type="button"
          onClick={() => {
            toFolder("");
          }}
        >
          {tr.__("All")}
        </button>
      )}
      {!folder && <span className="cts-faint">{tr.__("Where to look")}</span>}
      {parts.map((path, index) => (
        <button
          key={path}
          type="button"
          aria-current={path === folder ? "location" : undefined}
          onClick={() => {
            toFolder(path);
          }}
        >
          {index === 0 ? path : nameOf(path)}
        </button>
      ))}
    </nav>
  );
}

interface FilterProps {
  browser: FileBrowser;
  view: BrowserView;
  box: React.RefObject<HTMLInputElement>;
}

function Filter({ browser, view: { filter, offers }, box }: FilterProps): ReactNode {
  const tr = useTranslator();
  if (!offers.search) {
    return (
      <p className="cts-faint">
        {tr.__("This service does not search its files: open a folder, and choose in it.")}
      </p>
    );
  }
  return (
    <div className="cts-glob" role="search">
      <input
        ref={box}
        type="search"
        spellCheck={false}
        placeholder={tr.__("Pattern, such as *.fna.gz or **/*.faa")}
        aria-label={tr.__("Pattern")}
        value={filter.match}
        onChange={(event) => {
          browser.setFilter({ match: event.currentTarget.value });
        }}
        onKeyDown={(event) => {
          // In a form, it would submit.
          if (event.key === "Enter") event.preventDefault();
        }}
      />
      <label>
        <input
          type="checkbox"
          checked={filter.isMissing}
          onChange={(event) => {
            browser.setFilter({ isMissing: event.currentTarget.checked });
          }}
        />{" "}
        {tr.__("only without checksum")}
      </label>
    </div>
  );
}

interface FootProps {
  browser: FileBrowser;
  view: BrowserView;
}

/** How much there is, and how to choose it all. */
function Foot({ browser, view }: FootProps): ReactNode {
  const tr = useTranslator();
  const { scanned, isWhole, totals, offers, choosing } = view;
  const rest = view.rows.at(-1);
  const isReading = rest?.kind === "rest" && rest.state === "loading";
  const isSearch = scanned !== null;
  return (
    <div className="cts-foot">
      <button
        type="button"
        disabled={choosing !== null || view.isLoading}
        onClick={() => void browser.chooseAll()}
      >
        {isSearch ? tr.__("Choose all that match") : tr.__("Choose all in this folder")}
      </button>
      {(choosing !== null || (isSearch && isReading)) && (
        <>
          <span role="status">
            {choosing !== null
              ? tr.__("Choosing: %1 …", number(choosing))
              : tr.__("%1 looked at …", number(scanned ?? 0))}
          </span>
          <button
            type="button"
            onClick={() => {
              browser.stop();
            }}
          >
            {tr.__("Stop")}
          </button>
        </>
      )}
      {isSearch && !isReading && (
        <span className="cts-faint">
          {isWhole
            ? tr.__("%1 looked at: all there are", number(scanned))
            : tr.__("%1 looked at, and there are more", number(scanned))}
        </span>
      )}
      {totals && <span className="cts-faint">{describeTotals(totals, tr)}</span>}
      {offers.summary && !view.isLoading && !totals?.complete && (
        <button type="button" onClick={() => void browser.sum()}>
          {totals ? tr.__("Count on") : tr.__("Count all")}
        </button>
      )}
    </div>
  );
}

function describeTotals(
  { objects, bytes, missing, complete }: NonNullable<BrowserView["totals"]>,
  tr: Translator,
) {
  const files = formatCount(objects, "file", tr);
  const words = tr.__("%1, %2, %3 without a checksum", files, formatSize(bytes), number(missing));
  return complete ? words : tr.__("at least %1", words);
}

function explainEmpty({ isLoading, filter, folder, roots }: BrowserView, tr: Translator): string {
  if (isLoading) return tr.__("Loading …");
  if (!folder) return roots?.length === 0 ? tr.__("There is no folder that you may look into.") : "";
  if (filter.match.trim()) return tr.__("Nothing here that matches %1.", filter.match.trim());
  if (filter.isMissing) return tr.__("Every file here has a checksum.");
  return tr.__("This folder is empty.");
}

function explain(message: string, { roots }: BrowserView, tr: Translator): string {
  const places = (roots ?? []).join(", ");
  return places ? tr.__("%1 You may look into: %2", sentence(message), places) : sentence(message);
}
