// Plans the containers of a job: files, arguments, environment and manifest. As cts_core/plan.py, to the same vectors.

import type { JobInput, Parameter, ParameterWithFlag, Parameters, S3FileWithDataID } from "../api/types";
import { nameOf } from "./paths";

/** What one container gets; paths are those inside of it. */
export interface ContainerPlan {
  number: number;
  argv: string[];
  environment: Record<string, string>;
  /** By the input's path in the object store, its path below the input mount point. */
  files: Map<string, string>;
  manifest?: Manifest;
}

/** A file that the service writes into a container's input folder. */
export interface Manifest {
  name: string;
  text: string;
}

/** What a plan needs to know of a job; a job's own `job_input` has it, and a form before it is a job. */
export type PlanInput = Pick<JobInput, "num_containers" | "input_files" | "input_roots"> & {
  params: Partial<Parameters>;
};

/** The job cannot be planned; the message is the service's. */
export class PlanError extends Error {}

interface PlacedFile {
  path: string;
  dataId: string;
  place: string;
}

const INPUT_MOUNT = "/input_files";

/** The plan of one container. Throws PlanError for inputs that collide. */
export function planContainer(job: PlanInput, entrypoint: readonly string[], number: number): ContainerPlan {
  const mount = job.params.input_mount_point ?? INPUT_MOUNT;
  return plan(
    job.params,
    entrypoint,
    number,
    part(placeFiles(job, mount), job.num_containers, number),
    mount,
  );
}

/** The plans of all containers, in the order of their numbers. Throws PlanError for inputs that collide. */
export function planJob(job: PlanInput, entrypoint: readonly string[]): ContainerPlan[] {
  const mount = job.params.input_mount_point ?? INPUT_MOUNT;
  const placed = placeFiles(job, mount);
  return Array.from({ length: job.num_containers }, (_, number) =>
    plan(job.params, entrypoint, number, part(placed, job.num_containers, number), mount),
  );
}

/** The path of an input in its container: without the longest root above it, else its name alone. */
export function placeFile(path: string, roots: readonly string[]): string {
  const above = roots.filter((root) => root === "" || path.startsWith(`${root}/`));
  if (above.length === 0) return nameOf(path);
  const longest = above.reduce((a, b) => (b.length > a.length ? b : a));
  return longest ? path.slice(longest.length + 1) : path;
}

function placeFiles(job: PlanInput, mount: string): PlacedFile[] {
  const taken = new Map<string, [path: string, index: number]>();
  return job.input_files.map((input: string | S3FileWithDataID, index) => {
    const { file: path, data_id: dataId = "" } = typeof input === "string" ? { file: input } : input;
    const place = placeFile(path, job.input_roots ?? []);
    const other = taken.get(place);
    if (other !== undefined) {
      throw new PlanError(
        `Input files '${path}' at index ${index} and '${other[0]}' at index ${other[1]} ` +
          `collide at path '${join(mount, place)}'`,
      );
    }
    taken.set(place, [path, index]);
    return { path, dataId, place };
  });
}

/** The items of one of `count` parts; the first `length % count` parts have one more. */
function part<Item>(items: readonly Item[], count: number, number: number): Item[] {
  const size = Math.floor(items.length / count);
  const extra = items.length % count;
  const start = number * size + Math.min(number, extra);
  return items.slice(start, start + size + (number < extra ? 1 : 0));
}

function plan(
  params: Partial<Parameters>,
  entrypoint: readonly string[],
  number: number,
  files: readonly PlacedFile[],
  mount: string,
): ContainerPlan {
  checkFolders(files, mount);
  const paths = files.map((file) => join(mount, file.place));
  const words = (parameter: Parameter): string[] => {
    switch (parameter.type) {
      case "container_number":
        return [`${parameter.container_num_prefix ?? ""}${number}${parameter.container_num_suffix ?? ""}`];
      case "manifest_file":
        return [join(mount, manifestName(number))];
      case "input_files":
        return parameter.input_files_format === "comma_separated_list" ? [paths.join(",")] : paths;
    }
  };
  const environment = Object.entries(params.environment ?? {}).map(([name, value]): [string, string] => [
    name,
    typeof value === "string" ? value : (words(value as Parameter)[0] ?? ""),
  ]);
  const parameter = parametersOf(params).find(({ type }) => type === "manifest_file");
  return {
    number,
    argv: [...entrypoint, ...(params.args ?? []).flatMap((arg) => argument(arg, words))],
    environment: Object.fromEntries(environment),
    files: new Map(files.map((file) => [file.path, file.place])),
    ...(parameter && { manifest: manifest(parameter, number, files, mount) }),
  };
}

function parametersOf(params: Partial<Parameters>): Parameter[] {
  const values = [...(params.args ?? []), ...Object.values(params.environment ?? {})];
  return values.filter((value): value is Parameter => typeof value !== "string");
}

function argument(arg: string | ParameterWithFlag, words: (parameter: Parameter) => string[]): string[] {
  if (typeof arg === "string") return [arg];
  const values = words(arg);
  if (arg.input_files_format !== "repeat_parameter") return withFlag(arg.flag, values);
  return values.flatMap((value) => withFlag(arg.flag, [value]));
}

function withFlag(flag: string | undefined, values: readonly string[]): string[] {
  if (flag === undefined) return [...values];
  if (!flag.endsWith("=")) return [flag, ...values];
  const [first = "", ...rest] = values;
  return [flag + first, ...rest];
}

function checkFolders(files: readonly PlacedFile[], mount: string): void {
  const byPlace = new Map(files.map((file) => [file.place, file.path]));
  for (const file of files) {
    for (let folder = parent(file.place); folder; folder = parent(folder)) {
      const other = byPlace.get(folder);
      if (other !== undefined) {
        throw new PlanError(
          `Input files '${file.path}' and '${other}' collide: ` +
            `'${join(mount, folder)}' would be both a folder and a file`,
        );
      }
    }
  }
}

// Numbered from 1, as at the deployed service.
function manifestName(number: number): string {
  return `manifest-${number + 1}`;
}

function manifest(
  parameter: Parameter,
  number: number,
  files: readonly PlacedFile[],
  mount: string,
): Manifest {
  const name = manifestName(number);
  if (files.some(({ place }) => place === name || place.startsWith(`${name}/`))) {
    throw new PlanError(
      `An input file of container ${number} collides with its manifest at path ` +
        `'${join(mount, name)}'; give an input root that keeps its folder`,
    );
  }
  const header = parameter.manifest_file_header;
  const lines = files.map((file) =>
    parameter.manifest_file_format === "data_ids" ? file.dataId : join(mount, file.place),
  );
  return { name, text: [...(header === undefined ? [] : [header]), ...lines].join("\n") + "\n" };
}

function join(folder: string, path: string): string {
  return folder.endsWith("/") ? folder + path : `${folder}/${path}`;
}

function parent(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf("/"), 0));
}
