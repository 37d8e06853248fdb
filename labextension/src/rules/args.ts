// Arguments of a container as they are typed on a command line. As cts_jupyter/notebook/placeholders.py reads them.

import type { InputFilesFormat, ParameterWithFlag } from "../api/types";
import type { Value } from "./spec";

// What \w is to the service: letters and digits of all scripts.
const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const ARGUMENT = new RegExp(`^[${WORD}./][${WORD}./-]*$`, "u");
const FLAG = new RegExp(`^--?[a-zA-Z0-9][${WORD}.-]*=?$`, "u");
const JOINED = new RegExp(`^(--?[a-zA-Z0-9][${WORD}.-]*=)(.+)$`, "us");
const MAX_ARGUMENT = 1024;
const MAX_FLAG = 256;

const WORDS: Readonly<Record<InputFilesFormat, string>> = {
  space_separated_list: "<files>",
  comma_separated_list: "<files:comma>",
  repeat_parameter: "<files:repeat>",
};
const FORMATS = new Map(Object.entries(WORDS).map(([format, word]) => [word, format as InputFilesFormat]));
const MANIFEST = /^<manifest(?::(files|data_ids)(?::(.+))?)?>$/s;
const NUMBER = "<n>";

/** Whether the service takes a text as an argument, a variable's value, or beside a container's number. */
export function isArgument(text: string): boolean {
  return text.length <= MAX_ARGUMENT && ARGUMENT.test(text);
}

export function isFlag(text: string): boolean {
  return text.length <= MAX_FLAG && FLAG.test(text);
}

/** The characters of a text that no argument may have. */
export function forbiddenIn(text: string): string[] {
  const allowed = new RegExp(`[${WORD}./-]`, "u");
  return [...new Set(Array.from(text).filter((char) => !allowed.test(char)))];
}

/** The arguments that a text with spaces, ``--x=4`` or placeholders such as ``<files>`` was meant as; null if it was not. */
export function splitText(text: string): Value[] | null {
  const values: Value[] = [];
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const [, joined = "", joinedRest = ""] = JOINED.exec(word) ?? [];
    const read = readPlaceholder(joined ? joinedRest : word, joined);
    if (read?.kind === "files" && read.format === "repeat_parameter" && !joined) {
      // The flag before it is what is repeated.
      const before = values.pop();
      if (before?.kind !== "text" || !isFlag(before.text)) return null;
      values.push({ ...read, flag: before.text });
    } else if (read) {
      values.push(read);
    } else if (joined && isArgument(joinedRest)) {
      values.push({ kind: "text", text: joined.slice(0, -1) }, { kind: "text", text: joinedRest });
    } else if (isArgument(word) || isFlag(word)) {
      values.push({ kind: "text", text: word });
    } else {
      return null;
    }
  }
  const [only] = values;
  const isItself = values.length === 1 && only?.kind === "text" && only.text === text;
  return values.length === 0 || isItself ? null : values;
}

function readPlaceholder(word: string, flag: string): Value | null {
  const format = FORMATS.get(word);
  if (format) return { kind: "files", flag, format };
  const manifest = MANIFEST.exec(word);
  if (manifest) {
    const [, lines = "files", header = ""] = manifest;
    return { kind: "manifest", flag, format: lines === "data_ids" ? "data_ids" : "files", header };
  }
  const place = word.indexOf(NUMBER);
  if (place < 0) return null;
  const prefix = word.slice(0, place);
  const suffix = word.slice(place + NUMBER.length);
  if (![prefix, suffix].every((part) => part === "" || isArgument(part))) return null;
  return { kind: "number", flag, prefix, suffix };
}

/** The word of a line that is read as this argument; undefined where there is none. */
export function formatArgument(given: string | ParameterWithFlag): string | undefined {
  if (typeof given === "string") return given;
  const { flag = "" } = given;
  // After any other flag it is read as an argument of its own.
  return flag === "" || flag.endsWith("=") ? flag + formatPlaceholder(given) : undefined;
}

function formatPlaceholder(given: ParameterWithFlag): string {
  switch (given.type) {
    case "input_files":
      return WORDS[given.input_files_format ?? "space_separated_list"];
    case "manifest_file": {
      const format = given.manifest_file_format ?? "files";
      if (given.manifest_file_header) return `<manifest:${format}:${given.manifest_file_header}>`;
      return format === "files" ? "<manifest>" : `<manifest:${format}>`;
    }
    case "container_number":
      return `${given.container_num_prefix ?? ""}${NUMBER}${given.container_num_suffix ?? ""}`;
  }
}

/** A word as it is typed into a shell. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : quoteAll(word);
}

/** A text as it is typed into a shell, in quotes. */
export function quoteAll(text: string): string {
  return `'${text.replaceAll("'", `'"'"'`)}'`;
}
