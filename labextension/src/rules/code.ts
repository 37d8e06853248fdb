// A submission as what one writes to submit the same again: a cell, a Python call, or a request. A token is in none of them.

import type { Job, ParameterWithFlag, S3FileWithDataID, Submission } from "../api/types";
import { formatArgument, quoteAll } from "./args";
import type { Language } from "./languages";
import { MEMORY_UNITS, toQuantity } from "./spec";

/** `url` is where jobs are submitted. */
export function formatCode(submission: Submission, language: Language, url: string): string {
  switch (language) {
    case "yaml":
      return formatCell(submission);
    case "python":
      return formatPython(submission);
    case "curl":
      return formatCurl(submission, url);
  }
}

/** What can be submitted again: the checksums that its inputs had then would be those of other files by now. */
export function requestOf({ job_input: request, labels }: Job): Submission {
  const files = request.input_files.map((given: string | S3FileWithDataID) => {
    const { file, data_id: id } = typeof given === "string" ? { file: given, data_id: undefined } : given;
    return { file, ...(id !== undefined && { data_id: id }) };
  });
  const isPlain = files.every((file) => !("data_id" in file));
  return {
    ...request,
    input_files: isPlain ? files.map(({ file }) => file) : files,
    ...(labels && { labels }),
  };
}

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

const DEFAULTS: Readonly<Record<string, Json>> = { num_containers: 1, cpus: 1 };
const DEFAULT_PARAMS: Readonly<Record<string, Json>> = {
  input_mount_point: "/input_files",
  output_mount_point: "/output_files",
  declobber: false,
};

function without(given: object, defaults: Readonly<Record<string, Json>>): Record<string, Json> {
  return Object.fromEntries(
    Object.entries(given as Record<string, Json | undefined>).filter(
      (entry): entry is [string, Json] => entry[1] !== undefined && entry[1] !== defaults[entry[0]],
    ),
  );
}

/** The submission without what goes without saying. */
function shorten({ params, memory, ...rest }: Submission): Record<string, Json> {
  return {
    ...without(rest, DEFAULTS),
    memory: typeof memory === "number" ? formatExactly(memory) : memory,
    params: without(params, DEFAULT_PARAMS),
  };
}

/** ``40GB``, or the number of bytes where it is not a whole number of a unit. */
function formatExactly(bytes: number): string | number {
  const { amount, unit } = toQuantity(bytes, MEMORY_UNITS);
  return /^\d+$/.test(amount) ? amount + unit : bytes;
}

function formatCell(submission: Submission): string {
  const short = shorten(submission);
  const { args } = submission.params;
  const words = args && formatWords(args);
  const params = words ? { ...(short["params"] as object), args: words } : short["params"];
  return `%%cts submit\n${formatYaml({ ...short, params } as Record<string, Json>, "")}`;
}

/** Arguments as the words of a line, such as ``<files>``, where these are read as the same; else undefined. */
function formatWords(args: readonly (string | ParameterWithFlag)[]): string[] | undefined {
  const words = args.map(formatArgument);
  return words.every((word) => word !== undefined) ? words : undefined;
}

const INDENT = "  ";

function formatYaml(tree: Record<string, Json>, indent: string): string {
  return Object.entries(tree)
    .map(([key, value]) => {
      const name = `${indent}${formatScalar(key)}:`;
      if (Array.isArray(value)) {
        const items = value as Json[];
        return items.length
          ? `${name}\n${items.map((item) => `${indent}- ${formatScalar(item)}\n`).join("")}`
          : `${name} []\n`;
      }
      if (typeof value === "object" && value !== null) {
        const inner = formatYaml(value as Record<string, Json>, indent + INDENT);
        return inner ? `${name}\n${inner}` : `${name} {}\n`;
      }
      return `${name} ${formatScalar(value)}\n`;
    })
    .join("");
}

/** JSON is YAML, in which a word that means nothing else needs no quotes; ``$`` stands for a variable in a cell. */
function formatScalar(value: Json): string {
  const text =
    typeof value === "string" && /^[A-Za-z0-9_./<][\w./<>:-]*$/.test(value) && !value.endsWith(":")
      ? value
      : JSON.stringify(value);
  const isNull = typeof value === "string" && /^null$/i.test(value);
  return (isNull ? JSON.stringify(value) : text).replaceAll("$", "$$$$");
}

function formatPython(submission: Submission): string {
  const fields = Object.entries(shorten(submission)).map(
    ([name, value]) => `    ${name}=${formatLiteral(value, "    ")},\n`,
  );
  return `from cts_jupyter import submit\n\njob = submit(\n${fields.join("")})\n`;
}

const WIDTH = 80;

function formatLiteral(value: Json, indent: string): string {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = indent + "    ";
  const items = Array.isArray(value)
    ? (value as Json[]).map((item) => formatLiteral(item, inner))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${formatLiteral(item, inner)}`);
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  const line = `${open}${items.join(", ")}${close}`;
  if (line.length <= WIDTH && !line.includes("\n")) return line;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${close}`;
}

function formatCurl(submission: Submission, url: string): string {
  return [
    `curl ${quoteAll(url)} \\`,
    `  -H "Authorization: Bearer $CTS_TOKEN" \\`,
    "  -H 'Content-Type: application/json' \\",
    // No line of JSON is the word that ends it.
    `  --data @- <<'END'`,
    JSON.stringify(submission, null, 2),
    "END",
    "",
  ].join("\n");
}
