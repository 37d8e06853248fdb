import { describe, expect, it } from "vitest";

import vectors from "../../../tests/vectors/plan.json";
import { PlanError, type PlanInput, placeFile, planContainer, planJob } from "../../src/rules/plan";

interface Case {
  job_input: PlanInput;
  entrypoint: string[];
  containers?: { argv: string[]; environment: object; files: object; manifest?: object }[];
  error?: string;
}
const CASES = vectors as unknown as Case[];

describe("planJob", () => {
  it.each(CASES)("makes the plan of the deployed service (%#)", (one) => {
    if (one.error !== undefined) {
      expect(() => planJob(one.job_input, one.entrypoint)).toThrow(new PlanError(one.error));
      return;
    }
    const plans = planJob(one.job_input, one.entrypoint);
    const made = plans.map((plan) => ({ ...plan, files: Object.fromEntries(plan.files) }));
    expect(made).toEqual(one.containers?.map((container, number) => ({ ...container, number })));
    expect(plans).toEqual(plans.map(({ number }) => planContainer(one.job_input, one.entrypoint, number)));
  });

  it("has cases that fail and cases that do not", () => {
    expect(CASES).toHaveLength(200);
    expect(CASES.filter(({ error }) => error !== undefined)).toHaveLength(24);
  });
});

describe("placeFile", () => {
  it("takes the longest root, by whole parts", () => {
    expect(placeFile("bucket/a/b/x", ["bucket/a", "bucket/a/b"])).toBe("x");
    expect(placeFile("bucket/ab/x", ["bucket/a"])).toBe("x");
    expect(placeFile("bucket/a/x", [""])).toBe("bucket/a/x");
  });
});
