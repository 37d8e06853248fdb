import type { ReactNode } from "react";

import type { Label } from "../../rules/spec";
import { useTranslator } from "../context";
import { RemoveButton } from "./ParameterBuilder";
import { usePlace } from "./fields";
import { useLines } from "./useLines";

interface Props {
  labels: readonly Label[];
  onChange: (labels: readonly Label[]) => void;
}

/** The labels of a draft, by which its job is found again. */
export function Labels({ labels, onChange }: Props): ReactNode {
  const tr = useTranslator();
  const { list, lineProps, add, remove, replace } = useLines(labels, onChange, (key) => ({
    key,
    name: "",
    text: "",
  }));
  return (
    <>
      <ul ref={list} className="cts-lines" aria-label={tr.__("Labels")}>
        {labels.map((label, index) => (
          <li key={label.key} {...lineProps(index, label.name === "")}>
            <LabelLine
              label={label}
              name={tr.__("Label %1", index + 1)}
              onChange={(changed) => {
                replace(index, [changed]);
              }}
            />
            <span className="cts-line-buttons">
              <RemoveButton
                name={tr.__("label %1", index + 1)}
                remove={() => {
                  remove(index);
                }}
              />
            </span>
          </li>
        ))}
      </ul>
      <div className="cts-adds">
        <button
          type="button"
          onClick={() => {
            add(labels.length);
          }}
        >
          + {tr.__("Label")}
        </button>
      </div>
    </>
  );
}

interface LabelLineProps {
  label: Label;
  name: string;
  onChange: (label: Label) => void;
}

function LabelLine({ label, name, onChange }: LabelLineProps): ReactNode {
  const tr = useTranslator();
  const { control, faults } = usePlace(["labels", label.name]);
  return (
    <div className="cts-value">
      <div className="cts-line">
        <input
          {...control}
          className="cts-name"
          aria-label={tr.__("%1: name", name)}
          placeholder={tr.__("study")}
          value={label.name}
          spellCheck={false}
          autoComplete="off"
          onChange={(event) => {
            onChange({ ...label, name: event.currentTarget.value });
          }}
        />
        <span aria-hidden="true">=</span>
        <input
          aria-label={tr.__("%1: value", name)}
          placeholder={tr.__("soil")}
          value={label.text}
          spellCheck={false}
          autoComplete="off"
          onChange={(event) => {
            onChange({ ...label, text: event.currentTarget.value });
          }}
        />
      </div>
      {faults}
    </div>
  );
}
