import { describe, expect, it } from "vitest";

import vectors from "../../../tests/vectors/plan.json";
import type { Submission } from "../../src/api/types";
import { planJob } from "../../src/rules/plan";
import {
  EMPTY_DRAFT,
  MEMORY_UNITS,
  RUNTIME_UNITS,
  nextKey,
  toDraft,
  toQuantity,
  toSubmission,
} from "../../src/rules/spec";

interface Case {
  job_input: Submission;
  entrypoint: string[];
  error?: string;
}
const CASES = vectors as unknown as Case[];

describe("a draft", () => {
  it.each(CASES.filter(({ error }) => error === undefined))(
    "stands for what it was made of (%#)",
    ({ job_input: given, entrypoint }) => {
      const back = toSubmission(toDraft(given));
      expect(planJob(back, entrypoint)).toEqual(planJob(given, entrypoint));
      expect(toSubmission(toDraft(back))).toEqual(back);
    },
  );

  it("keeps every field of a submission", () => {
    const whole: Submission = {
      cluster: "kbase",
      image: "host/tool:1",
      params: {
        input_mount_point: "/in",
        output_mount_point: "/out",
        refdata_mount_point: "/ref",
        declobber: true,
        args: [
          "-v",
          { type: "input_files", input_files_format: "repeat_parameter", flag: "-i" },
          { type: "manifest_file", manifest_file_format: "data_ids", manifest_file_header: "id" },
          {
            type: "container_number",
            container_num_prefix: "o_",
            container_num_suffix: ".txt",
            flag: "--out=",
          },
        ],
        environment: { N: { type: "container_number" }, X: "y" },
      },
      num_containers: 2,
      cpus: 3,
      memory: 1_500_000_000,
      runtime: "PT1H30M",
      input_roots: ["data/in"],
      output_dir: "data/out/",
      input_files: [
        { file: "data/in/a", data_id: "1", crc64nvme: "ikLs7sFMNGo=" },
        { file: "data/in/b", data_id: "2" },
      ],
      labels: { study: "soil" },
    };
    expect(toSubmission(toDraft(whole))).toEqual(whole);
  });

  it("is empty but for what is known", () => {
    expect(toDraft({})).toEqual(EMPTY_DRAFT);
    expect(toSubmission(toDraft({ memory: "1.5 GiB" })).memory).toBe(1_610_612_736);
    expect(toDraft({ memory: "much" }).memory.amount).toBe("much");
  });
});

it("says a quantity in whole units where it can", () => {
  expect(toQuantity(90 * 60, RUNTIME_UNITS)).toEqual({ amount: "90", unit: "min" });
  expect(toQuantity(36 * 3600, RUNTIME_UNITS)).toEqual({ amount: "36", unit: "h" });
  expect(toQuantity(40e9, MEMORY_UNITS)).toEqual({ amount: "40", unit: "GB" });
  expect(toQuantity(1_610_612_736, MEMORY_UNITS)).toEqual({ amount: "1610.612736", unit: "MB" });
});

it("gives a new line a key of its own", () => {
  expect(nextKey([])).toBe(0);
  expect(nextKey([{ key: 4 }, { key: 1 }])).toBe(5);
});
