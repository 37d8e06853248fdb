import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import axe from "axe-core";
import { beforeEach, expect, it, vi } from "vitest";

import type { Container } from "../../src/api/types";
import { JobCard } from "../../src/components/JobCard";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { preview } from "../jobs";
import { ScriptedLog } from "../service/log";
import { ScriptedService } from "../service/scripted";

const EVIL = '<img src=x onerror="window.hacked=1">';

let service: ScriptedService;
let id: string;
let jobs = 0;
beforeEach(() => {
  // Another one each time: a page remembers which sections of a job are open.
  id = `job-${jobs++}`;
  service = new ScriptedService();
});

function container(number: number, state: string, changes: Partial<Container> = {}): Container {
  return { number, state, transition_times: [], ...changes } as Container;
}

const FAILED = { exit_code: 137, error: EVIL, max_memory: 7_900_000_000, wall_seconds: 60 };

async function show(containers: readonly Container[], state = "error"): Promise<HTMLElement> {
  const job = preview({ id, state: state as never });
  job.job_input.num_containers = containers.length;
  service.answers.set(`jobs/${id}`, job);
  service.answers.set(`jobs/${id}/containers`, ({ after, limit }: { after?: number; limit?: number }) => ({
    containers:
      limit === 1
        ? containers
            .slice((after ?? -1) + 1, (after ?? -1) + 2)
            .map((one) => ({ ...one, inputs: [{ file: EVIL }] }))
        : containers,
  }));
  render(<JobCard store={new JobStore(service, new EventStream(service, {}))} id={id} service="here" />);
  return screen.findByRole("region", { name: `CTS job ${id}` });
}

it("goes from container to container by keys, and opens a log", async () => {
  const containers = [
    container(0, "complete"),
    container(1, "error", FAILED),
    container(2, "complete"),
    container(3, "error"),
  ];
  service.answers.set(`jobs/${id}/log/1/stderr`, new ScriptedLog("out of memory\n").answer);
  service.answers.set(`jobs/${id}/why`, {
    state: "error",
    reasons: [{ containers: [1], inputs: [], input_count: 0, hint: "", stderr: "out of memory" }],
  });
  const card = within(await show(containers));
  const strip = card.getByRole("slider", { name: "Container" });
  expect(strip.getAttribute("aria-valuetext")).toBe("2 of 4 containers done, 2 failed");
  const says = (): string | null => strip.getAttribute("aria-valuetext");
  fireEvent.keyDown(strip, { key: "ArrowRight" });
  expect(says()).toBe("Container 0 of 4: done");
  fireEvent.keyDown(strip, { key: "n" });
  expect(says()).toBe("Container 1 of 4: failed, exit code 137");
  fireEvent.keyDown(strip, { key: "End" });
  expect(says()).toBe("Container 3 of 4: failed");
  fireEvent.keyDown(strip, { key: "n" });
  fireEvent.keyDown(strip, { key: "Enter" });
  const log = await card.findByRole("region", { name: "Log" });
  expect(log.textContent).toContain("out of memory");
  expect(service.asked.some((path) => path.startsWith(`jobs/${id}/log/1/stderr`))).toBe(true);
});

it("has a table with those that failed first, filtered by state, and names inputs on demand", async () => {
  const containers = Array.from({ length: 1000 }, (_, n) =>
    container(n, n === 700 ? "error" : "complete", n === 700 ? FAILED : {}),
  );
  const element = await show(containers);
  const card = within(element);
  fireEvent.click(card.getByText("1,000 containers"));
  const table = await card.findByRole("table");
  const rows = within(table).getAllByRole("row");
  // Of a thousand rows, those in sight.
  expect(rows.length).toBeLessThan(60);
  expect(table.getAttribute("aria-rowcount")).toBe("1001");
  expect(rows[1]?.textContent).toContain("700");
  expect(rows[1]?.textContent).toContain("1371 min7.9 GB");
  fireEvent.change(card.getByLabelText("Containers that are shown"), { target: { value: "failed" } });
  expect(within(table).getAllByRole("row")).toHaveLength(2);
  fireEvent.click(card.getByRole("button", { name: "Container 700" }));
  const detail = card.getByRole("group", { name: "Container 700" });
  expect(await within(detail).findByText(EVIL)).toBeTruthy();
  expect(service.asked).toContain(`jobs/${id}/containers?limit=1&after=699`);
  expect(element.querySelector("img")).toBeNull();
  const { violations } = await axe.run(element, { rules: { region: { enabled: false } } });
  expect(violations).toEqual([]);
});

it("names the inputs of containers, and finds one by a file's name, with whether it failed", async () => {
  const containers = Array.from({ length: 600 }, (_, n) =>
    container(n, n === 444 ? "error" : "complete", n === 444 ? { cpu_seconds: 90, wall_seconds: 60 } : {}),
  );
  const element = await show(containers);
  const files = (n: number): { file: string }[] => [
    { file: `mags/genome-${n}.fna` },
    { file: `mags/${EVIL}-${n}.gff` },
  ];
  let release: () => void = () => undefined;
  service.answers.set(
    `jobs/${id}/containers`,
    async ({ after = -1, limit }: { after?: number; limit: number }) => {
      const page = containers.slice(after + 1, after + 1 + limit);
      // The last page is waited for.
      if (after >= 400) await new Promise<void>((resolve) => (release = resolve));
      const last = page.at(-1)?.number ?? 0;
      return {
        containers: page.map((one) => ({ ...one, inputs: files(one.number) })),
        ...(last < 599 && { next: last }),
      };
    },
  );
  const card = within(element);
  fireEvent.click(card.getByText("600 containers"));
  const table = await card.findByRole("table");
  const finder = await card.findByRole("searchbox", { name: "Find by an input" });
  await waitFor(() => {
    expect(table.textContent).toContain("genome-444.fna and 1 more");
  });
  expect(within(table).getAllByRole("row")[1]?.textContent).toContain("150%");
  fireEvent.change(finder, { target: { value: "GENOME-44" } });
  // 44, 440 to 449.
  expect(await card.findByText("11 containers so far")).toBeTruthy();
  release();
  expect(await card.findByText("11 containers")).toBeTruthy();
  const [, first] = within(table).getAllByRole("row");
  expect(first?.textContent).toMatch(/^444.*Failed.*genome-444\.fna/);
  fireEvent.change(finder, { target: { value: "-444.gff" } });
  expect(await card.findByText("1 container")).toBeTruthy();
  expect(table.textContent).toContain(`${EVIL}-444.gff and 1 more`);
  fireEvent.change(card.getByLabelText("Containers that are shown"), { target: { value: "done" } });
  expect(await card.findByText("0 containers")).toBeTruthy();
  expect(service.asked.filter((path) => path.includes("limit=250"))).toEqual(
    ["", "&after=249", "&after=499"].map((after) => `jobs/${id}/containers?limit=250${after}`),
  );
  expect(element.querySelector("img")).toBeNull();
});

it("says why it does not know the inputs", async () => {
  const card = within(await show([container(0, "complete"), container(1, "complete")]));
  service.answers.set(`jobs/${id}/containers`, new ServiceError(503, "Away"));
  fireEvent.click(card.getByText("2 containers"));
  expect(await card.findByText("Inputs: Away")).toBeTruthy();
  expect(card.queryByRole("searchbox")).toBeNull();
});

it("says that the service does not know a container", async () => {
  const containers = [container(0, "complete"), container(1, "complete")];
  const card = within(await show(containers));
  fireEvent.click(card.getByText("2 containers"));
  await card.findByRole("table");
  service.answers.set(`jobs/${id}/containers`, { containers: [] });
  fireEvent.click(card.getByRole("button", { name: "Container 1" }));
  const detail = within(card.getByRole("group", { name: "Container 1" }));
  expect((await detail.findByRole("alert")).textContent).toMatch(/^The service does not know this container/);
  expect(detail.queryByText("Loading …")).toBeNull();
});

it("moves cells by events, and asks at once for what moved", async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
  const containers = Array.from({ length: 5 }, (_, n) => container(n, "job_submitted"));
  const card = within(await show(containers, "job_submitted"));
  // The job is shown before its containers are known.
  await card.findByRole("slider", { name: "Container" });
  const [stream] = service.streams;
  const asked = (): string[] => service.asked.filter((path) => path.includes("/containers?"));
  containers[3] = container(3, "error", FAILED);
  service.asked.length = 0;
  stream?.event("progress", {
    job_id: id,
    containers: { job_submitted: 4, error: 1 },
    changed: [[3, "error"]],
  });
  expect(await card.findByText("0 of 5 containers done, 1 failed, 4 running")).toBeTruthy();
  expect(asked()).toEqual([]);
  await vi.advanceTimersByTimeAsync(2_100);
  expect(asked()).toEqual([`jobs/${id}/containers?detail=false&after=2&limit=1`]);
  // Too many have moved to be named: all are asked for.
  stream?.event("progress", { job_id: id, containers: { complete: 4, error: 1 }, changed: null });
  await vi.advanceTimersByTimeAsync(2_100);
  expect(asked().at(-1)).toBe(`jobs/${id}/containers?detail=false`);
  vi.useRealTimers();
});
