// What a form offers to choose from: images, sites, reference data, and the user's latest jobs.

import type {
  AllowedPath,
  Containers,
  Image,
  Images,
  JobPreview,
  Jobs,
  RefData,
  ReferenceData,
  Site,
  Sites,
  WhoAmI,
} from "../api/types";
import { parseDuration } from "../rules/words";
import { type ServiceError, asServiceError } from "../service/errors";
import type { IService } from "../service/port";

/** Jobs that a new one can start from. */
const MAX_JOBS = 20;

export interface Catalogue {
  readonly images: readonly Image[];
  readonly sites: readonly Site[];
  readonly refdata: readonly ReferenceData[];
  /** The latest first. */
  readonly jobs: readonly JobPreview[];
  readonly user: string;
  readonly allowed: readonly AllowedPath[];
}

export const EMPTY_CATALOGUE: Catalogue = {
  images: [],
  sites: [],
  refdata: [],
  jobs: [],
  user: "",
  allowed: [],
};

export interface Loaded {
  readonly catalogue: Catalogue;
  /** Why a part of it is as it was. */
  readonly error: ServiceError | null;
  /** The service itself could not be reached. */
  readonly isAway: boolean;
}

/** Reads each part by itself; one that cannot be read stays as it is known. */
export async function loadCatalogue(service: IService, known: Catalogue): Promise<Loaded> {
  const parts: Promise<Partial<Catalogue>>[] = [
    service.get<Images>("images").then(({ data }) => ({ images: data })),
    service.get<Sites>("sites").then(({ sites }) => ({ sites })),
    service.get<RefData>("refdata").then(({ data }) => ({ refdata: data })),
    service.get<Jobs>("jobs", { limit: MAX_JOBS }).then(({ jobs }) => ({ jobs })),
    service.get<WhoAmI>("whoami").then(({ user, allowed_paths: allowed }) => ({ user, allowed })),
  ];
  let catalogue = known;
  const errors: ServiceError[] = [];
  for (const part of await Promise.allSettled(parts)) {
    if (part.status === "fulfilled") catalogue = { ...catalogue, ...part.value };
    else errors.push(asServiceError(part.reason));
  }
  const unreached = errors.find(({ status }) => status === 0);
  const isAway =
    unreached !== undefined || (errors.length === parts.length && errors.every((e) => e.isOffline));
  return { catalogue, error: unreached ?? errors[0] ?? null, isAway };
}

/** The name by which an image is submitted. */
export function nameOf({ name, tag, digest }: Pick<Image, "name" | "tag" | "digest">): string {
  return tag ? `${name}:${tag}` : `${name}@${digest}`;
}

/** The registered image that a name means, as far as that can be told without the service. */
export function findImage(images: readonly Image[], name: string): Image | undefined {
  const wanted = name.trim();
  const ids = (image: Image): string[] => [
    nameOf(image),
    `${image.name}@${image.digest}`,
    `${nameOf(image)}@${image.digest}`,
    ...(image.tag === "latest" ? [image.name] : []),
  ];
  return images.find((image) =>
    [wanted, `docker.io/${wanted}`, `docker.io/library/${wanted}`].some((id) => ids(image).includes(id)),
  );
}

/** What the containers of the latest complete job of an image used at most, and what they had asked for. */
export interface LastUse {
  readonly memory: number;
  readonly askedMemory: number;
  /** In seconds; absent where the service does not say it. */
  readonly runtime?: number;
  readonly askedRuntime: number;
  readonly cpus: number;
}

/** Null where no such job is known. Rejects with ServiceError. */
export async function loadLastUse(
  service: IService,
  image: string,
  signal: AbortSignal,
): Promise<LastUse | null> {
  const { jobs } = await service.get<Jobs>("jobs", { image, state: "complete", limit: 1 }, signal);
  const [job] = jobs;
  const memory = job?.max_anonymous_memory ?? job?.max_memory;
  if (!job || !memory) return null;
  const runtime = await loadLongest(service, job.id, signal);
  return {
    memory,
    askedMemory: job.job_input.memory,
    ...(runtime > 0 && { runtime }),
    askedRuntime: parseDuration(job.job_input.runtime),
    cpus: job.job_input.cpus,
  };
}

/** How long the longest container of a job ran, in seconds; 0 if that is not known. */
async function loadLongest(service: IService, id: string, signal: AbortSignal): Promise<number> {
  if (!(await service.knows("GET", "/jobs/{job_id}/containers", "detail"))) return 0;
  const { containers } = await service.get<Containers>(
    `jobs/${encodeURIComponent(id)}/containers`,
    { detail: false },
    signal,
  );
  return Math.max(0, ...containers.map(({ wall_seconds: seconds }) => seconds ?? 0));
}

const MEMORY_SPARE = 1.25;
const RUNTIME_SPARE = 2;
const MIN_MEMORY = 100e6;
const MIN_RUNTIME = 300;

/** What to ask for so that a job like the last has some to spare. */
export function withSpare({ memory, runtime }: LastUse): { memory: number; runtime: number | null } {
  return {
    memory: Math.max(MIN_MEMORY, roundUp(memory * MEMORY_SPARE)),
    runtime:
      runtime === undefined ? null : Math.max(MIN_RUNTIME, Math.ceil((runtime * RUNTIME_SPARE) / 300) * 300),
  };
}

/** Up to two digits that say something. */
function roundUp(count: number): number {
  const step = 10 ** Math.max(0, Math.floor(Math.log10(count)) - 1);
  return Math.ceil(count / step) * step;
}
