import { type ReactNode, useEffect, useState } from "react";

import { decode, unpack } from "../rules/bytes";
import { nameOf } from "../rules/paths";
import {
  MAX_COLUMNS,
  MAX_IMAGE_BYTES,
  MAX_ROWS,
  PREVIEW_BYTES,
  type PreviewKind,
  parseTable,
} from "../rules/preview";
import { formatSize, number } from "../rules/words";
import { asServiceError, isAbort } from "../service/errors";
import type { IService } from "../service/port";
import { useTranslator } from "./context";
import { onKeys } from "./keys";
import { useReturn } from "./useReturn";

interface Props {
  service: IService;
  path: string;
  kind: PreviewKind;
  close: () => void;
}

interface Content {
  bytes: Uint8Array;
  isWhole: boolean;
}

/** The beginning of a file as text, as a table, or as an image; nothing of it is ever HTML. */
export function Preview({ service, path, kind, close }: Props): ReactNode {
  const tr = useTranslator();
  const goBack = useReturn();
  const leave = (): void => {
    close();
    goBack();
  };
  const [content, setContent] = useState<Content | null>(null);
  const [refused, setRefused] = useState("");
  const isImage = kind.kind === "image";
  const isPacked = kind.kind !== "image" && kind.isPacked;
  useEffect(() => {
    const request = new AbortController();
    const limit = isImage ? MAX_IMAGE_BYTES : PREVIEW_BYTES;
    const load = async (): Promise<Content> => {
      // One byte more tells whether there are more.
      const query = { path, length: limit + 1 };
      const extent = { limit, keep: "first", signal: request.signal } as const;
      const found = await service.read("files/content", query, extent);
      if (!isPacked) return found;
      const text = await unpack(found.bytes, limit);
      return { bytes: text.bytes, isWhole: text.isWhole && found.isWhole };
    };
    load().then(setContent, (error: unknown) => {
      if (!isAbort(error)) setRefused(asServiceError(error).message);
    });
    return () => {
      request.abort();
    };
  }, [service, path, isImage, isPacked]);
  const name = nameOf(path);
  return (
    // Its button and the parts that scroll have the focus; their Escape is heard here.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <div
      className="cts-request"
      role="group"
      aria-label={tr.__("Preview of %1", name)}
      onKeyDown={onKeys({ Escape: leave })}
    >
      <div className="cts-controls">
        <strong>{name}</strong>
        <button type="button" onClick={leave}>
          {tr.__("Close")}
        </button>
      </div>
      {content === null ? (
        <p role="status">{refused || tr.__("Loading …")}</p>
      ) : kind.kind === "image" ? (
        <Picture content={content} type={kind.type} name={name} />
      ) : kind.kind === "table" ? (
        <Table content={content} separator={kind.separator} name={name} />
      ) : (
        <Text content={content} name={name} />
      )}
    </div>
  );
}

function Picture({ content, type, name }: { content: Content; type: string; name: string }): ReactNode {
  const tr = useTranslator();
  const [url, setUrl] = useState<string | null>(null);
  const [isBroken, setBroken] = useState(false);
  useEffect(() => {
    if (!content.isWhole) return undefined;
    const made = URL.createObjectURL(new Blob([content.bytes], { type }));
    setUrl(made);
    return () => {
      URL.revokeObjectURL(made);
    };
  }, [content, type]);
  if (!content.isWhole) {
    return <p>{tr.__("An image of more than %1 is not shown: download it.", formatSize(MAX_IMAGE_BYTES))}</p>;
  }
  if (isBroken) return <p>{tr.__("The browser cannot show it: it may be no image.")}</p>;
  return url === null ? null : (
    <img
      src={url}
      alt={name}
      onError={() => {
        setBroken(true);
      }}
    />
  );
}

function Table({
  content: { bytes, isWhole },
  separator,
  name,
}: {
  content: Content;
  separator: "\t" | ",";
  name: string;
}): ReactNode {
  const tr = useTranslator();
  const [head = [], ...rows] = parseTable(decode(bytes), separator, isWhole);
  const width = Math.max(head.length, ...rows.map((row) => row.length));
  const isCut = !isWhole || rows.length >= MAX_ROWS - 1 || width > MAX_COLUMNS;
  return (
    <>
      <div className="cts-preview" role="region" tabIndex={0} aria-label={name}>
        <table>
          <thead>
            <tr>
              {head.slice(0, MAX_COLUMNS).map((cell, n) => (
                <th key={n} scope="col">
                  {cell}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, n) => (
              <tr key={n}>
                {row.slice(0, MAX_COLUMNS).map((cell, m) => (
                  <td key={m}>{cell}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {isCut && (
        <p className="cts-faint">
          {tr.__(
            "The first %1 rows of %2 columns",
            number(rows.length),
            number(Math.min(width, MAX_COLUMNS)),
          )}
        </p>
      )}
    </>
  );
}

function Text({ content: { bytes, isWhole }, name }: { content: Content; name: string }): ReactNode {
  const tr = useTranslator();
  return (
    <>
      <pre role="region" tabIndex={0} aria-label={name}>
        {decode(bytes)}
      </pre>
      {!isWhole && <p className="cts-faint">{tr.__("The first %1", formatSize(bytes.length))}</p>}
    </>
  );
}
