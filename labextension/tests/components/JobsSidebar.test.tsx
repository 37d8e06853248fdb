import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { beforeEach, expect, it, vi } from "vitest";

import { JobsSidebar } from "../../src/components/JobsSidebar";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { JobList } from "../../src/store/list";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

const EVIL = '<img src=x onerror="window.hacked=1">';

let service: ScriptedService;
let list: JobList;
const open = vi.fn();
beforeEach(() => {
  open.mockReset();
  service = new ScriptedService();
  // jsdom lays nothing out: the list is as high as this says.
  Object.defineProperty(HTMLElement.prototype, "clientHeight", { configurable: true, value: 500 });
});

function show(): void {
  const stream = new EventStream(service, {});
  list = new JobList(service, stream);
  render(
    <JobsSidebar
      store={new JobStore(service, stream)}
      list={list}
      grouping="none"
      setGrouping={() => undefined}
      open={open}
    />,
  );
}

async function rows(): Promise<HTMLElement[]> {
  return within(await screen.findByRole("listbox")).findAllByRole("option");
}

it("says that there are no jobs yet", async () => {
  service.answers.set("jobs", { jobs: [] });
  show();
  expect(await screen.findByText("No jobs yet. In a notebook, %%cts submit makes one.")).toBeTruthy();
});

it("says that none matches, and clears the filters", async () => {
  service.answers.set("jobs", { jobs: [], is_cut: true });
  show();
  fireEvent.change(await screen.findByRole("searchbox"), { target: { value: "nothing" } });
  expect(await screen.findByText("No job matches.")).toBeTruthy();
  expect(screen.getByText("The search looked through the latest jobs alone.")).toBeTruthy();
  fireEvent.click(screen.getByRole("button", { name: "Clear filters" }));
  expect(screen.getByRole<HTMLInputElement>("searchbox").value).toBe("");
});

it.each([
  [new ServiceError(404, "Not found"), "This Jupyter server has no CTS."],
  [new ServiceError(503, "CTS did not start: no disk"), "CTS did not start: no disk."],
  [new ServiceError(401, "Log in"), "Your Jupyter session has ended. Reload the page to sign in again."],
])("says why there is no list: %s", async (error, text) => {
  service.answers.set("jobs", error);
  show();
  expect((await screen.findByRole("alert")).textContent).toBe(text);
});

it("keeps its rows while the service is away, says so, and tries now", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "a" })] });
  service.refusal = new ServiceError(0, "The Jupyter server cannot be reached");
  show();
  await rows();
  expect(await screen.findByText(/The Jupyter server cannot be reached. What you see is from/)).toBeTruthy();
  service.refusal = null;
  fireEvent.click(screen.getByRole("button", { name: "Try now" }));
  expect(await screen.findByText("live")).toBeTruthy();
});

it("shows jobs, text of users as text, and opens them by keys", async () => {
  const evil = preview({ id: "evil", state: "error", error: EVIL, labels: { [EVIL]: EVIL } });
  evil.job_input.image = EVIL;
  const running = preview({ id: "b", containers: { complete: 41, job_submitted: 79 } });
  running.job_input.num_containers = 120;
  service.answers.set("jobs", { jobs: [running, evil] });
  show();
  const options = await rows();
  expect(options[0]?.textContent).toContain("41 of 120");
  expect(options[1]?.textContent).toContain(EVIL);
  expect(document.querySelector("img")).toBeNull();
  const box = screen.getByRole("listbox");
  fireEvent.keyDown(box, { key: "ArrowDown" });
  fireEvent.keyDown(box, { key: "End" });
  expect(box.getAttribute("aria-activedescendant")).toBe(options[1]?.id);
  fireEvent.keyDown(box, { key: "Enter" });
  expect(open).toHaveBeenCalledWith("evil");
  fireEvent.keyDown(box, { key: "/" });
  expect(document.activeElement).toBe(screen.getByRole("searchbox"));
});

it("tells what ended since the last look, until it is seen", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "a", state: "complete" })] });
  service.answers.set("PUT jobs/last_look", null);
  show();
  fireEvent.click(await screen.findByRole("button", { name: "Seen" }));
  await waitFor(() => {
    expect(screen.queryByText(/since you last looked/)).toBeNull();
  });
});
