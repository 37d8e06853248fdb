import { useState } from "react";

/** What gives the focus back to where it was when the component was first shown; for what a person closes. */
export function useReturn(): () => void {
  const [before] = useState(() => document.activeElement);
  return () => {
    if (before instanceof HTMLElement) before.focus();
  };
}
