import type { ReactNode } from "react";

import { useTranslator } from "../context";

export function RemoveButton({ name, remove }: { name: string; remove: () => void }): ReactNode {
  const tr = useTranslator();
  return (
    <button
      type="button"
      title={tr.__("Remove (Delete)")}
      aria-label={tr.__("Remove %1", name)}
      onClick={remove}
    >
      ×
    </button>
  );
}
