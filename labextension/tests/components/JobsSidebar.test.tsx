import { act, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { beforeEach, describe, expect, it, vi } from "vitest";

import { JobsSidebar } from "../../src/components/JobsSidebar";
import { formatTime } from "../../src/rules/words";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { JobList, MAX_JOBS } from "../../src/store/list";
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

function show(newJob?: (from?: string) => void): { store: JobStore } {
  const stream = new EventStream(service, {});
  const store = new JobStore(service, stream);
  list = new JobList(service, stream, () => store.everybodysStream);
  render(
    <JobsSidebar
      store={store}
      list={list}
      service="kbase"
      grouping="none"
      setGrouping={() => undefined}
      open={open}
      {...(newJob && { newJob })}
    />,
  );
  return { store };
}

async function rows(): Promise<HTMLElement[]> {
  return within(await screen.findByRole("listbox")).findAllByRole("option");
}

it("says that there are no jobs yet", async () => {
  service.answers.set("jobs", { jobs: [] });
  show();
  expect(await screen.findByText("No jobs yet. In a notebook, %%cts submit makes one.")).toBeTruthy();
});

it("shows a job below the list by Space, and the next one by an arrow, until Escape", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "a" }), preview({ id: "b" })] });
  for (const id of ["a", "b"]) service.answers.set(`jobs/${id}`, preview({ id }));
  show();
  const box = await screen.findByRole("listbox");
  box.focus();
  for (const key of ["ArrowDown", " "]) fireEvent.keyDown(box, { key });
  expect(await screen.findByRole("region", { name: "CTS job a" })).toBeTruthy();
  fireEvent.keyDown(box, { key: "ArrowDown" });
  const card = await screen.findByRole("region", { name: "CTS job b" });
  expect(screen.queryByRole("region", { name: "CTS job a" })).toBeNull();
  expect(open).not.toHaveBeenCalled();
  within(card).getByRole("button", { name: "More" }).focus();
  fireEvent.keyDown(document.activeElement ?? card, { key: "Escape" });
  expect(screen.queryByRole("region", { name: /CTS job/ })).toBeNull();
  expect(document.activeElement).toBe(box);
  fireEvent.keyDown(box, { key: " " });
  expect(await screen.findByRole("region", { name: "CTS job b" })).toBeTruthy();
  fireEvent.keyDown(box, { key: "Escape" });
  expect(screen.queryByRole("region", { name: /CTS job/ })).toBeNull();
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

it("says of hits, too, that older jobs were not looked at, and looks further", async () => {
  service.answers.set("jobs", ({ text, before }: { text?: string; before?: string }) => {
    if (text === undefined) return { jobs: [preview({ id: "a" })] };
    if (before === undefined)
      return { jobs: [preview({ id: "a" })], is_cut: true, searched_until: "2026-01-02T00:00:00.000500Z" };
    if (before === "2026-01-02T00:00:00.001Z")
      return {
        jobs: [preview({ id: "a" }), preview({ id: "b" })],
        is_cut: true,
        searched_until: "2025-01-02T00:00:00Z",
      };
    return { jobs: [preview({ id: "c" })] };
  });
  show();
  fireEvent.change(await screen.findByRole("searchbox"), { target: { value: "tool" } });
  const time = formatTime("2026-01-02T00:00:00Z");
  expect(
    await screen.findByText(`The search looked through the latest jobs alone, back to ${time}.`),
  ).toBeTruthy();
  expect(await rows()).toHaveLength(1);
  const look = screen.getByRole("button", { name: "Look further" });
  fireEvent.click(look);
  await waitFor(async () => {
    expect(await rows()).toHaveLength(2);
  });
  fireEvent.click(look);
  await waitFor(async () => {
    expect(await rows()).toHaveLength(3);
  });
  expect(screen.queryByText(/^The search looked/)).toBeNull();
  await waitFor(() => {
    expect(document.activeElement).toBe(screen.getByRole("listbox"));
  });
});

it("offers no search, filters or news of an older service, which would take no notice of them, and says so", async () => {
  service.lacks.add("/jobs text").add("/jobs new");
  service.answers.set("jobs", { jobs: [preview({ id: "a", state: "complete" })] });
  show();
  await rows();
  expect(await screen.findByText(/^This service neither searches nor filters/)).toBeTruthy();
  expect(screen.queryByRole("searchbox")).toBeNull();
  fireEvent.keyDown(screen.getByRole("listbox"), { key: "f" });
  expect(screen.queryByRole("form")).toBeNull();
  expect(screen.queryByText(/since you last looked/)).toBeNull();
  expect(service.asked.filter((path) => path.includes("new=true"))).toEqual([]);
});

it("says where the list ends though there are more jobs", async () => {
  // No stream has it ask for the latest again.
  service.refusal = new ServiceError(0, "Away");
  const jobs = Array.from({ length: MAX_JOBS }, (_, n) => preview({ id: `job-${n}` }));
  service.answers.set("jobs", { jobs, next: "more" });
  show();
  await rows();
  expect(
    screen.getByText("The list ends after 10,000 jobs. A search or filters find older ones."),
  ).toBeTruthy();
  expect(service.asked.some((path) => path.includes("cursor=more"))).toBe(false);
});

it.each([
  [new ServiceError(404, "Not found"), "This Jupyter server has no CTS."],
  [new ServiceError(503, "CTS did not start: no disk"), "CTS did not start: no disk."],
  [new ServiceError(401, "Log in"), "You are signed out of Jupyter. Sign in again"],
])("says why there is no list: %s", async (error, text) => {
  service.answers.set("jobs", error);
  show();
  expect((await screen.findByRole("alert")).textContent).toBe(text);
});

it("keeps its rows for who is signed out, and the page, too: it links to another tab", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "a" })] });
  service.refusal = new ServiceError(401, "Log in");
  show();
  await rows();
  const link = await screen.findByRole<HTMLAnchorElement>("link", { name: "Sign in again" });
  expect([link.href, link.target]).toEqual([location.href, "_blank"]);
  expect(screen.getByText("signed out")).toBeTruthy();
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

it("forgets the chosen job once it is no longer listed", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "a" }), preview({ id: "b" })] });
  show();
  await rows();
  const box = screen.getByRole("listbox");
  fireEvent.keyDown(box, { key: "End" });
  expect(document.getElementById(box.getAttribute("aria-activedescendant") ?? "")).toBeTruthy();
  service.answers.set("jobs", { jobs: [preview({ id: "a" })] });
  list.reload();
  await waitFor(() => {
    expect(box.hasAttribute("aria-activedescendant")).toBe(false);
  });
  fireEvent.keyDown(box, { key: "Enter" });
  expect(open).not.toHaveBeenCalled();
});

it("says in a row what a job waits for, and forgets what it waited for in another state", async () => {
  const turn = preview({ id: "turn", state: "created" });
  const held = preview({ id: "held", state: "created", waits_for: "On hold at the site: why" });
  service.answers.set("jobs", { jobs: [turn, held] });
  const jobs = [{ job_id: "turn", state: "created", ahead: 0 }];
  service.answers.set("sites/local/load", { cluster: "local", waiting: 1, running: 9, jobs });
  show();
  await rows();
  expect(await screen.findByText("Waiting for its turn at local: it is next")).toBeTruthy();
  expect(screen.getByText("On hold at the site: why")).toBeTruthy();
  list.onTransition({ job_id: "held", state: "job_submitted", time: "2026-01-02T03:06:00Z", trans_id: "1" });
  await waitFor(() => {
    expect(screen.queryByText("On hold at the site: why")).toBeNull();
  });
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

it("offers the labels of listed jobs, and the keys of those of all jobs", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "a", labels: { ana: EVIL } })] });
  service.answers.set("jobs/labels", { keys: ["study"] });
  show();
  await rows();
  fireEvent.click(screen.getByRole("button", { name: "Filters" }));
  const label = screen.getByLabelText<HTMLInputElement>("Label");
  await waitFor(() => {
    expect([...(label.list?.options ?? [])].map(({ value }) => value)).toEqual([`ana=${EVIL}`, "study="]);
  });
});

it("shows the labels that a job is given in the page", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "a" })] });
  service.answers.set("PUT jobs/a/labels", undefined);
  const { store } = show();
  const [row] = await rows();
  await act(() => store.setLabels("a", { study: EVIL }));
  expect(row?.textContent).toContain(`study=${EVIL}`);
});

it("filters by what is chosen in the menu, says how many filters there are, and clears them", async () => {
  service.answers.set("jobs", { jobs: [preview({ id: "a", labels: { ana: EVIL } })] });
  service.answers.set("sites", { sites: [{ cluster: "kbase" }] });
  show();
  await rows();
  const button = screen.getByRole("button", { name: "Filters" });
  fireEvent.click(button);
  const menu = screen.getByRole("form", { name: "Filters" });
  expect(document.activeElement).toBe(within(menu).getByLabelText("Done"));
  fireEvent.click(within(menu).getByLabelText("Failed"));
  fireEvent.click(within(menu).getByLabelText("Cancelled"));
  fireEvent.change(within(menu).getByLabelText("Label"), { target: { value: `ana=${EVIL}` } });
  fireEvent.change(within(menu).getByLabelText("From"), { target: { value: "2026-01-01" } });
  await within(menu).findByRole("option", { name: "kbase" });
  fireEvent.change(within(menu).getByLabelText("Site"), { target: { value: "kbase" } });
  expect(screen.getByRole("button", { name: "4 filters" })).toBe(button);
  await waitFor(() => {
    expect(decodeURIComponent(service.asked.join(" "))).toMatch(/state=\S+,error,\S+,canceled&/);
  });
  expect(document.querySelector("img")).toBeNull();
  fireEvent.click(within(menu).getByRole("button", { name: "Clear" }));
  expect(button.textContent).toContain("Filters");
  fireEvent.keyDown(menu, { key: "Escape" });
  expect(screen.queryByRole("form")).toBeNull();
  expect(document.activeElement).toBe(button);
});

it("shows the largest reason of a failed job", async () => {
  const job = preview({ id: "a", state: "error", error: "One or more containers failed" });
  job.job_input.num_containers = 40;
  service.answers.set("jobs", { jobs: [job] });
  service.answers.set("jobs/a/why", { reasons: [{ reason: EVIL, containers: [1, 2, 3] }] });
  show();
  expect(await screen.findByText(`3 of 40 failed: ${EVIL}`)).toBeTruthy();
  expect(document.querySelector("img")).toBeNull();
});

it("folds resubmissions below their job, and unfolds them by keys and by the mouse", async () => {
  const jobs = [preview({ id: "again", state: "complete", parent_id: "first" }), preview({ id: "first" })];
  service.answers.set("jobs", { jobs });
  show();
  expect(await rows()).toHaveLength(1);
  const folded = screen.getByText(/1 resubmission, latest: Done/);
  const box = screen.getByRole("listbox");
  fireEvent.keyDown(box, { key: "ArrowDown" });
  fireEvent.keyDown(box, { key: "ArrowRight" });
  expect(await rows()).toHaveLength(2);
  fireEvent.keyDown(box, { key: "ArrowDown" });
  fireEvent.keyDown(box, { key: "ArrowLeft" });
  expect(await rows()).toHaveLength(1);
  fireEvent.click(folded);
  expect(await rows()).toHaveLength(2);
  expect(open).not.toHaveBeenCalled();
});

it("cancels by a key once it is confirmed, and resubmits by a key", async () => {
  const newJob = vi.fn();
  service.answers.set("jobs", { jobs: [preview({ id: "a" })] });
  service.answers.set("PUT jobs/a/cancel", null);
  show(newJob);
  await rows();
  const box = screen.getByRole("listbox");
  fireEvent.keyDown(box, { key: "c" });
  expect(screen.queryByRole("alertdialog")).toBeNull();
  fireEvent.keyDown(box, { key: "ArrowDown" });
  fireEvent.keyDown(box, { key: "c" });
  const keep = screen.getByRole("button", { name: "Keep it running" });
  expect(document.activeElement).toBe(keep);
  fireEvent.keyDown(keep, { key: "Escape" });
  expect(service.asked).not.toContain("PUT jobs/a/cancel");
  expect(document.activeElement).toBe(box);
  fireEvent.keyDown(box, { key: "c" });
  fireEvent.click(screen.getByRole("button", { name: "Cancel the job" }));
  await waitFor(() => {
    expect(screen.queryByRole("alertdialog")).toBeNull();
  });
  expect(service.asked).toContain("PUT jobs/a/cancel");
  fireEvent.keyDown(box, { key: "r" });
  expect(newJob).toHaveBeenCalledWith("a");
});

it("counts what ended since the last look by how it ended, shows it, and all again once it is seen", async () => {
  const failed = preview({ id: "f", state: "error" });
  const done = preview({ id: "d", state: "complete" });
  const marks = { isSeen: false, hasMore: false };
  service.answers.set("jobs", ({ new: isNew }: { new?: boolean }) => ({
    jobs: !isNew ? [preview({ id: "live" }), failed, done] : marks.isSeen ? [] : [failed, done],
    ...(isNew && marks.hasMore && { next: "c" }),
  }));
  service.answers.set("PUT jobs/last_look", () => {
    marks.isSeen = true;
  });
  show();
  expect(await screen.findByText("2 ended since you last looked: 1 failed, 1 done")).toBeTruthy();
  expect(await rows()).toHaveLength(3);
  marks.hasMore = true;
  list.reload();
  const more = "More than 2 ended since you last looked; of the latest: 1 failed, 1 done";
  expect(await screen.findByText(more)).toBeTruthy();
  marks.hasMore = false;
  fireEvent.click(screen.getByRole("button", { name: "Show" }));
  await waitFor(async () => {
    expect(await rows()).toHaveLength(2);
  });
  fireEvent.click(screen.getByRole("button", { name: "1 filter" }));
  expect(
    screen.getByRole<HTMLInputElement>("checkbox", { name: "Ended since you last looked" }).checked,
  ).toBe(true);
  fireEvent.click(screen.getByRole("button", { name: "Seen" }));
  await waitFor(async () => {
    expect(await rows()).toHaveLength(3);
  });
  expect(screen.queryByText(/ended since you last looked/)).toBeNull();
});

describe("everybody's jobs", () => {
  const ADMIN = { user: "ana", roles: ["full_admin"] };
  beforeEach(() => {
    service.answers.set("jobs", { jobs: [preview({ id: "mine" })] });
    service.answers.set("admin/jobs", {
      jobs: [preview({ id: "his", user: "bob", state: "error", error: "why" }), preview({ id: "mine" })],
    });
  });

  it("are shown to an admin, with their users, of whom one may be chosen", async () => {
    service.answers.set("whoami", ADMIN);
    const newJob = vi.fn();
    show(newJob);
    expect((await rows())[0]?.textContent).not.toContain("ana");
    fireEvent.click(await screen.findByRole("checkbox", { name: "Everybody's jobs" }));
    await waitFor(async () => {
      expect((await rows()).map((row) => /(bob|ana) · /.exec(row.textContent ?? "")?.[1])).toEqual([
        "bob",
        "ana",
      ]);
    });
    expect(service.asked.filter((path) => path.includes("/why"))).toEqual([]);
    const box = screen.getByRole("listbox");
    fireEvent.keyDown(box, { key: "Home" });
    fireEvent.keyDown(box, { key: "r" });
    expect(newJob).not.toHaveBeenCalled();
    fireEvent.keyDown(box, { key: "End" });
    fireEvent.keyDown(box, { key: "r" });
    expect(newJob).toHaveBeenCalledWith("mine");
    fireEvent.click(screen.getByRole("button", { name: "Filters" }));
    fireEvent.change(screen.getByLabelText("User"), { target: { value: "bob" } });
    await waitFor(() => {
      expect(service.asked.some((path) => path.startsWith("admin/jobs") && path.includes("user=bob"))).toBe(
        true,
      );
    });
  });

  it("have a line on what waits and runs at each site of live ones", async () => {
    service.answers.set("whoami", ADMIN);
    const load = { cluster: "local", waiting: 212, running: 96, cpus_free: 3, jobs: [] };
    service.answers.set("sites/local/load", load);
    show();
    const box = await screen.findByRole("checkbox", { name: "Everybody's jobs" });
    expect(screen.queryByText(/212 waiting/)).toBeNull();
    fireEvent.click(box);
    expect(await screen.findByText("local: 212 waiting, 96 running, 3 cpus free")).toBeTruthy();
  });

  it("say that they are asked for now and then where the service tells no events of theirs", async () => {
    service.answers.set("whoami", ADMIN);
    service.answers.set("", {});
    service.lacks.add("/admin/events");
    show();
    fireEvent.click(await screen.findByRole("checkbox", { name: "Everybody's jobs" }));
    expect(await screen.findByText(/^Asked for now and then/)).toBeTruthy();
  });

  it.each([
    ["a user who is no admin", { user: "ana", roles: [] }, ""],
    ["a service that does not list them", ADMIN, "/admin/jobs"],
  ])("are not offered, nor asked for: %s", async (_, whoami, lacks) => {
    service.answers.set("whoami", whoami);
    service.lacks.add(lacks);
    show();
    await rows();
    await waitFor(() => {
      expect(service.asked).toContain("whoami");
    });
    await new Promise((resolve) => setTimeout(resolve));
    expect(screen.queryByRole("checkbox", { name: "Everybody's jobs" })).toBeNull();
    expect(service.asked.filter((path) => path.includes("admin"))).toEqual([]);
  });
});
