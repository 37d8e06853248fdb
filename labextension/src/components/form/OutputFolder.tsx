import { type ReactNode, useCallback } from "react";

import type { ObjectPage } from "../../api/types";
import type { DraftStore } from "../../store/draft";
import { useDraft, useTranslator } from "../context";
import { TextField, useFaults } from "./fields";
import { useLoaded } from "./useLoaded";

/** Where the outputs of a draft go, and whether something is there already. */
export function OutputFolder({ store }: { store: DraftStore }): ReactNode {
  const tr = useTranslator();
  const { draft } = useDraft(store);
  const { service } = store;
  const isWrong = useFaults(["output_dir"]).length > 0;
  const load = useCallback(
    async (prefix: string, signal: AbortSignal) => {
      if (!(await service.knows("GET", "/files"))) return null;
      const { objects } = await service.get<ObjectPage>("files", { prefix, limit: 1 }, signal);
      return objects.length === 0;
    },
    [service],
  );
  const folder = draft.outputDir.trim().replace(/\/*$/, "/");
  const { value: isEmpty } = useLoaded(isWrong || folder === "/" ? "" : folder, load);
  return (
    <TextField
      label={tr.__("Output folder")}
      place={["output_dir"]}
      placeholder={tr.__("bucket/folder/")}
      value={draft.outputDir}
      onChange={(outputDir) => {
        store.change({ outputDir });
      }}
      note={
        <p className="cts-faint" role="status">
          {isEmpty === null
            ? ""
            : isEmpty
              ? tr.__("✓ Empty")
              : tr.__("⚠ Not empty: outputs replace files of the same name")}
        </p>
      }
    />
  );
}
