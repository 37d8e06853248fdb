import { type ReactNode, useId } from "react";

import type { InputFilesFormat, ManifestFileFormat } from "../../api/types";
import { splitText } from "../../rules/args";
import type { Place } from "../../rules/problems";
import { type Argument, type Kind, type Value, type Variable, newValue, nextKey } from "../../rules/spec";
import type { Translator } from "../../rules/translator";
import { useTranslator } from "../context";
import { NamedLines } from "./NamedLines";
import { RemoveButton } from "./RemoveButton";
import { usePlace } from "./fields";
import { useLines } from "./useLines";

const KINDS: readonly Kind[] = ["text", "files", "manifest", "number"];

function nameKind(kind: Kind, tr: Translator): string {
  const names: Record<Kind, string> = {
    text: tr.__("Text"),
    files: tr.__("Files"),
    manifest: tr.__("Manifest file"),
    number: tr.__("Container number"),
  };
  return names[kind];
}

interface ArgumentsProps {
  args: readonly Argument[];
  onChange: (args: readonly Argument[]) => void;
}

/** The arguments of a draft's containers, in their order. */
export function Arguments({ args, onChange }: ArgumentsProps): ReactNode {
  const tr = useTranslator();
  const { list, lineProps, add, remove, move, replace } = useLines(args, onChange, (key) => ({
    key,
    value: newValue("text"),
  }));
  const addKind = (kind: Kind): void => {
    add(args.length, (key) => ({ key, value: newValue(kind) }));
  };
  return (
    <>
      <ol ref={list} className="cts-lines" aria-label={tr.__("Arguments")}>
        {args.map((arg, index) => (
          <li key={arg.key} {...lineProps(index, arg.value.kind === "text" && arg.value.text === "")}>
            <ArgumentLine
              arg={arg}
              place={["params", "args", index]}
              name={tr.__("Argument %1", index + 1)}
              onChange={(value) => {
                replace(index, [{ ...arg, value }]);
              }}
              onSplit={(values) => {
                const first = nextKey(args);
                replace(
                  index,
                  values.map((value, n) => ({ key: first + n, value })),
                );
              }}
            />
            <LineButtons
              index={index}
              count={args.length}
              move={move}
              remove={remove}
              name={tr.__("argument %1", index + 1)}
            />
          </li>
        ))}
      </ol>
      <div className="cts-adds" role="group" aria-label={tr.__("Add an argument")}>
        {KINDS.map((kind) => (
          <button
            key={kind}
            type="button"
            onClick={() => {
              addKind(kind);
            }}
          >
            + {nameKind(kind, tr)}
          </button>
        ))}
      </div>
    </>
  );
}

interface ArgumentLineProps {
  arg: Argument;
  place: Place;
  name: string;
  onChange: (value: Value) => void;
  onSplit: (values: readonly Value[]) => void;
}

function ArgumentLine({ arg: { value }, place, name, onChange, onSplit }: ArgumentLineProps): ReactNode {
  const tr = useTranslator();
  const { control, faults } = usePlace(place);
  const meant = value.kind === "text" ? splitText(value.text) : null;
  return (
    <div className="cts-value">
      {value.kind === "text" ? (
        <input
          {...control}
          aria-label={tr.__("%1, text", name)}
          value={value.text}
          placeholder={tr.__("a word, a flag, or a whole command line to split")}
          spellCheck={false}
          autoComplete="off"
          onChange={(event) => {
            onChange({ kind: "text", text: event.currentTarget.value });
          }}
        />
      ) : (
        <div className="cts-line" role="group" aria-label={`${name}, ${nameKind(value.kind, tr)}`}>
          <span className="cts-kind">{nameKind(value.kind, tr)}</span>
          <Small
            {...control}
            label={tr.__("flag")}
            name={`${name}: ${tr.__("flag before it, if any")}`}
            placeholder={tr.__("no flag")}
            value={value.flag}
            onChange={(flag) => {
              onChange({ ...value, flag });
            }}
          />
          <Specifics value={value} name={name} onChange={onChange} />
        </div>
      )}
      {meant ? (
        <div className="cts-split" role="status">
          <span>{tr._n("This is %1 argument", "These are %1 arguments", meant.length)}</span>
          <button
            type="button"
            onClick={() => {
              onSplit(meant);
            }}
          >
            {meant.length > 1 ? tr.__("Split") : tr.__("Make it so")}
          </button>
        </div>
      ) : (
        faults
      )}
    </div>
  );
}

interface SmallProps {
  label: string;
  name: string;
  value: string;
  placeholder?: string;
  /** It has more to say than a flag. */
  isWide?: boolean;
  onChange: (value: string) => void;
}

/** A short text of a line, after its name. */
function Small({
  label,
  name,
  value,
  placeholder,
  isWide = false,
  onChange,
  ...control
}: SmallProps): ReactNode {
  return (
    <label className={isWide ? "cts-small cts-wide" : "cts-small"}>
      <span>{label}</span>
      <input
        {...control}
        aria-label={name}
        value={value}
        placeholder={placeholder}
        spellCheck={false}
        autoComplete="off"
        onChange={(event) => {
          onChange(event.currentTarget.value);
        }}
      />
    </label>
  );
}

interface SpecificsProps {
  value: Exclude<Value, { kind: "text" }>;
  name: string;
  /** Whether it is the value of a variable, which is one word. */
  isVariable?: boolean;
  onChange: (value: Value) => void;
}

/** What a value has besides its flag. */
function Specifics({ value, name, isVariable = false, onChange }: SpecificsProps): ReactNode {
  const tr = useTranslator();
  switch (value.kind) {
    case "files": {
      const formats: [InputFilesFormat, string][] = [
        ["space_separated_list", tr.__("each a word")],
        ["comma_separated_list", tr.__("one word, commas between")],
        ["repeat_parameter", tr.__("the flag again before each")],
      ];
      return (
        <select
          aria-label={`${name}: ${tr.__("how files are written")}`}
          value={value.format}
          onChange={(event) => {
            onChange({ ...value, format: event.currentTarget.value as InputFilesFormat });
          }}
        >
          {formats
            .filter(([format]) => !isVariable || format === "comma_separated_list" || format === value.format)
            .map(([format, text]) => (
              <option key={format} value={format}>
                {text}
              </option>
            ))}
        </select>
      );
    }
    case "manifest":
      return (
        <>
          <select
            aria-label={`${name}: ${tr.__("what its lines are")}`}
            value={value.format}
            onChange={(event) => {
              onChange({ ...value, format: event.currentTarget.value as ManifestFileFormat });
            }}
          >
            <option value="files">{tr.__("a path a line")}</option>
            <option value="data_ids">{tr.__("a data ID a line")}</option>
          </select>
          <Small
            isWide
            label={tr.__("first line")}
            name={`${name}: ${tr.__("first line")}`}
            placeholder={tr.__("none")}
            value={value.header}
            onChange={(header) => {
              onChange({ ...value, header });
            }}
          />
        </>
      );
    case "number":
      return (
        <>
          <Small
            isWide
            label={tr.__("before it")}
            name={`${name}: ${tr.__("text before the number")}`}
            placeholder="/output_files/out_"
            value={value.prefix}
            onChange={(prefix) => {
              onChange({ ...value, prefix });
            }}
          />
          <Small
            label={tr.__("after it")}
            name={`${name}: ${tr.__("text after the number")}`}
            placeholder=".tsv"
            value={value.suffix}
            onChange={(suffix) => {
              onChange({ ...value, suffix });
            }}
          />
        </>
      );
  }
}

interface LineButtonsProps {
  index: number;
  count: number;
  name: string;
  move: (from: number, to: number) => void;
  remove: (index: number) => void;
}

function LineButtons({ index, count, name, move, remove }: LineButtonsProps): ReactNode {
  const tr = useTranslator();
  return (
    <span className="cts-line-buttons">
      <button
        type="button"
        title={tr.__("Move up (Alt+↑)")}
        aria-label={tr.__("Move %1 up", name)}
        disabled={index === 0}
        onClick={() => {
          move(index, index - 1);
        }}
      >
        ↑
      </button>
      <button
        type="button"
        title={tr.__("Move down (Alt+↓)")}
        aria-label={tr.__("Move %1 down", name)}
        disabled={index === count - 1}
        onClick={() => {
          move(index, index + 1);
        }}
      >
        ↓
      </button>
      <RemoveButton
        name={name}
        remove={() => {
          remove(index);
        }}
      />
    </span>
  );
}

interface EnvironmentProps {
  variables: readonly Variable[];
  onChange: (variables: readonly Variable[]) => void;
}

/** The variables of a draft's containers. */
export function Environment({ variables, onChange }: EnvironmentProps): ReactNode {
  const tr = useTranslator();
  const noteId = useId();
  return (
    <>
      <NamedLines
        title={tr.__("Environment variables")}
        added={tr.__("Variable")}
        nameOf={(number) => tr.__("variable %1", number)}
        lines={variables}
        onChange={onChange}
        make={(key) => ({ key, name: "", value: newValue("text") })}
      >
        {(variable, number, replace) => (
          <VariableLine
            variable={variable}
            label={tr.__("Variable %1", number)}
            noteId={noteId}
            onChange={replace}
          />
        )}
      </NamedLines>
      {variables.length > 0 && (
        <p id={noteId} className="cts-faint">
          {tr.__(
            "Values are kept with the form, with the job and in the notebook of a panel: no place for passwords or tokens.",
          )}
        </p>
      )}
    </>
  );
}

interface VariableLineProps {
  variable: Variable;
  label: string;
  /** What says where values are kept. */
  noteId: string;
  onChange: (variable: Variable) => void;
}

function VariableLine({ variable, label, noteId, onChange }: VariableLineProps): ReactNode {
  const tr = useTranslator();
  const { name, value } = variable;
  const { control, faults } = usePlace(["params", "environment", name]);
  const set = (changed: Value): void => {
    onChange({ ...variable, value: changed });
  };
  return (
    <div className="cts-value">
      <div className="cts-line">
        <input
          {...control}
          className="cts-name"
          aria-label={tr.__("%1: name", label)}
          placeholder="NAME"
          value={name}
          spellCheck={false}
          autoComplete="off"
          onChange={(event) => {
            onChange({ ...variable, name: event.currentTarget.value });
          }}
        />
        <span aria-hidden="true">=</span>
        <select
          aria-label={tr.__("%1: kind of value", label)}
          value={value.kind}
          onChange={(event) => {
            const kind = event.currentTarget.value as Kind;
            const changed = newValue(kind);
            set(changed.kind === "files" ? { ...changed, format: "comma_separated_list" } : changed);
          }}
        >
          {KINDS.map((kind) => (
            <option key={kind} value={kind}>
              {nameKind(kind, tr)}
            </option>
          ))}
        </select>
        {value.kind === "text" ? (
          <input
            aria-label={tr.__("%1: value", label)}
            aria-describedby={noteId}
            value={value.text}
            spellCheck={false}
            autoComplete="off"
            onChange={(event) => {
              set({ kind: "text", text: event.currentTarget.value });
            }}
          />
        ) : (
          <Specifics value={value} name={label} isVariable onChange={set} />
        )}
      </div>
      {faults}
    </div>
  );
}
