// The controls of a form: each with its name, its unit and what is wrong at it.

import { type ReactNode, createContext, useContext, useId } from "react";

import { type Fault, type Place, isAt } from "../../rules/problems";
import type { Quantity } from "../../rules/spec";

/** What is wrong with the draft, as far as it is shown. */
export const FaultsContext = createContext<readonly Fault[]>([]);

/** What is wrong at a place. */
export function useFaults(place: Place): readonly Fault[] {
  return useContext(FaultsContext).filter((fault) => isAt(fault, place));
}

/** What a control needs to be found and described. */
export interface ControlProps {
  id: string;
  "data-place": string;
  "aria-invalid": boolean;
  "aria-describedby": string;
}

export function usePlace(place: Place): { control: ControlProps; faults: ReactNode } {
  const id = useId();
  const faults = useFaults(place);
  return {
    control: {
      id,
      "data-place": place.join("/"),
      "aria-invalid": faults.length > 0,
      "aria-describedby": `${id}-faults`,
    },
    faults: <FaultList id={`${id}-faults`} faults={faults} />,
  };
}

const MAX_FAULTS = 5;

function FaultList({ id, faults }: { id: string; faults: readonly Fault[] }): ReactNode {
  return (
    <div id={id} className="cts-faults">
      {faults.slice(0, MAX_FAULTS).map(({ message, hint }, n) => (
        <p key={n}>{hint ? `${message}. ${hint}.` : message}</p>
      ))}
    </div>
  );
}

interface FieldProps {
  label: string;
  place: Place;
  /** Stands below the control. */
  note?: ReactNode;
  className?: string;
  children: (control: ControlProps) => ReactNode;
}

/** A control below its name. */
export function Field({ label, place, note, className = "", children }: FieldProps): ReactNode {
  const { control, faults } = usePlace(place);
  return (
    <div className={`cts-field ${className}`}>
      <label htmlFor={control.id}>{label}</label>
      {children(control)}
      {note}
      {faults}
    </div>
  );
}

interface TextFieldProps extends Omit<FieldProps, "children"> {
  value: string;
  onChange: (value: string) => void;
  placeholder?: string;
  /** Shown behind it. */
  unit?: ReactNode;
  inputMode?: "numeric" | "decimal";
}

/** A line of text, or a number, which is text while it is typed. */
export function TextField({
  value,
  onChange,
  placeholder,
  unit,
  inputMode,
  ...field
}: TextFieldProps): ReactNode {
  return (
    <Field {...field}>
      {(control) => (
        <div className="cts-line">
          <input
            {...control}
            value={value}
            placeholder={placeholder}
            inputMode={inputMode}
            spellCheck={false}
            autoComplete="off"
            onChange={(event) => {
              onChange(event.currentTarget.value);
            }}
          />
          {unit}
        </div>
      )}
    </Field>
  );
}

interface QuantityFieldProps extends Omit<FieldProps, "children"> {
  value: Quantity;
  units: readonly string[];
  unitLabel: string;
  onChange: (value: Quantity) => void;
}

/** A number with its unit. */
export function QuantityField({
  value,
  units,
  unitLabel,
  onChange,
  ...field
}: QuantityFieldProps): ReactNode {
  return (
    <TextField
      {...field}
      inputMode="decimal"
      value={value.amount}
      onChange={(amount) => {
        onChange({ ...value, amount });
      }}
      unit={
        <select
          aria-label={unitLabel}
          value={value.unit}
          onChange={(event) => {
            onChange({ ...value, unit: event.currentTarget.value });
          }}
        >
          {units.map((unit) => (
            <option key={unit}>{unit}</option>
          ))}
        </select>
      }
    />
  );
}
