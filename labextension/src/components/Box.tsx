import type { ReactNode } from "react";

import { useTranslator } from "./context";
import { onKeys } from "./keys";
import { useReturn } from "./useReturn";

interface Props {
  title: string;
  close: () => void;
  /** Stands beside the title. */
  controls?: ReactNode;
  children: ReactNode;
}

/** What a menu of a job opens below it, until it is closed. */
export function Box({ title, close, controls, children }: Props): ReactNode {
  const tr = useTranslator();
  const goBack = useReturn();
  const leave = (): void => {
    close();
    goBack();
  };
  return (
    // Its controls have the focus; their Escape is heard here.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <div className="cts-request" role="group" aria-label={title} onKeyDown={onKeys({ Escape: leave })}>
      <div className="cts-controls">
        <strong>{title}</strong>
        {controls}
        <button type="button" onClick={leave}>
          {tr.__("Close")}
        </button>
      </div>
      {children}
    </div>
  );
}
