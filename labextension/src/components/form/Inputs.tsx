import { type ReactNode, useId } from "react";

import { useTranslator } from "../context";

export interface InputsProps {
  /** Paths of the chosen files, in their order. */
  paths: readonly string[];
  onChange: (paths: readonly string[]) => void;
}

/** The input files of a draft. */
export function Inputs({ paths, onChange }: InputsProps): ReactNode {
  return <PastePaths paths={paths} onChange={onChange} />;
}

/** Paths as text, one a line. */
export function PastePaths({ paths, onChange }: InputsProps): ReactNode {
  const tr = useTranslator();
  const id = useId();
  return (
    <>
      <label htmlFor={id}>{tr.__("Paths, one a line")}</label>
      <textarea
        id={id}
        rows={6}
        spellCheck={false}
        value={paths.join("\n")}
        onChange={(event) => {
          onChange(event.currentTarget.value.split("\n"));
        }}
      />
    </>
  );
}
