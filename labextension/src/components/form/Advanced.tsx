import type { ReactNode } from "react";

import { findImage } from "../../store/catalogue";
import type { DraftStore } from "../../store/draft";
import { useDraft, useTranslator } from "../context";
import { Field, TextField, useFaults } from "./fields";

/** Where containers find and leave files, which most jobs need not say. */
export function Advanced({ store }: { store: DraftStore }): ReactNode {
  const tr = useTranslator();
  const { draft, catalogue } = useDraft(store);
  const image = findImage(catalogue.images, draft.image);
  const mounts = ["input_mount_point", "output_mount_point", "refdata_mount_point"];
  const faults = [...useFaults(["params"]), ...useFaults(["input_roots"])];
  const isWrong = faults.some(({ place }) => place[0] === "input_roots" || mounts.includes(String(place[1])));
  return (
    <>
      <label className="cts-choice">
        <input
          type="checkbox"
          checked={draft.declobber}
          onChange={(event) => {
            store.change({ declobber: event.currentTarget.checked });
          }}
        />
        <span>{tr.__("Keep the outputs of each container in a folder of its own, named by its number")}</span>
      </label>
      <details className="cts-advanced" {...(isWrong && { open: true })}>
        <summary>{tr.__("Folders in the container")}</summary>
        <div className="cts-grid">
          <TextField
            label={tr.__("Inputs are in")}
            place={["params", "input_mount_point"]}
            value={draft.inputMount}
            onChange={(inputMount) => {
              store.change({ inputMount });
            }}
          />
          <TextField
            label={tr.__("Outputs are taken from")}
            place={["params", "output_mount_point"]}
            value={draft.outputMount}
            onChange={(outputMount) => {
              store.change({ outputMount });
            }}
          />
          <TextField
            label={tr.__("Reference data is in")}
            place={["params", "refdata_mount_point"]}
            placeholder={image?.default_refdata_mount_point ?? tr.__("none")}
            value={draft.refdataMount}
            onChange={(refdataMount) => {
              store.change({ refdataMount });
            }}
          />
          <Field label={tr.__("Keep the folders below, one a line")} place={["input_roots"]}>
            {(control) => (
              <textarea
                {...control}
                rows={2}
                spellCheck={false}
                placeholder={tr.__("bucket/folder (inputs lose their folders otherwise)")}
                value={draft.roots.join("\n")}
                onChange={({ currentTarget: { value } }) => {
                  store.change({ roots: value === "" ? [] : value.split("\n") });
                }}
              />
            )}
          </Field>
        </div>
      </details>
    </>
  );
}
