import type { JobPreview } from "../src/api/types";

/** A job as the service answers it. */
export function preview(changes: Partial<JobPreview> = {}): JobPreview {
  const state = changes.state ?? "job_submitted";
  return {
    id: "8f31c0aa-0000-4000-8000-000000000000",
    user: "ana",
    transition_times: [
      { state: "created", time: "2026-01-02T03:04:05Z" },
      { state, time: "2026-01-02T03:05:20Z" },
    ],
    image: { name: "host/tool", digest: "sha256:0" },
    input_file_count: 5,
    job_input: {
      image: "host/tool:1",
      cluster: "local",
      params: {},
      num_containers: 1,
      cpus: 1,
      memory: 40_000_000_000,
      runtime: "PT1H",
      output_dir: "data/out/",
    },
    ...changes,
    state,
  } as JobPreview;
}
