// A draft that can be submitted, and what the service says when it checks it.

import { toDraft } from "../../src/rules/spec";

export const CHECK = "POST jobs/check?all=true&containers=0";
export const CHECKED = {
  containers: [],
  input_file_count: 2,
  input_bytes: 20,
  cpu_hours: 1,
  warnings: [],
  problems: [],
};
export const GOOD = toDraft({
  image: "host/tool:latest",
  cluster: "local",
  input_files: ["data/in/a", "data/in/b"],
  output_dir: "data/out/",
});
