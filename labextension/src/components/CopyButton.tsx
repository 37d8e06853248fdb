import { type ReactNode, useEffect, useState } from "react";

import { useTranslator } from "./context";

const SHOWN_MS = 2_000;

/** Copies a text, and says so. */
export function CopyButton({ text, label }: { text: string | (() => string); label: string }): ReactNode {
  const tr = useTranslator();
  const [said, say] = useState("");
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => {
      say("");
    }, SHOWN_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [said]);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(typeof text === "string" ? text : text());
      say(tr.__("Copied"));
    } catch {
      // A page without https has no clipboard, and a person may refuse it.
      say(tr.__("Not copied: the browser does not let this page"));
    }
  };
  return (
    <button type="button" title={label} aria-label={said ? said : label} onClick={() => void copy()}>
      {said || label}
    </button>
  );
}
