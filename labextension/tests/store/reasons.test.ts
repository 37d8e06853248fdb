import { expect, it, vi } from "vitest";

import type { JobPreview } from "../../src/api/types";
import { english } from "../../src/rules/translator";
import { Reasons } from "../../src/store/reasons";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

function failed(containers: number): JobPreview {
  const job = preview({ id: "a", state: "error", error: "One or more containers failed" });
  job.job_input.num_containers = containers;
  return job;
}

async function told(job: JobPreview, answer: unknown): Promise<string> {
  const service = new ScriptedService();
  if (answer !== null) service.answers.set("jobs/a/why", answer);
  const reasons = new Reasons(service);
  expect(reasons.of(job, english)).toBe("One or more containers failed");
  const came = vi.fn();
  reasons.watch(came);
  reasons.want(job);
  reasons.want(job);
  await new Promise((resolve) => setTimeout(resolve));
  expect(service.asked).toEqual(["jobs/a/why"]);
  expect(came).toHaveBeenCalledTimes(answer === null ? 0 : 1);
  return reasons.of(job, english);
}

it("tells the reason of most containers", async () => {
  const reasons = [
    { exit_code: 137, containers: [1, 5, 7] },
    { reason: "Other", containers: [2] },
  ];
  expect(await told(failed(40), { reasons })).toBe("3 of 40 failed: exit code 137");
  const one = [{ reason: "It was killed for memory", exit_code: 137, containers: [0] }];
  expect(await told(failed(1), { reasons: one })).toBe("It was killed for memory");
});

it("tells the job's own error where the service says no more", async () => {
  expect(await told(failed(1), { reasons: [] })).toBe("One or more containers failed");
  expect(await told(failed(1), null)).toBe("One or more containers failed");
});
