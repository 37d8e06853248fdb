import { expect, it, vi } from "vitest";

import type { JobPreview } from "../../src/api/types";
import { english } from "../../src/rules/translator";
import { ServiceError } from "../../src/service/errors";
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
  reasons.want(job.id);
  reasons.want(job.id);
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

it("asks for the rows that are in sight, the latest first, and again for what failed", async () => {
  const service = new ScriptedService();
  const answers: ((why: unknown) => void)[] = [];
  const ids = ["a", "b", "c", "d", "e"];
  for (const id of ids)
    service.answers.set(`jobs/${id}/why`, () => new Promise((resolve) => answers.push(resolve)));
  const reasons = new Reasons(service);
  const ends = ids.map((id) => reasons.want(id));
  const asked = (): string[] => service.asked.map((path) => path.split("/")[1] ?? "");
  expect(asked()).toEqual(["a", "b"]);
  ends[3]?.();
  await vi.waitUntil(() => answers.length === 2);
  answers[0]?.({ reasons: [] });
  await vi.waitUntil(() => asked().length === 3);
  expect(asked()).toEqual(["a", "b", "e"]);
  // What nobody looks at any more makes room.
  ends[1]?.();
  expect(asked()).toEqual(["a", "b", "e", "c"]);
  service.answers.set("jobs/b/why", new ServiceError(503, "Away"));
  ends[4]?.();
  reasons.want("b");
  await vi.waitUntil(() => asked().at(-1) === "b");
  await new Promise((resolve) => setTimeout(resolve));
  service.answers.set("jobs/b/why", { reasons: [{ reason: "Known", containers: [0] }] });
  reasons.want("b");
  await vi.waitUntil(() => reasons.of(preview({ id: "b", state: "error" }), english) === "Known");
});
