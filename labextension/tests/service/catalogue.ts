import type { ScriptedService } from "./scripted";

export const IMAGE = {
  name: "host/tool",
  tag: "latest",
  digest: "sha256:0",
  entrypoint: ["tool", "run"],
  registered_by: "ana",
  registered_on: "2026-01-02T03:04:05Z",
};

export const SITE = {
  cluster: "local",
  cpus_per_node: 8,
  memory_per_node_gb: 64,
  max_runtime_min: 1440,
  notes: [],
  active: true,
  available: true,
};

/** Has a service offer one image and one site. */
export function offer(service: ScriptedService): void {
  service.answers.set("images", { data: [IMAGE] });
  service.answers.set("sites", { sites: [SITE] });
  service.answers.set("refdata", { data: [] });
  service.answers.set("jobs", { jobs: [] });
  service.answers.set("whoami", { user: "ana", roles: [], allowed_paths: [], instance: "1" });
}
