import { type ReactNode, Suspense, useSyncExternalStore } from "react";

import { Recent } from "../store/recent";
import { ErrorBoundary } from "./ErrorBoundary";
import { useTranslator } from "./context";

// A notebook makes an output anew when it is scrolled back into view: its sections stay as a person left them.
const MAX_OPENED = 300;
const opened = new Recent<string, boolean>(MAX_OPENED);
const callbacks = new Set<() => void>();

function watch(callback: () => void): () => void {
  callbacks.add(callback);
  return () => callbacks.delete(callback);
}

/** Opens or closes the section of a name, wherever it is in the page. */
export function setSection(name: string, isOpen: boolean): void {
  opened.set(name, isOpen);
  for (const callback of [...callbacks]) callback();
}

interface Props {
  /** Tells the section apart from all others of the page. */
  name: string;
  className: string;
  title: string;
  isOpen?: boolean;
  /** Made when it is first open. */
  children: () => ReactNode;
}

/** A part that can be opened and closed. */
export function Section({
  name,
  className,
  title,
  isOpen: isOpenAtFirst = false,
  children,
}: Props): ReactNode {
  const tr = useTranslator();
  const isOpen = useSyncExternalStore(watch, () => opened.get(name) ?? isOpenAtFirst);
  return (
    <details
      className={`cts-section ${className}`}
      open={isOpen}
      onToggle={(event) => {
        if (event.currentTarget.open !== isOpen) setSection(name, event.currentTarget.open);
      }}
    >
      <summary>{title}</summary>
      {isOpen && (
        <div className="cts-body">
          <ErrorBoundary>
            <Suspense fallback={<p className="cts-faint">{tr.__("Loading …")}</p>}>{children()}</Suspense>
          </ErrorBoundary>
        </div>
      )}
    </details>
  );
}
