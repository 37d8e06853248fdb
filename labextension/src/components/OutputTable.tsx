import { type ReactNode, useDeferredValue, useMemo, useState } from "react";

import { type PreviewKind, previewOf } from "../rules/preview";
import { formatSize, number, shortId } from "../rules/words";
import type { IService } from "../service/port";
import type { Outputs } from "../store/jobs";
import { type Check, type OutputFile, OutputList } from "../store/outputs";
import { Preview } from "./Preview";
import { type Column, VirtualTable } from "./VirtualTable";
import { copyText } from "./clipboard";
import { useTranslator, useView } from "./context";

/** The checksum of no bytes. */
const EMPTY = "AAAAAAAAAAA=";
/** Fewer files are not filtered. */
const MIN_FILTERED = 5;

interface Props {
  service: IService;
  jobId: string;
  outputs: Outputs;
  /** Ends with a slash. */
  folder: string;
}

/** The outputs of a job: sizes and checksums, as they were written and as they are now, to download and to look at. */
export function OutputTable({ service, jobId, outputs, folder }: Props): ReactNode {
  const tr = useTranslator();
  const [list] = useState(() => {
    const isWhole = outputs.shown.length === outputs.count;
    return new OutputList(service, jobId, folder, isWhole ? outputs.shown : null);
  });
  const { files, isLoading, isCut, hasObjects, message } = useView(list);
  const [wanted, setWanted] = useState("");
  const filter = useDeferredValue(wanted);
  const [shown, show] = useState<{ path: string; kind: PreviewKind } | null>(null);
  const [said, say] = useState("");
  const rows = useMemo(() => {
    const part = filter.trim().toLowerCase();
    return part ? files.filter(({ file }) => nameIn(file, folder).toLowerCase().includes(part)) : files;
  }, [files, filter, folder]);
  const copy = (text: string): void => {
    void copyText(text).then((isCopied) => {
      say(isCopied ? tr.__("Copied") : tr.__("Not copied: the browser does not let this page"));
    });
  };
  const columns: Column<OutputFile>[] = [
    {
      title: tr.__("File"),
      className: "cts-c-file",
      cell: ({ file }) => {
        const url = service.url("files/content", { path: file });
        const name = nameIn(file, folder);
        if (url === null) return <span title={file}>{name}</span>;
        return (
          <a href={url} download={file.split("/").pop()} title={file}>
            {name}
          </a>
        );
      },
    },
    {
      title: tr.__("Size"),
      className: "cts-c-size",
      cell: ({ size, crc64nvme }) =>
        size !== null ? formatSize(size) : crc64nvme === EMPTY ? formatSize(0) : "",
    },
    {
      title: "CRC64/NVME",
      className: "cts-c-checksum",
      cell: ({ crc64nvme, check }) => (
        <>
          <Mark check={check} /> <code>{crc64nvme}</code>
        </>
      ),
    },
    {
      title: tr.__("Actions"),
      className: "cts-c-actions",
      cell: ({ file }) => {
        const kind = previewOf(file);
        const name = nameIn(file, folder);
        return (
          <>
            {kind && (
              <button
                type="button"
                aria-label={tr.__("Look at %1", name)}
                onClick={() => {
                  show({ path: file, kind });
                }}
              >
                {tr.__("Look")}
              </button>
            )}{" "}
            <button
              type="button"
              data-copy
              title={tr.__("Copy the path")}
              aria-label={tr.__("Copy the path of %1", name)}
              onClick={() => {
                copy(file);
              }}
            >
              {tr.__("Copy")}
            </button>
          </>
        );
      },
    },
  ];
  const bytes = rows.reduce((sum, { size }) => sum + (size ?? 0), 0);
  const hidden = Math.max(isCut ? 1 : 0, outputs.count - files.length);
  return (
    <>
      <div className="cts-controls">
        {files.length >= MIN_FILTERED && (
          <input
            type="search"
            className="cts-find"
            aria-label={tr.__("Filter the outputs")}
            placeholder={tr.__("Filter")}
            value={wanted}
            onChange={(event) => {
              setWanted(event.currentTarget.value);
            }}
          />
        )}
        <span className="cts-faint">
          {[
            filter && tr.__("%1 of %2", number(rows.length), number(files.length)),
            bytes > 0 && formatSize(bytes),
            isLoading && tr.__("Loading …"),
          ]
            .filter(Boolean)
            .join(" · ")}
        </span>
        {rows.length > 1 && (
          <button
            type="button"
            onClick={() => {
              copy(rows.map(({ file }) => file).join("\n"));
            }}
          >
            {filter ? tr.__("Copy these paths") : tr.__("Copy all paths")}
          </button>
        )}
        {said && <span role="status">{said}</span>}
      </div>
      <VirtualTable label={tr.__("Outputs")} rows={rows} columns={columns} keyOf={({ file }) => file} />
      {!hasObjects && (
        <p className="cts-faint">{tr.__("This service does not tell what became of them since.")}</p>
      )}
      {message && <p role="alert">{message}</p>}
      {!isLoading && hidden > 0 && (
        <p>{tr.__("and %1 more: %cts files %2", number(hidden), shortId(jobId))}</p>
      )}
      {shown && (
        <Preview
          key={shown.path}
          service={service}
          path={shown.path}
          kind={shown.kind}
          close={() => {
            show(null);
          }}
        />
      )}
    </>
  );
}

function nameIn(file: string, folder: string): string {
  return file.startsWith(folder) ? file.slice(folder.length) : file;
}

/** What became of an output, by shape and words. */
function Mark({ check }: { check: Check }): ReactNode {
  const tr = useTranslator();
  switch (check) {
    case "same":
      return (
        <span data-mood="done" title={tr.__("The checksum is that of the object now")}>
          ✓<span className="cts-unseen">{tr.__("unchanged")}</span>
        </span>
      );
    case "changed":
      return <span className="cts-changed">{tr.__("⚠ changed since")}</span>;
    case "gone":
      return <span className="cts-changed">{tr.__("✕ no longer there")}</span>;
    case "unknown":
      return null;
  }
}
