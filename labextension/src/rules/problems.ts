// What is wrong with a draft, and at which field of it: by the rules of the service, as far as they can be known here.

import type { DraftCheck, Problem, RequestValidationDetail, Site } from "../api/types";
import { forbiddenIn, isArgument, isFlag, splitText } from "./args";
import {
  type Draft,
  EMPTY_DRAFT,
  type Label,
  MEMORY_UNITS,
  RUNTIME_UNITS,
  type Value,
  measure,
  toNumber,
  toSubmission,
} from "./spec";
import type { Translator } from "./translator";
import { formatDuration, formatSize, number } from "./words";

/** Files that a job takes. */
export const MAX_FILES = 10_000;
export const MAX_CONTAINERS = 1_000;
export const MAX_CPUS = 256;
const MIN_MEMORY = 1e6;
const MAX_MEMORY = 990e9;
const MAX_HEADER = 1_000;
const MAX_LABELS = 20;
const MAX_LABEL = 256;
const GB = 1e9;
/** Paths that are named one by one. */
const MAX_PATHS = 5;

const PATH = /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]\/[^/]/;
const MOUNT = /^\/(?:[\w.-]+\/)*[\w.-]+\/?$/;
const VARIABLE = /^[A-Z_][A-Z0-9_]{0,255}$/;
const LABEL = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;
// eslint-disable-next-line no-control-regex -- they are what is refused
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** A place in a submission, without the ``body`` at its beginning. */
export type Place = readonly (string | number)[];

/** Something that is not as it must be, or with `isMissing` something that is not filled in yet. */
export interface Fault {
  readonly place: Place;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly isMissing?: true;
  /** The service found it: it may be mended elsewhere, as by computing checksums. */
  readonly isFound?: true;
}

/** What is wrong with a draft as it stands; nothing of this was asked of the service. */
export function faultsOf(draft: Draft, sites: readonly Site[], tr: Translator): Fault[] {
  return [
    ...faultsOfFiles(draft, tr),
    ...missing(["image"], draft.image, tr.__("Choose an image")),
    ...faultsOfArguments(draft, tr),
    ...faultsOfMounts(draft, tr),
    ...faultsOfResources(draft, sites, tr),
    ...faultsOfFolder(draft, tr),
    ...faultsOfLabels(draft.labels, tr),
  ];
}

/** The problems that a service found, besides those that are known to be at the same place. */
export function withProblems(faults: readonly Fault[], found: readonly Problem[]): Fault[] {
  const known = new Set(faults.map(({ place }) => String(place[0])));
  const added = found
    .map(({ loc, message, hint }): Fault => ({ place: loc.slice(1), message, hint, isFound: true }))
    .filter(({ place }) => place.length === 0 || !known.has(String(place[0])));
  return [...faults, ...added];
}

/** Faults of a form that the service refused as a whole. */
export function problemsOf(details: readonly RequestValidationDetail[]): Problem[] {
  return details.map(({ loc, msg }) => ({ loc, message: msg.replace(/^Value error, /, "") }));
}

/** Whether a fault is at a place or within it. */
export function isAt({ place }: Fault, at: Place): boolean {
  return at.every((step, n) => place[n] === step);
}

/** The submission that is checked: the draft with what is known to be wrong put right; null while too little is filled in. */
export function toChecked(draft: Draft, faults: readonly Fault[]): ReturnType<typeof toSubmission> | null {
  const isWrong = (...place: Place): boolean => faults.some((fault) => isAt(fault, place));
  if (["input_files", "input_roots", "image", "output_dir"].some((field) => isWrong(field)) || !draft.site)
    return null;
  const params = isWrong("params")
    ? {
        args: [],
        environment: [],
        inputMount: "/input_files",
        outputMount: "/output_files",
        refdataMount: "",
      }
    : {};
  return toSubmission({
    ...draft,
    ...params,
    ...(isWrong("num_containers") && { containers: EMPTY_DRAFT.containers }),
    ...(isWrong("cpus") && { cpus: EMPTY_DRAFT.cpus }),
    ...(isWrong("memory") && { memory: EMPTY_DRAFT.memory }),
    ...(isWrong("runtime") && { runtime: EMPTY_DRAFT.runtime }),
    ...(isWrong("labels") && { labels: [] }),
  });
}

/** The most that a draft's job can use, in hours of a cpu; NaN while a number is missing. */
export function cpuHours({ cpus, containers, runtime }: Draft): number {
  return (toNumber(cpus) * toNumber(containers) * measure(runtime, RUNTIME_UNITS)) / 3600;
}

/** What a check found out, without its list of problems. */
export type CheckFacts = Pick<DraftCheck, "input_file_count" | "input_bytes" | "cpu_hours" | "warnings">;

function missing(place: Place, text: string, message: string): Fault[] {
  return text.trim() ? [] : [{ place, message, isMissing: true }];
}

function faultsOfFiles({ files, roots, details, args, environment }: Draft, tr: Translator): Fault[] {
  if (!files.length) {
    return [{ place: ["input_files"], message: tr.__("Choose at least one file"), isMissing: true }];
  }
  const faults: Fault[] = [];
  if (files.length > MAX_FILES) {
    const message = tr.__(
      "A job takes at most %1 files, and these are %2",
      number(MAX_FILES),
      number(files.length),
    );
    faults.push({ place: ["input_files"], message, hint: tr.__("Submit them as several jobs") });
  }
  const wrong = files.flatMap((path, index) => (isPath(path) ? [] : [{ path, index }]));
  for (const { path, index } of wrong.slice(0, MAX_PATHS)) {
    const message = tr.__("“%1” is no path of a file: write bucket/folder/file", path);
    faults.push({ place: ["input_files", index], message });
  }
  if (wrong.length > MAX_PATHS) {
    const message = tr.__("%1 more are no paths of files", number(wrong.length - MAX_PATHS));
    faults.push({ place: ["input_files"], message });
  }
  const values = [...args, ...environment].map(({ value }) => value);
  const needsIds = values.some((value) => value.kind === "manifest" && value.format === "data_ids");
  const withId = files.filter((path) => details[path]?.data_id).length;
  if (withId !== files.length && (withId > 0 || needsIds)) {
    faults.push({
      place: ["input_files"],
      message: tr.__("%1 of %2 files have no data ID", number(files.length - withId), number(files.length)),
      hint: tr.__("Paste the paths with their data IDs, a tab between them"),
    });
  }
  roots.forEach((root, index) => {
    if (root && !isPath(`${root.replace(/\/*$/, "")}/x`)) {
      const message = tr.__("“%1” is no folder: write bucket/folder", root);
      faults.push({ place: ["input_roots", index], message });
    }
  });
  return faults;
}

function isPath(path: string): boolean {
  return PATH.test(path) && !CONTROL.test(path) && !/[';]|\/\//.test(path);
}

function faultsOfArguments({ args, environment }: Draft, tr: Translator): Fault[] {
  const faults: Fault[] = [];
  const add = (place: Place, message: string, hint?: string): void => {
    faults.push({ place: ["params", ...place], message, hint });
  };
  args.forEach(({ value }, index) => {
    const place = ["args", index];
    if (value.kind === "text") {
      if (!isArgument(value.text) && !isFlag(value.text)) add(place, explainText(value.text, tr));
      return;
    }
    if (value.flag && !isFlag(value.flag)) {
      add([...place, "flag"], tr.__("“%1” is no flag: write -x, --name or --name=", value.flag));
    } else if (!value.flag && value.kind === "files" && value.format === "repeat_parameter") {
      add([...place, "flag"], tr.__("Say which flag is repeated before each file"));
    }
    faults.push(...faultsOfValue(value, ["params", ...place], tr));
  });
  const names = environment.map(({ name }) => name);
  environment.forEach(({ name, value }, index) => {
    const place = ["environment", name];
    if (!VARIABLE.test(name)) {
      add(place, tr.__("“%1” is no name of a variable: write capital letters, digits and _", name));
    } else if (names.indexOf(name) !== index) {
      add(place, tr.__("%1 is there twice", name));
    }
    if (value.kind === "text" && !isArgument(value.text)) add(place, explainText(value.text, tr));
    if (value.kind === "files" && value.format !== "comma_separated_list") {
      add(place, tr.__("A variable holds its files separated by commas"));
    }
    faults.push(...faultsOfValue(value, ["params", ...place], tr));
  });
  const fileKinds = [...args, ...environment].filter(
    ({ value: { kind } }) => kind === "files" || kind === "manifest",
  );
  if (fileKinds.length > 1) {
    add(
      ["args"],
      tr.__("The files can be given once: as files or as a manifest, in an argument or in a variable"),
    );
  }
  return faults;
}

function explainText(text: string, tr: Translator): string {
  if (!text) return tr.__("Write a word, or remove the line");
  const meant = splitText(text);
  if (meant)
    return tr._n("“%2” is %1 argument of another kind", "“%2” is %1 arguments: split it", meant.length, text);
  const bad = forbiddenIn(text);
  if (!bad.length) return tr.__("“%1”: only flags such as -x or --name begin with -", text);
  const named = bad.map((char) => (char === " " ? tr.__("a space") : char)).join(" ");
  return tr.__("“%1” has %2 in it; a word has letters, digits and . _ / - alone", text, named);
}

function faultsOfValue(value: Value, place: Place, tr: Translator): Fault[] {
  if (
    value.kind === "manifest" &&
    (value.header.length > MAX_HEADER || CONTROL.test(value.header.replaceAll("\t", "")))
  ) {
    return [
      { place, message: tr.__("The first line of a manifest has at most %1 characters", number(MAX_HEADER)) },
    ];
  }
  if (value.kind !== "number") return [];
  return [value.prefix, value.suffix]
    .filter((text) => text && !isArgument(text))
    .map((text) => ({ place, message: explainText(text, tr) }));
}

function faultsOfMounts({ inputMount, outputMount, refdataMount }: Draft, tr: Translator): Fault[] {
  const mounts: [string, string, boolean][] = [
    ["input_mount_point", inputMount, true],
    ["output_mount_point", outputMount, true],
    ["refdata_mount_point", refdataMount, refdataMount !== ""],
  ];
  return mounts
    .filter(([, path, isNeeded]) => isNeeded && !MOUNT.test(path))
    .map(([field, path]) => ({
      place: ["params", field],
      message: tr.__("“%1” is no folder in a container: write /name", path),
    }));
}

function faultsOfResources(draft: Draft, sites: readonly Site[], tr: Translator): Fault[] {
  const faults: Fault[] = [];
  const add = (field: string, message: string, hint?: string): void => {
    faults.push({ place: [field], message, hint });
  };
  const site = sites.find(({ cluster }) => cluster === draft.site);
  const containers = toNumber(draft.containers);
  const cpus = toNumber(draft.cpus);
  const memory = measure(draft.memory, MEMORY_UNITS);
  const runtime = measure(draft.runtime, RUNTIME_UNITS);
  if (!isWhole(containers, 1, MAX_CONTAINERS)) {
    add("num_containers", tr.__("Write a whole number from 1 to %1", number(MAX_CONTAINERS)));
  } else if (draft.files.length > 0 && containers > draft.files.length) {
    add(
      "num_containers",
      tr._n(
        "There is %2 file for %3 containers",
        "There are %2 files for %3 containers",
        draft.files.length,
        number(draft.files.length),
        number(containers),
      ),
      tr.__("Each container needs a file"),
    );
  }
  const mostCpus = site?.cpus_per_node ?? MAX_CPUS;
  if (!isWhole(cpus, 1, Infinity)) {
    add("cpus", tr.__("Write a whole number from 1 to %1", number(mostCpus)));
  } else if (cpus > mostCpus) {
    add(
      "cpus",
      tr.__(
        "%1 has at most %2 for a container; you asked for %3",
        site?.cluster ?? "CTS",
        number(mostCpus),
        number(cpus),
      ),
    );
  }
  const most = site ? Math.min(site.memory_per_node_gb * GB, MAX_MEMORY) : MAX_MEMORY;
  if (!(memory >= MIN_MEMORY)) {
    add("memory", tr.__("Write how much, at least %1", formatSize(MIN_MEMORY)));
  } else if (memory > most) {
    add(
      "memory",
      tr.__(
        "%1 has at most %2 for a container; you asked for %3",
        site?.cluster ?? "CTS",
        formatSize(most),
        formatSize(memory),
      ),
    );
  }
  const longest = (site?.max_runtime_min ?? Infinity) * 60;
  if (!(runtime >= 1)) {
    add("runtime", tr.__("Write how long a container may run, at least 1 s"));
  } else if (runtime > longest) {
    add(
      "runtime",
      tr.__(
        "At %1 a container runs for at most %2; you asked for %3",
        site?.cluster ?? "",
        formatDuration(longest),
        formatDuration(runtime),
      ),
    );
  }
  if (!draft.site) faults.push({ place: ["cluster"], message: tr.__("Choose a site"), isMissing: true });
  else if (site && !(site.active && site.available)) {
    add(
      "cluster",
      tr.__("%1 takes no jobs now: %2", site.cluster, site.unavailable_reason ?? tr.__("it is closed")),
      tr.__("Choose another site"),
    );
  }
  return faults;
}

function isWhole(count: number, least: number, most: number): boolean {
  return Number.isInteger(count) && count >= least && count <= most;
}

function faultsOfFolder({ outputDir }: Draft, tr: Translator): Fault[] {
  if (!outputDir.trim()) return missing(["output_dir"], outputDir, tr.__("Say where outputs are stored"));
  if (isPath(outputDir.trim().replace(/\/*$/, ""))) return [];
  return [{ place: ["output_dir"], message: tr.__("“%1” is no folder: write bucket/folder/", outputDir) }];
}

/** What is wrong with labels. */
export function faultsOfLabels(labels: readonly Label[], tr: Translator): Fault[] {
  const faults: Fault[] = [];
  const names = labels.map(({ name }) => name);
  labels.forEach(({ name, text }, index) => {
    const add = (message: string): void => {
      faults.push({ place: ["labels", name], message });
    };
    if (!LABEL.test(name)) add(tr.__("“%1” is no label: write letters, digits and . _ - alone", name));
    else if (names.indexOf(name) !== index) add(tr.__("%1 is there twice", name));
    if (text.length > MAX_LABEL) add(tr.__("A label's text has at most %1 characters", MAX_LABEL));
  });
  if (labels.length > MAX_LABELS) {
    faults.push({ place: ["labels"], message: tr.__("A job has at most %1 labels", MAX_LABELS) });
  }
  return faults;
}
