// What of a file can be looked at in the page, and how a table is read.

import { nameOf } from "./paths";

/** The bytes that are read for a text or a table, and those that an image may have. */
export const PREVIEW_BYTES = 262_144;
export const MAX_IMAGE_BYTES = 10_000_000;
/** Rows and columns of a table that are shown. */
export const MAX_ROWS = 200;
export const MAX_COLUMNS = 50;

export type PreviewKind =
  | { readonly kind: "table"; readonly separator: "\t" | ","; readonly isPacked: boolean }
  | { readonly kind: "text"; readonly isPacked: boolean }
  | { readonly kind: "image"; readonly type: string };

const IMAGES: Readonly<Record<string, string>> = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
};
const TEXTS = new Set(
  (
    "txt log md json jsonl yaml yml xml html htm svg py r sh fa faa ffn fna fasta fastq fq gff gff3 gbk gb bed vcf sam " +
    "nwk tree newick hmm out err ini cfg toml"
  ).split(" "),
);

/** How a file of this name is shown; null for one that is not. An image is told by its name alone, and never drawn of SVG. */
export function previewOf(path: string): PreviewKind | null {
  const name = nameOf(path).toLowerCase();
  const isPacked = name.endsWith(".gz");
  const parts = (isPacked ? name.slice(0, -3) : name).split(".");
  const extension = parts.length > 1 ? (parts.at(-1) ?? "") : "";
  const image = IMAGES[extension];
  if (image !== undefined) return isPacked ? null : { kind: "image", type: image };
  if (extension === "tsv" || extension === "tab") return { kind: "table", separator: "\t", isPacked };
  if (extension === "csv") return { kind: "table", separator: ",", isPacked };
  return TEXTS.has(extension) ? { kind: "text", isPacked } : null;
}

/** The cells of a table's first rows. A value may stand in quotes, which are doubled within it, if commas separate. */
export function parseTable(text: string, separator: "\t" | ",", isWhole: boolean): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let isQuoted = false;
  const endRow = (): void => {
    row.push(cell);
    rows.push(row);
    row = [];
    cell = "";
  };
  for (let n = 0; n < text.length && rows.length < MAX_ROWS; n += 1) {
    const char = text[n] ?? "";
    if (isQuoted) {
      if (char !== '"') cell += char;
      else if (text[n + 1] === '"') {
        cell += char;
        n += 1;
      } else isQuoted = false;
    } else if (char === '"' && separator === "," && cell === "") isQuoted = true;
    else if (char === separator) {
      row.push(cell);
      cell = "";
    } else if (char === "\n") endRow();
    else if (char !== "\r") cell += char;
  }
  // A last row without an end may be a part of one.
  if ((cell || row.length) && isWhole && rows.length < MAX_ROWS) endRow();
  return rows;
}
