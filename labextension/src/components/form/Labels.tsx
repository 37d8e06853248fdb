import { type ReactNode, useId } from "react";

import type { Label } from "../../rules/spec";
import type { IService } from "../../service/port";
import { useTranslator } from "../context";
import { useLabelKeys } from "../useLabelKeys";
import { NamedLines } from "./NamedLines";
import { usePlace } from "./fields";

interface Props {
  service: IService;
  labels: readonly Label[];
  onChange: (labels: readonly Label[]) => void;
}

/** The labels of a draft, by which its job is found again. */
export function Labels({ service, labels, onChange }: Props): ReactNode {
  const tr = useTranslator();
  const keys = useLabelKeys(service);
  const offered = useId();
  return (
    <>
      <datalist id={offered}>
        {keys.map((key) => (
          <option key={key} value={key} />
        ))}
      </datalist>
      <NamedLines
        title={tr.__("Labels")}
        added={tr.__("Label")}
        nameOf={(number) => tr.__("label %1", number)}
        lines={labels}
        onChange={onChange}
        make={(key) => ({ key, name: "", text: "" })}
      >
        {(label, number, replace) => (
          <LabelLine label={label} name={tr.__("Label %1", number)} offered={offered} onChange={replace} />
        )}
      </NamedLines>
    </>
  );
}

interface LabelLineProps {
  label: Label;
  name: string;
  /** The id of the keys that are offered. */
  offered: string;
  onChange: (label: Label) => void;
}

function LabelLine({ label, name, offered, onChange }: LabelLineProps): ReactNode {
  const tr = useTranslator();
  const { control, faults } = usePlace(["labels", label.name]);
  return (
    <div className="cts-value">
      <div className="cts-line">
        <input
          {...control}
          className="cts-name"
          list={offered}
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
