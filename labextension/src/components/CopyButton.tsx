import { type ReactNode, useEffect, useState } from "react";

import { copyText } from "./clipboard";
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
    const isCopied = await copyText(typeof text === "string" ? text : text());
    say(isCopied ? tr.__("Copied") : tr.__("Not copied: the browser does not let this page"));
  };
  return (
    <button type="button" title={label} aria-label={said ? said : label} onClick={() => void copy()}>
      {said || label}
    </button>
  );
}
