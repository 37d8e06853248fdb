import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { beforeEach, expect, it } from "vitest";

import { JobCard } from "../../src/components/JobCard";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

const EVIL = '<img src=x onerror="window.hacked=1">';

let service: ScriptedService;
let store: JobStore;
beforeEach(() => {
  service = new ScriptedService();
  store = new JobStore(service, new EventStream(service, {}));
});

async function show(id = "a", name = "this Jupyter server"): Promise<HTMLElement> {
  render(<JobCard store={store} id={id} service={name} />);
  return screen.findByRole("region", { name: `CTS job ${id}` });
}

it("shows a finished job with its outputs", async () => {
  service.answers.set(
    "jobs/a",
    preview({ id: "a", state: "complete", max_memory: 2_000_000, cpu_hours: 0.5, cpu_factor: 0.8 }),
  );
  const outputs = [{ file: "data/out/b/c.tsv", crc64nvme: "ikLs7sFMNGo=", job_id: "a" }];
  service.answers.set("jobs/a/outputs", { outputs, jobs: ["a"], open_inputs: 0 });
  const card = within(await show());
  expect(card.getByRole("status").textContent).toBe("Done");
  expect(card.getByText("1 min 15 s")).toBeTruthy();
  expect(
    card.getByText("Used 2 MB of memory at most and 30 min of cpu time (cpu efficiency 80%)"),
  ).toBeTruthy();
  expect(card.getByText("5 files in 1 container · 1 cpu, 40 GB and up to 1 h each · at local")).toBeTruthy();
  expect(card.getByText("1 output in data/out/")).toBeTruthy();
  const link = await card.findByRole("link", { name: "b/c.tsv" });
  expect(link.getAttribute("href")).toBe(`${service.root}files/content?path=data%2Fout%2Fb%2Fc.tsv`);
  expect(card.queryByRole("button", { name: "Cancel" })).toBeNull();
});

it("says what a job waits for, as the site tells it, and no more once it has begun", async () => {
  service.answers.set("jobs/a", preview({ id: "a", state: "created" }));
  const told = { job_id: "a", state: "created", ahead: 212 };
  service.answers.set("sites/local/load", { cluster: "local", waiting: 213, running: 9, jobs: [told] });
  const card = within(await show());
  const line = "Waiting for its turn at local: 212 containers before it";
  expect(await card.findByText(line)).toBeTruthy();
  store.onTransition({ job_id: "a", state: "job_submitted", time: "2026-01-02T03:06:00Z", trans_id: "1" });
  await waitFor(() => {
    expect(card.queryByText(line)).toBeNull();
  });
});

it("shows why a job failed, and text of users as text", async () => {
  const job = preview({ id: "a", user: EVIL, state: "error", error: EVIL, warnings: [EVIL] });
  job.job_input.image = EVIL;
  job.job_input.cluster = EVIL as never;
  job.job_input.output_dir = EVIL;
  service.answers.set("jobs/a", job);
  const failed = {
    number: 0,
    state: "error",
    error: EVIL,
    exit_code: 3,
    transition_times: [],
    inputs: [{ file: EVIL }],
  };
  service.answers.set("jobs/a/containers", { containers: [failed] });
  service.answers.set("jobs/a/log/0/stderr", EVIL);
  service.answers.set("jobs/a/outputs", {
    outputs: [{ file: `${EVIL}/x`, crc64nvme: EVIL, job_id: "a" }],
    jobs: [],
    open_inputs: 0,
  });
  const card = await show("a", EVIL);
  fireEvent.click(within(card).getByText("Logs"));
  await waitFor(() => {
    expect(card.textContent?.split(EVIL).length).toBeGreaterThan(9);
  });
  expect(card.querySelector("img")).toBeNull();
  expect("hacked" in window).toBe(false);
  expect(within(card).getByRole("alert").textContent).toContain("(exit code 3)");
});

it.each([
  [["complete", "error", "error", "error"], "Resubmit these 3 with 16 GB"],
  [["complete", "error"], "Resubmit this one with 16 GB"],
  // The job failed, and no container.
  [["complete", "complete"], "Resubmit what failed with 16 GB"],
])("says how many of %j a click resubmits", async (states, words) => {
  const job = preview({ id: "a", state: "error" });
  service.answers.set("jobs/a", {
    ...job,
    job_input: { ...job.job_input, num_containers: states.length },
  });
  service.answers.set("jobs/a/containers", {
    containers: states.map((state, number) => ({ number, state, transition_times: [] })),
  });
  service.answers.set("jobs/a/why", { state: "error", reasons: [], fix: { failed: true, memory: 16e9 } });
  const card = within(await show());
  expect(await card.findByRole("button", { name: words })).toBeTruthy();
});

it("resubmits what failed with what it lacked, once however often it is sent", async () => {
  service.answers.set("jobs/a", preview({ id: "a", state: "error" }));
  const reason = {
    reason: "Killed",
    containers: [1],
    inputs: ["x"],
    input_count: 1,
    hint: "Ask for more memory",
  };
  const fix = { failed: true, memory: 16_000_000_000, runtime: "PT2H" };
  service.answers.set("jobs/a/why", { state: "error", reasons: [reason], fix });
  const card = within(await show());
  const button = card.getByRole("button", { name: "Resubmit this one with 16 GB and up to 2 h" });
  service.answers.set("POST jobs/a/resubmit", new ServiceError(503, "Away"));
  fireEvent.click(button);
  await card.findByText("Away");
  service.answers.set("POST jobs/a/resubmit", { job_id: "12345678-9" });
  fireEvent.click(button);
  expect((await card.findByText("Resubmitted as 12345678")).textContent).toBeTruthy();
  const [first, second] = service.posted;
  expect(first).toEqual({ path: "jobs/a/resubmit", body: fix, key: second?.key });
  expect(first?.key).toMatch(/^[0-9a-f]{32}$/);
});

it("mends each group of containers by what it lacked, where they lacked different things", async () => {
  const job = preview({ id: "a", state: "error" });
  service.answers.set("jobs/a", { ...job, job_input: { ...job.job_input, num_containers: 4 } });
  service.answers.set("jobs/a/containers", {
    containers: ["complete", "error", "error", "error"].map((state, number) => ({
      number,
      state,
      transition_times: [],
    })),
  });
  const more = { failed: true, memory: 16e9, refresh_inputs: false };
  const refreshed = { failed: true, refresh_inputs: true };
  const reason = { inputs: [], input_count: 0, hint: "" };
  service.answers.set("jobs/a/why", {
    state: "error",
    reasons: [
      { ...reason, reason: "Killed", containers: [1, 3], fix: more },
      { ...reason, reason: "Changed", containers: [2], fix: refreshed },
    ],
    fix: { ...more, refresh_inputs: true },
  });
  const card = within(await show());
  const names = (await card.findAllByRole("button", { name: /^Resubmit th/ })).map((one) => one.textContent);
  expect(names).toEqual([
    "Resubmit these 2 with 16 GB",
    "Resubmit this one with the inputs as they are now",
    "Resubmit these 3 with 16 GB and the inputs as they are now",
  ]);
  service.answers.set("POST jobs/a/resubmit", { job_id: "12345678-9" });
  fireEvent.click(card.getByRole("button", { name: "Resubmit these 2 with 16 GB" }));
  expect(await card.findByText("Resubmitted as 12345678")).toBeTruthy();
  expect(service.posted[0]?.body).toEqual({ ...more, containers: [1, 3] });
  expect(card.getAllByRole("button", { name: /^Resubmit th/ })).toHaveLength(2);
});

it("asks before it cancels, and says what stays", async () => {
  const job = preview({ id: "a" });
  job.job_input.num_containers = 3;
  service.answers.set("jobs/a", job);
  const containers = ["complete", "job_submitted", "job_submitted"].map((state, number) => ({
    number,
    state,
    transition_times: [],
    inputs: [],
  }));
  service.answers.set("jobs/a/containers", { containers });
  service.answers.set("PUT jobs/a/cancel", null);
  const card = within(await show());
  fireEvent.click(card.getByRole("button", { name: "Cancel" }));
  const asking = card.getByRole("alertdialog");
  expect(asking.textContent).toContain(
    "1 of 3 containers are done; their outputs stay. This cannot be undone.",
  );
  const keep = within(asking).getByRole("button", { name: "Keep it running" });
  expect(document.activeElement).toBe(keep);
  fireEvent.keyDown(keep, { key: "Escape" });
  expect(document.activeElement).toBe(card.getByRole("button", { name: "Cancel" }));
  expect(service.asked).not.toContain("PUT jobs/a/cancel");
  fireEvent.click(card.getByRole("button", { name: "Cancel" }));
  fireEvent.click(card.getByRole("button", { name: "Cancel the job" }));
  await waitFor(() => {
    expect(service.asked).toContain("PUT jobs/a/cancel");
  });
});

it("keeps the keys of a notebook's commands away", async () => {
  service.answers.set("jobs/a", preview({ id: "a" }));
  expect((await show()).dataset["lmSuppressShortcuts"]).toBe("true");
});
