import { type KeyboardEvent, type RefObject, useLayoutEffect, useRef } from "react";

import { nextKey } from "../../rules/spec";

interface Lines<T> {
  list: RefObject<HTMLOListElement & HTMLUListElement>;
  /** What a line is given; one that `isEmpty` is removed by Delete in its text too. */
  lineProps: (index: number, isEmpty: boolean) => { onKeyDown: (event: KeyboardEvent) => void };
  add: (index: number, make?: (key: number) => T) => void;
  remove: (index: number) => void;
  move: (from: number, to: number) => void;
  replace: (index: number, lines: readonly T[]) => void;
}

/** Lines that are added, removed and moved, by keys too: Alt with arrows, Enter and Delete. The focus goes with them. */
export function useLines<T extends { readonly key: number }>(
  lines: readonly T[],
  onChange: (lines: readonly T[]) => void,
  make: (key: number) => T,
): Lines<T> {
  const list = useRef<HTMLOListElement & HTMLUListElement>(null);
  /** The line that gets the focus once it is shown, and the place in it of what had it. */
  const wanted = useRef<{ index: number; control: number } | null>(null);

  // At once, as the effect of an earlier rendering could still be due, and would look at the lines as they were.
  useLayoutEffect(() => {
    if (!wanted.current || !list.current) return;
    const { index, control } = wanted.current;
    wanted.current = null;
    const found = controlsOf(list.current.children[index]);
    (found[control] ?? found[0])?.focus();
  });

  const add = (index: number, makeOne = make): void => {
    wanted.current = { index, control: 0 };
    onChange([...lines.slice(0, index), makeOne(nextKey(lines)), ...lines.slice(index)]);
  };
  const remove = (index: number): void => {
    wanted.current = { index: Math.min(index, lines.length - 2), control: 0 };
    onChange(lines.filter((_, n) => n !== index));
  };
  const move = (from: number, to: number): void => {
    const moved = lines[from];
    if (!moved || to < 0 || to >= lines.length) return;
    const focused = controlsOf(list.current?.children[from]).indexOf(document.activeElement as HTMLElement);
    wanted.current = { index: to, control: focused };
    const others = lines.filter((_, n) => n !== from);
    onChange([...others.slice(0, to), moved, ...others.slice(to)]);
  };
  const replace = (index: number, others: readonly T[]): void => {
    onChange([...lines.slice(0, index), ...others, ...lines.slice(index + 1)]);
  };
  const lineProps = (index: number, isEmpty: boolean): { onKeyDown: (event: KeyboardEvent) => void } => ({
    onKeyDown: (event) => {
      const isText = event.target instanceof HTMLInputElement;
      const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
      if (event.altKey && step) move(index, index + step);
      else if (event.key === "Enter" && isText && !event.ctrlKey && !event.metaKey) add(index + 1);
      else if (event.key === "Delete" && (isEmpty || !isText)) remove(index);
      else return;
      event.preventDefault();
    },
  });
  return { list, lineProps, add, remove, move, replace };
}

function controlsOf(line: Element | undefined): HTMLElement[] {
  return [...(line?.querySelectorAll<HTMLElement>("input, select, button:not(:disabled)") ?? [])];
}
