import type { ReactNode } from "react";

import { RemoveButton } from "./RemoveButton";
import { useLines } from "./useLines";

interface Line {
  readonly key: number;
  readonly name: string;
}

interface Props<T extends Line> {
  /** The name of the list. */
  title: string;
  /** What its button adds. */
  added: string;
  /** The name of a line by its number, as what is removed. */
  nameOf: (number: number) => string;
  lines: readonly T[];
  onChange: (lines: readonly T[]) => void;
  make: (key: number) => T;
  children: (line: T, number: number, replace: (changed: T) => void) => ReactNode;
}

/** A list of lines that each have a name, to which lines are added and from which they are removed. */
export function NamedLines<T extends Line>({
  title,
  added,
  nameOf,
  lines,
  onChange,
  make,
  children,
}: Props<T>): ReactNode {
  const { list, lineProps, add, remove, replace } = useLines(lines, onChange, make);
  return (
    <>
      <ul ref={list} className="cts-lines" aria-label={title}>
        {lines.map((line, index) => (
          <li key={line.key} {...lineProps(index, line.name === "")}>
            {children(line, index + 1, (changed) => {
              replace(index, [changed]);
            })}
            <span className="cts-line-buttons">
              <RemoveButton
                name={nameOf(index + 1)}
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
            add(lines.length);
          }}
        >
          + {added}
        </button>
      </div>
    </>
  );
}
