import type { KeyboardEvent } from "react";

/** What a key does by its name. */
export type Keys = Readonly<Record<string, (() => void) | undefined>>;

/** Handles keys that are pressed alone, and leaves all others to the page. */
export function onKeys(keys: Keys): (event: KeyboardEvent) => void {
  return (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };
}
