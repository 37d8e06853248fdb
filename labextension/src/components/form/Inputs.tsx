import { type ReactNode, useEffect, useId, useState } from "react";

import { type Pasted, formatPaths, readPaths } from "../../rules/paste";
import { number } from "../../rules/words";
import type { EventStream } from "../../service/stream";
import { type DraftStore, isFrozen } from "../../store/draft";
import type { Selection } from "../../store/selection";
import { useDraft, useTranslator } from "../context";
import { FileChooser } from "../files/FileChooser";
import { makeFiles } from "../files/model";
import { usePlace } from "./fields";

interface InputsProps {
  store: DraftStore;
  /** Tells how far checksums are. */
  stream: EventStream;
}

/** The input files of a draft: chosen, or written as paths. */
export function Inputs({ store, stream }: InputsProps): ReactNode {
  const tr = useTranslator();
  const { draft, sent } = useDraft(store);
  const [isWriting, setWriting] = useState(false);
  const [files] = useState(() => makeFiles(store.service, stream));
  useEffect(() => follow(store, files.selection), [store, files]);
  useEffect(() => {
    let before = 0;
    return files.checksums.watch(() => {
      const { length } = files.checksums.view.running;
      if (length < before) store.checkNow();
      before = length;
    });
  }, [store, files]);
  const { control, faults } = usePlace(["input_files"]);
  const choice = (name: string, isWritten: boolean): ReactNode => (
    <button
      type="button"
      aria-pressed={isWritten === isWriting}
      onClick={() => {
        setWriting(isWritten);
      }}
    >
      {name}
    </button>
  );
  return (
    <>
      <div className="cts-adds">
        {choice(tr.__("Browse"), false)}
        {choice(tr.__("Write paths"), true)}
      </div>
      {isWriting || isFrozen(sent) ? (
        <PastePaths
          pasted={{ paths: draft.files, details: draft.details }}
          onChange={({ paths, details }) => {
            store.change({ files: paths, details });
          }}
        />
      ) : (
        <div data-place={control["data-place"]} tabIndex={-1}>
          <FileChooser files={files} />
          {faults}
        </div>
      )}
    </>
  );
}

/** Keeps the files of a draft and those that are chosen the same, whichever of the two is changed; returns what ends it. */
function follow(store: DraftStore, selection: Selection): () => void {
  let known: readonly string[] | null = null;
  const choose = (): void => {
    const { files } = store.view.draft;
    if (files === known) return;
    known = files;
    if (!isSame(files, pathsOf(selection))) selection.setPaths(files);
  };
  const take = (): void => {
    const paths = pathsOf(selection);
    if (!isSame(store.view.draft.files, paths)) store.change({ files: paths });
  };
  choose();
  const ends = [store.watch(choose), selection.watch(take)];
  return () => {
    for (const end of ends) end();
  };
}

function pathsOf({ view }: Selection): string[] {
  return view.files.map(({ path }) => path);
}

function isSame(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((path, index) => path === others[index]);
}

interface PastePathsProps {
  pasted: Pasted;
  onChange: (pasted: Pasted) => void;
}

/** Paths as text, one a line. */
export function PastePaths({ pasted, onChange }: PastePathsProps): ReactNode {
  const tr = useTranslator();
  const noteId = useId();
  const { control, faults } = usePlace(["input_files"]);
  // What is being written, of which an unfinished line is a part that the paths do not show.
  const [written, setWritten] = useState({ text: formatPaths(pasted), pasted });
  const text = written.pasted.paths === pasted.paths ? written.text : formatPaths(pasted);
  return (
    <div className="cts-field">
      <label htmlFor={control.id}>{tr.__("Paths of files, one a line")}</label>
      <textarea
        {...control}
        aria-describedby={`${noteId} ${control["aria-describedby"]}`}
        rows={6}
        spellCheck={false}
        placeholder={"bucket/genomes/a.fna.gz\nbucket/genomes/b.fna.gz"}
        value={text}
        onChange={(event) => {
          const read = readPaths(event.currentTarget.value, pasted.details);
          setWritten({ text: event.currentTarget.value, pasted: read });
          onChange(read);
        }}
      />
      <p id={noteId} className="cts-faint">
        {pasted.paths.length > 0
          ? tr._n("%2 file", "%2 files", pasted.paths.length, number(pasted.paths.length))
          : tr.__("s3:// may stand before a path, and a data ID behind it after a tab.")}
      </p>
      {faults}
    </div>
  );
}
