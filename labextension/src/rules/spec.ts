// The draft of a job, as a form holds it, and the submission that it stands for.

import type {
  InputFilesFormat,
  ManifestFileFormat,
  Parameter,
  ParameterWithFlag,
  S3FileWithDataID,
  Submission,
} from "../api/types";
import { parseDuration } from "./words";

/** What stands at one place of a command line, or for a variable, which has no flag. */
export type Value =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "files"; readonly flag: string; readonly format: InputFilesFormat }
  | {
      readonly kind: "manifest";
      readonly flag: string;
      readonly format: ManifestFileFormat;
      readonly header: string;
    }
  | { readonly kind: "number"; readonly flag: string; readonly prefix: string; readonly suffix: string };
export type Kind = Value["kind"];

/** A line of a list; its key stays with it when it is moved. */
interface Line {
  readonly key: number;
}
export interface Argument extends Line {
  readonly value: Value;
}
export interface Variable extends Line {
  readonly name: string;
  readonly value: Value;
}
export interface Label extends Line {
  readonly name: string;
  readonly text: string;
}

/** A number as it is typed, with its unit. */
export interface Quantity {
  readonly amount: string;
  readonly unit: string;
}

/** What is known of an input besides its path. */
export type InputDetails = Omit<S3FileWithDataID, "file">;

/** Numbers are text as long as they are typed. */
export interface Draft {
  readonly image: string;
  readonly site: string;
  readonly files: readonly string[];
  /** By path; a path need not be among the files. */
  readonly details: Readonly<Record<string, InputDetails>>;
  /** Folders below which inputs keep theirs. */
  readonly roots: readonly string[];
  readonly args: readonly Argument[];
  readonly environment: readonly Variable[];
  readonly inputMount: string;
  readonly outputMount: string;
  /** Empty for the image's own. */
  readonly refdataMount: string;
  readonly declobber: boolean;
  readonly containers: string;
  readonly cpus: string;
  readonly memory: Quantity;
  readonly runtime: Quantity;
  readonly outputDir: string;
  readonly labels: readonly Label[];
}

export const EMPTY_DRAFT: Draft = {
  image: "",
  site: "",
  files: [],
  details: {},
  roots: [],
  args: [],
  environment: [],
  inputMount: "/input_files",
  outputMount: "/output_files",
  refdataMount: "",
  declobber: false,
  containers: "1",
  cpus: "1",
  memory: { amount: "1", unit: "GB" },
  runtime: { amount: "1", unit: "h" },
  outputDir: "",
  labels: [],
};

/** Bytes by unit, largest first. */
export const MEMORY_UNITS: Readonly<Record<string, number>> = { TB: 1e12, GB: 1e9, MB: 1e6 };
/** Seconds by unit, largest first. */
export const RUNTIME_UNITS: Readonly<Record<string, number>> = { d: 86_400, h: 3_600, min: 60, s: 1 };

/** The number that a quantity stands for; NaN if it is none. */
export function measure({ amount, unit }: Quantity, units: Readonly<Record<string, number>>): number {
  return toNumber(amount) * (units[unit] ?? NaN);
}

/** A number in the largest unit of which there are whole ones, or else in the smallest. */
export function toQuantity(count: number, units: Readonly<Record<string, number>>): Quantity {
  const names = Object.entries(units);
  const whole = names.find(([, size]) => count >= size && count % size === 0);
  const [unit, size] = whole ?? names.findLast(([, each]) => count >= each) ?? names.at(-1) ?? ["", 1];
  return { amount: String(count / size), unit };
}

/** The number that a text is; NaN for an empty one too. */
export function toNumber(text: string): number {
  return text.trim() === "" ? NaN : Number(text);
}

/** The submission that a draft stands for, valid or not. */
export function toSubmission(draft: Draft): Submission {
  const { args, environment, refdataMount } = draft;
  // An empty root keeps whole paths; among others it is a line that is not written yet.
  const roots = draft.roots.filter((root) => root || draft.roots.length === 1);
  return {
    cluster: draft.site as Submission["cluster"],
    image: draft.image.trim(),
    params: {
      input_mount_point: draft.inputMount,
      output_mount_point: draft.outputMount,
      ...(refdataMount && { refdata_mount_point: refdataMount }),
      declobber: draft.declobber,
      ...(args.length > 0 && { args: args.map(({ value }) => toParameter(value)) }),
      ...(environment.length > 0 && {
        environment: Object.fromEntries(environment.map(({ name, value }) => [name, toParameter(value)])),
      }),
    },
    num_containers: toNumber(draft.containers),
    cpus: toNumber(draft.cpus),
    memory: Math.round(measure(draft.memory, MEMORY_UNITS)),
    runtime: toIso(measure(draft.runtime, RUNTIME_UNITS)),
    ...(roots.length > 0 && { input_roots: roots }),
    output_dir: draft.outputDir.trim(),
    input_files: toFiles(draft),
    ...(draft.labels.length > 0 && { labels: toLabels(draft.labels) }),
  };
}

/** Labels as a job has them. */
export function toLabels(lines: readonly Label[]): Record<string, string> {
  return Object.fromEntries(lines.map(({ name, text }) => [name, text]));
}

/** A job's labels as lines of a form. */
export function toLabelLines(labels: Readonly<Record<string, unknown>>): Label[] {
  return Object.entries(labels).map(([name, text], key) => ({ key, name, text: String(text) }));
}

/** A draft that stands for a submission, or for as much as there is of one. */
export function toDraft(given: Partial<Submission>): Draft {
  const params: Partial<Submission["params"]> = given.params ?? {};
  const files: (string | S3FileWithDataID)[] = given.input_files ?? [];
  return {
    ...EMPTY_DRAFT,
    image: given.image ?? "",
    site: given.cluster ?? "",
    files: files.map((file) => (typeof file === "string" ? file : file.file)),
    details: Object.fromEntries(
      files.flatMap((one) => {
        if (typeof one === "string") return [];
        const { file, ...details } = one;
        return Object.keys(details).length ? [[file, details]] : [];
      }),
    ),
    roots: given.input_roots ?? [],
    args: (params.args ?? []).map((value, key) => ({ key, value: toValue(value) })),
    environment: Object.entries(params.environment ?? {}).map(([name, value], key) => ({
      key,
      name,
      value: toValue(value as string | Parameter),
    })),
    inputMount: params.input_mount_point ?? EMPTY_DRAFT.inputMount,
    outputMount: params.output_mount_point ?? EMPTY_DRAFT.outputMount,
    refdataMount: params.refdata_mount_point ?? "",
    declobber: params.declobber ?? false,
    containers: String(given.num_containers ?? EMPTY_DRAFT.containers),
    cpus: String(given.cpus ?? EMPTY_DRAFT.cpus),
    memory: given.memory === undefined ? EMPTY_DRAFT.memory : toMemory(given.memory),
    runtime:
      given.runtime === undefined
        ? EMPTY_DRAFT.runtime
        : toQuantity(parseDuration(given.runtime), RUNTIME_UNITS),
    outputDir: given.output_dir ?? "",
    labels: toLabelLines(given.labels ?? {}),
  };
}

/** A key that no line of a list has. */
export function nextKey(lines: readonly Line[]): number {
  return Math.max(-1, ...lines.map(({ key }) => key)) + 1;
}

/** A value of a kind, as it is before it is filled in. */
export function newValue(kind: Kind): Value {
  switch (kind) {
    case "text":
      return { kind, text: "" };
    case "files":
      return { kind, flag: "", format: "space_separated_list" };
    case "manifest":
      return { kind, flag: "", format: "files", header: "" };
    case "number":
      return { kind, flag: "", prefix: "", suffix: "" };
  }
}

function toFiles({ files, details }: Draft): string[] | S3FileWithDataID[] {
  if (!files.some((file) => details[file])) return [...files];
  return files.map((file) => ({ file, ...details[file] }));
}

function toParameter(value: Value): string | ParameterWithFlag {
  switch (value.kind) {
    case "text":
      return value.text;
    case "files":
      return { type: "input_files", input_files_format: value.format, ...flagOf(value) };
    case "manifest":
      return {
        type: "manifest_file",
        manifest_file_format: value.format,
        ...(value.header && { manifest_file_header: value.header }),
        ...flagOf(value),
      };
    case "number":
      return {
        type: "container_number",
        ...(value.prefix && { container_num_prefix: value.prefix }),
        ...(value.suffix && { container_num_suffix: value.suffix }),
        ...flagOf(value),
      };
  }
}

function flagOf({ flag }: { flag: string }): { flag?: string } {
  return flag ? { flag } : {};
}

function toValue(given: string | ParameterWithFlag): Value {
  if (typeof given === "string") return { kind: "text", text: given };
  const flag = given.flag ?? "";
  switch (given.type) {
    case "input_files":
      return { kind: "files", flag, format: given.input_files_format ?? "space_separated_list" };
    case "manifest_file":
      return {
        kind: "manifest",
        flag,
        format: given.manifest_file_format ?? "files",
        header: given.manifest_file_header ?? "",
      };
    case "container_number":
      return {
        kind: "number",
        flag,
        prefix: given.container_num_prefix ?? "",
        suffix: given.container_num_suffix ?? "",
      };
  }
}

const SIZE = /^\s*([\d.]+)\s*(?:([kMGTP]?)(i?)B?)?\s*$/i;
const PREFIXES = ["", "k", "m", "g", "t", "p"];

function toMemory(given: string | number): Quantity {
  if (typeof given === "number") return toQuantity(given, MEMORY_UNITS);
  const [, amount = "", prefix = "", binary = ""] = SIZE.exec(given) ?? [];
  const bytes = toNumber(amount) * (binary ? 1024 : 1000) ** PREFIXES.indexOf(prefix.toLowerCase());
  return Number.isNaN(bytes) ? { amount: given, unit: "GB" } : toQuantity(bytes, MEMORY_UNITS);
}

/** ``PT1H30M`` for 5400 seconds. */
function toIso(seconds: number): string {
  const parts: [string, number][] = [
    ["H", Math.floor(seconds / 3600)],
    ["M", Math.floor((seconds % 3600) / 60)],
    ["S", Math.round((seconds % 60) * 1000) / 1000],
  ];
  return `PT${parts.map(([unit, count]) => (count ? `${count}${unit}` : "")).join("") || "0S"}`;
}
