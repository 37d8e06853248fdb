import { type ReactNode, useCallback, useId } from "react";

import type { Image, ReferenceData } from "../../api/types";
import { quote } from "../../rules/args";
import type { Translator } from "../../rules/translator";
import type { IService } from "../../service/port";
import { findImage, nameOf } from "../../store/catalogue";
import type { DraftStore } from "../../store/draft";
import { CopyButton } from "../CopyButton";
import { useDraft, useTranslator } from "../context";
import { Field } from "./fields";
import { useLoaded } from "./useLoaded";

/** The image of a draft: what is registered, and what is known of the one that is chosen. */
export function ImagePicker({ store }: { store: DraftStore }): ReactNode {
  const tr = useTranslator();
  const listId = useId();
  const { draft, catalogue, isLoading } = useDraft(store);
  const image = findImage(catalogue.images, draft.image);
  const isUnknown = !image && !isLoading && draft.image.trim() !== "";
  return (
    <>
      <Field label={tr.__("Image")} place={["image"]}>
        {(control) => (
          <input
            {...control}
            list={listId}
            value={draft.image}
            placeholder={
              isLoading
                ? tr.__("Loading …")
                : tr._n(
                    "%1 image is registered: type to search it",
                    "%1 images are registered: type to search them",
                    catalogue.images.length,
                  )
            }
            spellCheck={false}
            autoComplete="off"
            onChange={(event) => {
              store.change({ image: event.currentTarget.value });
            }}
          />
        )}
      </Field>
      <datalist id={listId}>
        {catalogue.images.map((one) => (
          <option key={nameOf(one)} value={nameOf(one)}>
            {one.usage_notes?.split("\n")[0]}
          </option>
        ))}
      </datalist>
      {image && <About image={image} refdata={catalogue.refdata} />}
      {isUnknown && (
        <Unregistered
          service={store.service}
          name={draft.image.trim()}
          choose={(name) => {
            store.change({ image: name });
          }}
        />
      )}
    </>
  );
}

/** Lines of usage notes that are shown without being asked for. */
const SHORT_NOTES = 10;

function About({ image, refdata }: { image: Image; refdata: readonly ReferenceData[] }): ReactNode {
  const tr = useTranslator();
  const { entrypoint, usage_notes: notes = "", urls = [], refdata_id: refdataId } = image;
  return (
    <div className="cts-about">
      <p className="cts-faint">
        {tr.__("Runs")} <code>{entrypoint.map(quote).join(" ")}</code>
      </p>
      {refdataId !== undefined && (
        <p className="cts-faint">
          {formatRefdata(
            image,
            refdata.find(({ id }) => id === refdataId),
            tr,
          )}
        </p>
      )}
      {notes && (
        <details open={notes.split("\n").length <= SHORT_NOTES}>
          <summary>{tr.__("Usage notes")}</summary>
          <pre role="region" tabIndex={0} aria-label={tr.__("Usage notes")}>
            {notes}
          </pre>
        </details>
      )}
      {urls.filter(isWebPage).map((url) => (
        <p key={url}>
          <a href={url} target="_blank" rel="noopener noreferrer">
            {url}
          </a>
        </p>
      ))}
    </div>
  );
}

function isWebPage(url: string): boolean {
  return /^https?:\/\//i.test(url);
}

function formatRefdata(image: Image, refdata: ReferenceData | undefined, tr: Translator): string {
  if (!refdata) return tr.__("Reference data %1", image.refdata_id ?? "");
  const name = refdata.file.split("/").at(-1) ?? refdata.file;
  const at = refdata.statuses.map(({ cluster, state }) =>
    state === "complete"
      ? tr.__("ready at %1", cluster)
      : state === "error"
        ? tr.__("failed at %1", cluster)
        : tr.__("on its way to %1", cluster),
  );
  const where = image.default_refdata_mount_point;
  return [
    tr.__("Reference data %1: %2", name, at.join(", ") || tr.__("at no site yet")),
    ...(where === undefined ? [] : [tr.__("mounted at %1", where)]),
  ].join("; ");
}

interface UnregisteredProps {
  service: IService;
  name: string;
  choose: (name: string) => void;
}

/** Who may register an image, and which others are like it. */
function Unregistered({ service, name, choose }: UnregisteredProps): ReactNode {
  const tr = useTranslator();
  const load = useCallback(
    (wanted: string, signal: AbortSignal) =>
      service.get<Image>(`images/${wanted.split("/").map(encodeURIComponent).join("/")}`, {}, signal),
    [service],
  );
  const { error } = useLoaded(name, load);
  const help = error?.detail.image_help;
  if (!help) return null;
  const { nearest, contact, request, command } = help;
  return (
    <div className="cts-unregistered" role="status">
      {nearest.length > 0 && (
        <p>
          {tr.__("Registered are:")}{" "}
          {nearest.map((one) => (
            <button
              key={one}
              type="button"
              onClick={() => {
                choose(one);
              }}
            >
              {one}
            </button>
          ))}
        </p>
      )}
      <p>
        {contact === undefined
          ? tr.__("An admin of the service may register it. Send one this:")
          : tr.__("%1 may register it. Send them this:", contact)}
      </p>
      <p className="cts-quoted">
        <q>{request}</q> <CopyButton text={request} label={tr.__("Copy the request")} />
      </p>
      <p className="cts-faint">
        {tr.__("As an admin, in a notebook:")} <code>{command}</code>
      </p>
    </div>
  );
}
