import { type ReactNode, useId, useState } from "react";

import { type Pasted, formatPaths, readPaths } from "../../rules/paste";
import { number } from "../../rules/words";
import type { DraftStore } from "../../store/draft";
import { useDraft, useTranslator } from "../context";
import { usePlace } from "./fields";

/** The input files of a draft. */
export function Inputs({ store }: { store: DraftStore }): ReactNode {
  const { draft } = useDraft(store);
  return (
    <PastePaths
      pasted={{ paths: draft.files, details: draft.details }}
      onChange={({ paths, details }) => {
        store.change({ files: paths, details });
      }}
    />
  );
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
          const read = readPaths(event.currentTarget.value);
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
