import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import axe from "axe-core";
import { beforeEach, expect, it, vi } from "vitest";

import { JobCard } from "../../src/components/JobCard";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

const EVIL = '<img src=x onerror="window.hacked=1">';

let service: ScriptedService;
const open = vi.fn();
const newJob = vi.fn();
beforeEach(() => {
  open.mockReset();
  newJob.mockReset();
  service = new ScriptedService();
});

let store: JobStore;

async function show(): Promise<HTMLElement> {
  const job = preview({ id: "a", state: "error" });
  const whole = {
    ...job,
    image: { ...job.image, entrypoint: ["tool", "run"] },
    job_input: {
      ...job.job_input,
      num_containers: 2,
      input_files: ["data/a.fna", "data/b.fna"],
      params: { input_mount_point: "/in", output_mount_point: "/out", declobber: false, args: ["x y", EVIL] },
    },
  };
  service.answers.set("jobs/a", whole);
  service.answers.set("jobs/a/containers", {
    containers: ["error", "complete"].map((state, number) => ({ number, state, transition_times: [] })),
  });
  store = new JobStore(service, new EventStream(service, {}));
  render(<JobCard store={store} id="a" service="here" open={open} newJob={newJob} />);
  return screen.findByRole("region", { name: "CTS job a" });
}

it("resubmits what failed, once however often it is sent, and opens it", async () => {
  const card = within(await show());
  service.answers.set("POST jobs/a/resubmit", new ServiceError(503, "Away"));
  const choose = (): void => {
    fireEvent.click(card.getByRole("button", { name: "Resubmit" }));
    fireEvent.click(card.getByRole("menuitem", { name: "Failed only (1)" }));
  };
  choose();
  expect(await card.findByText("Not resubmitted: Away")).toBeTruthy();
  service.answers.set("POST jobs/a/resubmit", { job_id: "12345678-9" });
  choose();
  expect(await card.findByText("Resubmitted as 12345678")).toBeTruthy();
  const [first, second] = service.posted;
  expect(first?.body).toEqual({ failed: true, refresh_inputs: false });
  expect(first?.key).toBe(second?.key);
  fireEvent.click(card.getByRole("button", { name: "Open it" }));
  expect(open).toHaveBeenCalledWith("12345678-9");
});

it("offers nothing that an older service lacks, and says so in its place", async () => {
  service.lacks.add("/jobs/{job_id}/resubmit").add("/jobs/{job_id}/methods").add("/jobs/{job_id}/labels");
  const card = within(await show());
  const names = (): string[] => card.queryAllByRole("menuitem").map(({ textContent }) => textContent ?? "");
  fireEvent.click(card.getByRole("button", { name: "Resubmit" }));
  await waitFor(() => {
    expect(names()).toEqual(["This service resubmits no job by itself", "With changes …"]);
  });
  fireEvent.click(card.getByRole("button", { name: "More" }));
  await waitFor(() => {
    expect(names()).toContain("This service changes no labels");
  });
  expect(names()).toContain("This service writes no paragraph for a paper");
  expect(names()).not.toContain("Paragraph for a paper");
  expect(names()).not.toContain("Labels");
  const sentence = card.getByRole("menuitem", { name: "This service changes no labels" });
  expect(sentence.getAttribute("aria-disabled")).toBe("true");
  fireEvent.click(sentence);
  expect(card.getByRole("menu", { name: "More" })).toBeTruthy();
});

it("changes the labels of a job, with the keys of all jobs offered", async () => {
  service.answers.set("jobs/labels", { keys: ["study", EVIL] });
  service.answers.set("PUT jobs/a/labels", new ServiceError(503, "Away"));
  const element = await show();
  const card = within(element);
  fireEvent.click(card.getByRole("button", { name: "More" }));
  fireEvent.click(card.getByRole("menuitem", { name: "Labels" }));
  const box = within(await card.findByRole("group", { name: "Labels" }));
  fireEvent.click(await box.findByRole("button", { name: "+ Label" }));
  const name = box.getByRole<HTMLInputElement>("combobox", { name: "Label 1: name" });
  expect(box.getByRole<HTMLButtonElement>("button", { name: "Save" }).disabled).toBe(true);
  await waitFor(() => {
    expect([...(name.list?.options ?? [])].map(({ value }) => value)).toEqual(["study", EVIL]);
  });
  fireEvent.change(name, { target: { value: "study" } });
  fireEvent.change(box.getByRole("textbox", { name: "Label 1: value" }), { target: { value: EVIL } });
  fireEvent.click(box.getByRole("button", { name: "Save" }));
  expect(await box.findByText("Not saved: Away")).toBeTruthy();
  service.answers.set("PUT jobs/a/labels", undefined);
  const told = vi.fn();
  store.watchLabels(told);
  fireEvent.click(box.getByRole("button", { name: "Save" }));
  expect(await box.findByText("Saved")).toBeTruthy();
  expect(service.stored.at(-1)).toEqual({ path: "jobs/a/labels", body: { labels: { study: EVIL } } });
  expect(told).toHaveBeenCalledWith("a", { study: EVIL });
  expect(element.textContent).toContain(`study=${EVIL}`);
  expect(element.querySelector("img")).toBeNull();
  const { violations } = await axe.run(element, { rules: { region: { enabled: false } } });
  expect(violations).toEqual([]);
});

it("loses no label that another page set meanwhile, and asks before it replaces one", async () => {
  const card = within(await show());
  const become = (labels: Record<string, string>): void => {
    service.answers.set("jobs/a", { ...preview({ id: "a", state: "error" }), labels });
  };
  service.answers.set("PUT jobs/a/labels", undefined);
  // Not those that the card was loaded with.
  become({ study: "soil" });
  fireEvent.click(card.getByRole("button", { name: "More" }));
  fireEvent.click(card.getByRole("menuitem", { name: "Labels" }));
  const box = within(await card.findByRole("group", { name: "Labels" }));
  const value = await box.findByRole<HTMLInputElement>("textbox", { name: "Label 1: value" });
  expect(value.value).toBe("soil");
  fireEvent.change(value, { target: { value: "water" } });
  become({ study: "soil", batch: "2" });
  const save = (): void => {
    fireEvent.click(box.getByRole("button", { name: "Save" }));
  };
  save();
  expect(await box.findByText("Saved")).toBeTruthy();
  expect(service.stored.at(-1)?.body).toEqual({ labels: { study: "water", batch: "2" } });
  expect(box.getByRole<HTMLInputElement>("textbox", { name: "Label 2: value" }).value).toBe("2");
  become({ study: "sea", batch: "2" });
  fireEvent.change(box.getByRole("textbox", { name: "Label 1: value" }), { target: { value: "ice" } });
  save();
  expect(await box.findByText(/study was changed meanwhile, to “sea”/)).toBeTruthy();
  expect(service.stored).toHaveLength(1);
  save();
  expect(await box.findByText("Saved")).toBeTruthy();
  expect(service.stored.at(-1)?.body).toEqual({ labels: { study: "ice", batch: "2" } });
});

it("takes no more changes of the labels while it saves them", async () => {
  let answer: () => void = vi.fn();
  service.answers.set("PUT jobs/a/labels", new Promise<void>((resolve) => (answer = resolve)));
  const card = within(await show());
  fireEvent.click(card.getByRole("button", { name: "More" }));
  fireEvent.click(card.getByRole("menuitem", { name: "Labels" }));
  const box = within(await card.findByRole("group", { name: "Labels" }));
  fireEvent.click(await box.findByRole("button", { name: "+ Label" }));
  const value = box.getByRole("textbox", { name: "Label 1: value" });
  fireEvent.change(box.getByRole("combobox", { name: "Label 1: name" }), { target: { value: "study" } });
  fireEvent.change(value, { target: { value: "soil" } });
  fireEvent.click(box.getByRole("button", { name: "Save" }));
  expect(value.matches(":disabled")).toBe(true);
  answer();
  expect(await box.findByText("Saved")).toBeTruthy();
  expect(value.matches(":disabled")).toBe(false);
});

it("says why it does not know the labels, and tries again when asked", async () => {
  const card = within(await show());
  service.answers.set("jobs/a", new ServiceError(503, "Away"));
  fireEvent.click(card.getByRole("button", { name: "More" }));
  fireEvent.click(card.getByRole("menuitem", { name: "Labels" }));
  const box = within(await card.findByRole("group", { name: "Labels" }));
  expect(await box.findByText("Away")).toBeTruthy();
  expect(box.queryByRole("button", { name: "Save" })).toBeNull();
  service.answers.set("jobs/a", preview({ id: "a", state: "error" }));
  fireEvent.click(box.getByRole("button", { name: "Try again" }));
  expect(await box.findByRole("button", { name: "Save" })).toBeTruthy();
  expect(box.queryByRole("button", { name: "Try again" })).toBeNull();
});

it("is a menu by keys", async () => {
  const element = await show();
  const card = within(element);
  const button = card.getByRole("button", { name: "Resubmit" });
  fireEvent.click(button);
  const names = (): string[] => card.getAllByRole("menuitem").map(({ textContent }) => textContent ?? "");
  expect(names()).toEqual(["All", "Failed only (1)", "With changes …"]);
  expect(document.activeElement?.textContent).toBe("All");
  const { violations } = await axe.run(element, { rules: { region: { enabled: false } } });
  expect(violations).toEqual([]);
  fireEvent.keyDown(document.activeElement ?? button, { key: "ArrowUp" });
  expect(document.activeElement?.textContent).toBe("With changes …");
  fireEvent.keyDown(document.activeElement ?? button, { key: "Escape" });
  expect(card.queryByRole("menu")).toBeNull();
  expect(document.activeElement).toBe(button);
  fireEvent.click(button);
  fireEvent.click(card.getByRole("menuitem", { name: "With changes …" }));
  expect(newJob).toHaveBeenCalledWith("a");
});

it("shows the request as texts to copy, and text of users as text", async () => {
  const element = await show();
  const card = within(element);
  service.answers.set("jobs/a/methods", "A paragraph.");
  const choose = async (name: string): Promise<string> => {
    fireEvent.click(card.getByRole("button", { name: "More" }));
    fireEvent.click(card.getByRole("menuitem", { name }));
    return (
      (await within(await card.findByRole("group", { name })).findByRole("region", { name })).textContent ??
      ""
    );
  };
  expect(await choose("Command lines")).toBe(`tool run 'x y' '${EVIL}'`);
  expect(await choose("As a %%cts submit cell")).toContain("%%cts submit\n");
  expect(await choose("As Python")).toContain("from cts_jupyter import submit");
  expect(await choose("As curl")).toContain("$CTS_TOKEN");
  expect(await choose("Paragraph for a paper")).toBe("A paragraph.");
  expect(element.querySelector("img")).toBeNull();
  fireEvent.click(card.getByRole("button", { name: "Close" }));
  service.answers.delete("jobs/a/methods");
  fireEvent.click(card.getByRole("button", { name: "More" }));
  fireEvent.click(card.getByRole("menuitem", { name: "Paragraph for a paper" }));
  expect(await card.findByText("This service does not tell it.")).toBeTruthy();
});

it("offers no curl where none reaches the service", async () => {
  service.hasLinks = false;
  const card = within(await show());
  fireEvent.click(card.getByRole("button", { name: "More" }));
  expect(card.getByRole("menuitem", { name: "As Python" })).toBeTruthy();
  expect(card.queryByRole("menuitem", { name: "As curl" })).toBeNull();
});

it("sends the same request after an output was made anew, and says what it made", async () => {
  const card = within(await show());
  service.answers.set("POST jobs/a/resubmit", new ServiceError(0, "Lost"));
  const choose = (): void => {
    fireEvent.click(screen.getByRole("button", { name: "Resubmit" }));
    fireEvent.click(screen.getByRole("menuitem", { name: "All" }));
  };
  const makeAnew = (): void => {
    cleanup();
    render(<JobCard store={store} id="a" service="here" open={open} newJob={newJob} />);
  };
  choose();
  expect(await card.findByText("Not resubmitted: Lost")).toBeTruthy();
  service.answers.set("POST jobs/a/resubmit", { job_id: "12345678-9" });
  makeAnew();
  choose();
  expect(await screen.findByText("Resubmitted as 12345678")).toBeTruthy();
  makeAnew();
  expect(screen.getByText("Resubmitted as 12345678")).toBeTruthy();
  // Whoever asks again now wants another job.
  service.answers.set("POST jobs/a/resubmit", { job_id: "87654321-9" });
  choose();
  expect(await screen.findByText("Resubmitted as 87654321")).toBeTruthy();
  const [first, second, third] = service.posted.map(({ key }) => key);
  expect(first).toBe(second);
  expect(third).not.toBe(second);
});

it("keeps the focus at the menu while it resubmits", async () => {
  const card = within(await show());
  service.answers.set("POST jobs/a/resubmit", () => new Promise(() => undefined));
  fireEvent.click(card.getByRole("button", { name: "Resubmit" }));
  fireEvent.click(card.getByRole("menuitem", { name: "All" }));
  expect(await card.findByText("Submitting …")).toBeTruthy();
  expect(document.activeElement).toBe(card.getByRole("button", { name: "Resubmit" }));
  fireEvent.click(card.getByRole("button", { name: "Resubmit" }));
  fireEvent.click(card.getByRole("menuitem", { name: "All" }));
  expect(service.posted).toHaveLength(1);
});
