import { act, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import axe from "axe-core";
import { beforeEach, describe, expect, it, vi } from "vitest";

import { Panel } from "../../../src/components/form/Panel";
import { type Draft, EMPTY_DRAFT, toSubmission } from "../../../src/rules/spec";
import { ServiceError } from "../../../src/service/errors";
import { EventStream } from "../../../src/service/stream";
import { DraftStore } from "../../../src/store/draft";
import { JobStore } from "../../../src/store/jobs";
import { preview } from "../../jobs";
import { IMAGE, SITE, offer } from "../../service/catalogue";
import { ScriptedService } from "../../service/scripted";
import { CHECK, CHECKED, GOOD } from "../../store/drafts";

const EVIL = '<img src=x onerror="window.hacked=1">';

// A form is large, and a machine that tests may be busy.
vi.setConfig({ testTimeout: 30_000 });

let service: ScriptedService;
let store: DraftStore;
beforeEach(() => {
  service = new ScriptedService();
  offer(service);
  service.answers.set(CHECK, CHECKED);
  service.answers.set("files", { objects: [], folders: [], left_out: [] });
});

async function show(draft: Draft = EMPTY_DRAFT): Promise<HTMLElement> {
  store = new DraftStore(service, draft);
  const jobs = new JobStore(service, new EventStream(service, {}));
  render(<Panel draft={store} jobs={jobs} service="this Jupyter server" />);
  await waitFor(() => {
    expect(store.view.isLoading).toBe(false);
  });
  const form = document.querySelector("form");
  if (!form) throw new Error("There is no form");
  fireEvent.click(screen.getByText("Write paths"));
  return form;
}

const change = (label: string | RegExp, value: string): void => {
  fireEvent.change(screen.getByLabelText(label), { target: { value } });
};
// By hand: roles of a whole form take a second to compute.
const button = (name: string): HTMLButtonElement => {
  const all = [...document.querySelectorAll("button")];
  const found = all.find(
    (one) => (one.ariaLabel ?? one.getAttribute("aria-label") ?? one.textContent) === name,
  );
  if (!found) throw new Error(`There is no button ${name}`);
  return found;
};
const click = (name: string): void => {
  fireEvent.click(button(name));
};
const sent = (): ReturnType<typeof toSubmission> => toSubmission(store.view.draft);

it("builds every kind of argument and variable", async () => {
  await show();
  change("Paths of files, one a line", "s3://data/in/a\ndata/in/b");
  click("+ Text");
  change("Argument 1, text", "--verbose");
  click("+ Files");
  change("Argument 2: flag before it, if any", "-i");
  change("Argument 2: how files are written", "repeat_parameter");
  click("+ Container number");
  change("Argument 3: text before the number", "out_");
  change("Argument 3: text after the number", ".tsv");
  click("+ Variable");
  change("Variable 1: name", "THREADS");
  change("Variable 1: value", "8");
  const described = screen.getByLabelText("Variable 1: value").getAttribute("aria-describedby") ?? "";
  expect(document.getElementById(described)?.textContent).toMatch(
    /^Values are kept with the form, with the job/,
  );
  click("+ Variable");
  change("Variable 2: name", "NUMBER");
  change("Variable 2: kind of value", "number");
  fireEvent.click(screen.getByLabelText(/Keep the outputs of each container/));
  change("Outputs are taken from", "/out");
  change(/Keep the folders below/, "data/in\n");
  click("+ Label");
  change("Label 1: name", "study");
  change("Label 1: value", "soil");
  expect(sent()).toMatchObject({
    input_files: ["data/in/a", "data/in/b"],
    input_roots: ["data/in"],
    labels: { study: "soil" },
    params: {
      output_mount_point: "/out",
      declobber: true,
      args: [
        "--verbose",
        { type: "input_files", input_files_format: "repeat_parameter", flag: "-i" },
        { type: "container_number", container_num_prefix: "out_", container_num_suffix: ".tsv" },
      ],
      environment: { THREADS: "8", NUMBER: { type: "container_number" } },
    },
  });
});

it("takes a manifest with data IDs", async () => {
  await show();
  change("Paths of files, one a line", "data/in/a\t1\ndata/in/b");
  click("+ Manifest file");
  change("Argument 1: what its lines are", "data_ids");
  change("Argument 1: first line", "id");
  expect(screen.getByLabelText("Paths of files, one a line").getAttribute("aria-invalid")).toBe("true");
  expect(button("1 of 2 files have no data ID")).toBeTruthy();
  change("Paths of files, one a line", "data/in/a\t1\ndata/in/b\t2");
  expect(sent()).toMatchObject({
    input_files: [
      { file: "data/in/a", data_id: "1" },
      { file: "data/in/b", data_id: "2" },
    ],
    params: {
      args: [{ type: "manifest_file", manifest_file_format: "data_ids", manifest_file_header: "id" }],
    },
  });
});

it("splits a command line that was pasted", async () => {
  await show();
  click("+ Text");
  change("Argument 1, text", "--x=4 --in <files>");
  expect(screen.getByText("These are 4 arguments")).toBeTruthy();
  click("Split");
  expect(sent().params.args).toEqual([
    "--x",
    "4",
    "--in",
    { type: "input_files", input_files_format: "space_separated_list" },
  ]);
});

it("moves, adds and removes arguments by keys, and the focus goes with them", async () => {
  await show({ ...GOOD, args: ["a", "b", "c"].map((text, key) => ({ key, value: { kind: "text", text } })) });
  const words = (): unknown => sent().params.args;
  const line = (n: number): HTMLElement => screen.getByLabelText(`Argument ${n}, text`);
  line(3).focus();
  fireEvent.keyDown(line(3), { key: "ArrowUp", altKey: true });
  expect(words()).toEqual(["a", "c", "b"]);
  expect(document.activeElement).toBe(line(2));
  fireEvent.keyDown(line(2), { key: "ArrowDown", altKey: true });
  expect(words()).toEqual(["a", "b", "c"]);
  fireEvent.keyDown(line(3), { key: "Enter" });
  expect(words()).toEqual(["a", "b", "c", ""]);
  expect(document.activeElement).toBe(line(4));
  fireEvent.keyDown(line(1), { key: "Delete" });
  expect(words()).toEqual(["a", "b", "c", ""]);
  fireEvent.keyDown(line(4), { key: "Delete" });
  expect(words()).toEqual(["a", "b", "c"]);
  expect(document.activeElement).toBe(line(3));
  click("Remove argument 1");
  click("Move argument 2 up");
  expect(words()).toEqual(["c", "b"]);
});

it("shows the command line of any container as it is typed", async () => {
  await show({
    ...GOOD,
    containers: "2",
    args: [{ key: 0, value: { kind: "files", flag: "-i", format: "space_separated_list" } }],
  });
  expect((await screen.findByLabelText("Command line of container 0")).textContent).toBe(
    "tool run -i /input_files/a",
  );
  click("Next container");
  expect(screen.getByLabelText("Command line of container 1").textContent).toBe("tool run -i /input_files/b");
  expect(screen.getByText("of 2 gets 1 file and runs")).toBeTruthy();
  act(() => {
    store.change({ files: ["data/in/a", "data/other/a"] });
  });
  expect(await screen.findByText(/collide at path/)).toBeTruthy();
});

it("says what is wrong at each field, and goes there", async () => {
  const problem = { loc: ["body", "output_dir"], message: "Not yours", hint: "You may use data/ana/" };
  service.answers.set(CHECK, {
    ...CHECKED,
    problems: [problem],
    warnings: ["All containers store into one folder"],
  });
  const form = await show({ ...GOOD, cpus: "99" });
  const folder = screen.getByLabelText("Output folder");
  await waitFor(() => {
    expect(folder.getAttribute("aria-invalid")).toBe("true");
  });
  const described = document.getElementById(folder.getAttribute("aria-describedby") ?? "");
  expect(described?.textContent).toBe("Not yours. You may use data/ana/.");
  expect(screen.getByText("✕ 2 problems")).toBeTruthy();
  expect(screen.getByText("All containers store into one folder")).toBeTruthy();
  click("local has at most 8 for a container; you asked for 99");
  expect(document.activeElement).toBe(screen.getByLabelText("CPUs each"));
  fireEvent.submit(form);
  expect(service.asked).not.toContain("POST jobs");
});

it("says what is missing as a mistake only once it is submitted", async () => {
  const form = await show();
  const image = screen.getByLabelText("Image");
  expect(image.getAttribute("aria-invalid")).toBe("false");
  fireEvent.submit(form);
  expect(image.getAttribute("aria-invalid")).toBe("true");
  expect(document.activeElement).toBe(screen.getByLabelText("Paths of files, one a line"));
});

describe("the image", () => {
  it("shows its notes and where its reference data is", async () => {
    const image = {
      ...IMAGE,
      usage_notes: `Give it genomes\n${EVIL}`,
      refdata_id: "r",
      urls: ["javascript:alert(1)", "https://lab.test/x"],
    };
    service.answers.set("images", { data: [image] });
    const status = (cluster: string, state: string): object => ({ cluster, state, transition_times: [] });
    service.answers.set("refdata", {
      data: [
        {
          id: "r",
          file: "data/ref/uniref.gz",
          unpack: true,
          statuses: [status("local", "complete"), status("kbase", "created")],
        },
      ],
    });
    await show(GOOD);
    expect(screen.getByText("tool run", { selector: "code" })).toBeTruthy();
    expect(screen.getByLabelText("Usage notes").textContent).toContain(EVIL);
    expect(screen.getByText("Reference data uniref.gz: ready at local, on its way to kbase")).toBeTruthy();
    expect(screen.getAllByRole("link").map((link) => link.getAttribute("href"))).toEqual([
      "https://lab.test/x",
    ]);
  });

  it("says who may register one that is missing", async () => {
    const image_help = {
      nearest: ["host/tool:latest"],
      contact: "ops@lab.test",
      request: `Please register ${EVIL}`,
      command: "%cts images",
    };
    service.answers.set("images/host/toool", new ServiceError(404, "No image", 40030, { image_help }));
    await show({ ...GOOD, image: "host/toool" });
    expect(await screen.findByText("ops@lab.test may register it. Send them this:")).toBeTruthy();
    expect(document.querySelector("img")).toBeNull();
    click("host/tool:latest");
    expect(sent().image).toBe("host/tool:latest");
  });
});

describe("resources", () => {
  it("shows why a site is closed, and what others have", async () => {
    const closed = {
      ...SITE,
      cluster: "kbase",
      available: false,
      unavailable_reason: "Maintenance until noon",
    };
    service.answers.set("sites", { sites: [SITE, closed] });
    await show();
    expect(
      screen.getByRole<HTMLInputElement>("radio", { name: /kbase Maintenance until noon/ }).disabled,
    ).toBe(true);
    expect(
      screen.getByRole<HTMLInputElement>("radio", { name: /local .*8 CPUs, 64 GB and 1 d/ }).checked,
    ).toBe(true);
  });

  it("offers what the last job used, with some to spare", async () => {
    const last = preview({ id: "a", state: "complete", max_memory: 12e9 });
    service.answers.set("jobs", { jobs: [last] });
    service.answers.set("jobs/a/containers", { containers: [{ wall_seconds: 100 }, { wall_seconds: 1200 }] });
    await show(GOOD);
    expect(await screen.findByText(/used at most 12 GB of 40 GB, and ran 20 min of 1 h/)).toBeTruthy();
    expect(service.asked).toContain("jobs?image=host%2Ftool%3Alatest&state=complete&limit=1");
    click("Ask for 15 GB and 40 min");
    expect(sent()).toMatchObject({ memory: 15e9, runtime: "PT40M" });
  });

  it("says the hours that a job can use", async () => {
    await show({ ...GOOD, containers: "2", cpus: "4", runtime: { amount: "90", unit: "min" } });
    expect(screen.getByText("CPU hours: at most 12 (containers × CPUs × time)")).toBeTruthy();
  });
});

describe("Submit", () => {
  it("makes one job by two clicks, and becomes its card", async () => {
    await show(GOOD);
    await screen.findByText(/Ready to submit/);
    service.answers.set("POST jobs", { job_id: "a" });
    service.answers.set("jobs/a", preview({ id: "a" }));
    const submit = button("Submit 1 container");
    fireEvent.click(submit);
    fireEvent.click(submit);
    const card = await screen.findByRole("region", { name: "CTS job a" });
    expect(card).toBeTruthy();
    expect(service.asked.filter((path) => path === "POST jobs")).toHaveLength(1);
    click("Another job like this");
    expect(sent().input_files).toEqual(GOOD.files);
    expect(sent().output_dir).not.toBe("data/out/");
  });

  it("asks again after a lost answer, and says that there is one job", async () => {
    await show(GOOD);
    await screen.findByText(/Ready to submit/);
    service.answers.set("POST jobs", new ServiceError(0, "The Jupyter server cannot be reached"));
    click("Submit 1 container");
    expect(await screen.findByText(/No answer: .* makes no second one/)).toBeTruthy();
    expect(screen.getByRole<HTMLFieldSetElement>("group", { name: "What runs" }).disabled).toBe(true);
    service.answers.set("POST jobs", { job_id: "12345678-9" });
    service.answers.set("jobs/12345678-9", preview({ id: "12345678-9" }));
    click("Ask again");
    expect(
      await screen.findByText("The answer was lost. The job was submitted once: 12345678."),
    ).toBeTruthy();
    const keys = service.posted.filter(({ path }) => path === "jobs").map(({ key }) => key);
    expect(new Set(keys).size).toBe(1);
  });

  it("waits while the service is away", async () => {
    service.answers.set(CHECK, new ServiceError(0, "The Jupyter server cannot be reached"));
    await show(GOOD);
    expect(await screen.findByText("Offline: nothing is lost. Trying again.")).toBeTruthy();
    expect(button("Submit 1 container").disabled).toBe(true);
  });

  it("says that the service failed, and not that it is offline", async () => {
    service.answers.set(CHECK, new ServiceError(500, "The disk is full"));
    await show(GOOD);
    expect(
      await screen.findByText("The service failed: The disk is full. Nothing is lost. Trying again."),
    ).toBeTruthy();
    expect(screen.queryByText(/^Offline/)).toBeNull();
    expect(button("Submit 1 container").disabled).toBe(true);
  });

  it("says what Jupyter lacks to reach the service", async () => {
    const error = new ServiceError(401, "Jupyter's token for the service is missing", 10000);
    service.answers.set(CHECK, error);
    await show(GOOD);
    expect(
      await screen.findByText("Jupyter's token for the service is missing. Nothing is lost. Trying again."),
    ).toBeTruthy();
  });

  it("looks whether the service is away as soon as the network is", async () => {
    await show(GOOD);
    await screen.findByText(/Ready to submit/);
    fireEvent(window, new Event("offline"));
    await waitFor(() => {
      expect(service.asked.filter((path) => path === "images")).toHaveLength(2);
    });
    // It may be on this machine.
    expect(screen.queryByText(/^Offline/)).toBeNull();
    for (const path of ["images", "sites", "refdata", "jobs", "whoami"]) {
      service.answers.set(path, new ServiceError(0, "The Jupyter server cannot be reached"));
    }
    fireEvent(window, new Event("offline"));
    expect(await screen.findByText("Offline: nothing is lost. Trying again.")).toBeTruthy();
  });

  it("keeps what was found in its place until the next check", async () => {
    const form = await show(GOOD);
    await screen.findByText(/Ready to submit/);
    fireEvent.change(within(form).getByLabelText("Containers"), { target: { value: "2" } });
    expect(screen.getByText("Checking …")).toBeTruthy();
    expect(screen.getByRole("list", { name: "What the check found" })).toBeTruthy();
    expect(button("Check again")).toBeTruthy();
  });

  it("checks again what the service found, and then submits", async () => {
    const problem = { loc: ["body", "input_files", 0], message: "It has no checksum" };
    service.answers.set(CHECK, { ...CHECKED, problems: [problem] });
    const form = await show(GOOD);
    expect(await screen.findByText("✕ 1 problem")).toBeTruthy();
    service.answers.set(CHECK, CHECKED);
    fireEvent.submit(form);
    expect(await screen.findByText(/Ready to submit/)).toBeTruthy();
    expect(service.asked).not.toContain("POST jobs");
    service.answers.set(CHECK, { ...CHECKED, problems: [problem] });
    click("Check again");
    expect(await screen.findByText("✕ 1 problem")).toBeTruthy();
  });

  it("checks again once checksums were computed", async () => {
    const problem = { loc: ["body", "input_files", 0], message: "It has no checksum" };
    service.answers.set(CHECK, { ...CHECKED, problems: [problem] });
    const task = { id: "c", state: "running", files: [{ file: "data/in/a", state: "running" }] };
    service.answers.set("checksums", { tasks: [task] });
    service.answers.set("checksums/c", task);
    const stream = new EventStream(service, {});
    store = new DraftStore(service, GOOD);
    render(<Panel draft={store} jobs={new JobStore(service, stream)} service="this Jupyter server" />);
    expect(await screen.findByText("✕ 1 problem")).toBeTruthy();
    await waitFor(() => {
      expect(service.streams).toHaveLength(1);
    });
    service.answers.set(CHECK, CHECKED);
    service.answers.set("checksums/c", {
      ...task,
      state: "complete",
      files: [{ file: "data/in/a", state: "done", crc64nvme: "x" }],
    });
    service.streams[0]?.event("checksum", { checksums_id: "c", state: "complete", changed: [[0, "done"]] });
    expect(await screen.findByText(/Ready to submit/)).toBeTruthy();
  });

  it("does without a check where a service has none", async () => {
    service.lacks.add("/jobs/check all");
    await show(GOOD);
    expect(await screen.findByText(/This service cannot check a job/)).toBeTruthy();
    service.answers.set("POST jobs", new ServiceError(404, "No checksum", 40010));
    click("Submit 1 container");
    expect(await screen.findByText("Not submitted: No checksum.")).toBeTruthy();
  });

  it("is checked and then sent by Ctrl and Enter", async () => {
    const form = await show(GOOD);
    fireEvent.keyDown(form, { key: "Enter", ctrlKey: true });
    await screen.findByText(/Ready to submit/);
    service.answers.set("POST jobs", { job_id: "a" });
    fireEvent.keyDown(form, { key: "Enter", ctrlKey: true });
    await waitFor(() => {
      expect(store.view.sent.phase).toBe("done");
    });
  });
});

it("checks by Enter in a field, and submits nothing", async () => {
  await show(GOOD);
  await screen.findByText(/Ready to submit/);
  const checks = (): number => service.asked.filter((path) => path === CHECK).length;
  const before = checks();
  // False where the browser does not go on to submit.
  expect(fireEvent.keyDown(screen.getByLabelText("CPUs each"), { key: "Enter" })).toBe(false);
  await waitFor(() => {
    expect(checks()).toBe(before + 1);
  });
  expect(service.asked).not.toContain("POST jobs");
});

it("starts from a job, and resets", async () => {
  const job = preview({ id: "old-1" });
  service.answers.set("jobs", { jobs: [job] });
  service.answers.set("jobs/old-1", { ...job, job_input: { ...job.job_input, input_files: ["data/in/x"] } });
  await show();
  change("Start from a job", "old-1");
  await waitFor(() => {
    expect(sent().input_files).toEqual(["data/in/x"]);
  });
  click("Reset");
  expect(sent().input_files).toEqual([]);
  click("Undo");
  expect(sent().input_files).toEqual(["data/in/x"]);
});

it("shows the submission as code, and copies it", async () => {
  const writeText = vi.fn(() => Promise.resolve());
  vi.stubGlobal("navigator", { clipboard: { writeText } });
  await show(GOOD);
  change("Show as code", "yaml");
  expect(screen.getByLabelText("Code").textContent).toMatch(/^%%cts submit\n/);
  click("Copy the code");
  expect(await screen.findByText("Copied")).toBeTruthy();
  expect(writeText).toHaveBeenCalledWith(screen.getByLabelText("Code").textContent);
  vi.unstubAllGlobals();
});

it("shows text of users as text, and is accessible", async () => {
  service.answers.set("images", { data: [{ ...IMAGE, name: EVIL, usage_notes: EVIL }] });
  const form = await show({
    ...GOOD,
    image: EVIL,
    files: [EVIL, `data/${EVIL}`],
    site: EVIL,
    outputDir: EVIL,
    roots: [EVIL],
    inputMount: EVIL,
    args: [
      { key: 0, value: { kind: "text", text: EVIL } },
      { key: 1, value: { kind: "number", flag: EVIL, prefix: EVIL, suffix: EVIL } },
      { key: 2, value: { kind: "manifest", flag: EVIL, format: "files", header: EVIL } },
    ],
    environment: [{ key: 0, name: EVIL, value: { kind: "text", text: EVIL } }],
    labels: [{ key: 0, name: EVIL, text: EVIL }],
  });
  fireEvent.submit(form);
  expect(within(form).getAllByText(new RegExp("onerror")).length).toBeGreaterThan(5);
  expect(document.querySelector("img")).toBeNull();
  expect("hacked" in window).toBe(false);
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(null);
  // jsdom paints nothing: colours are looked at in a browser.
  const { violations } = await axe.run(form, { rules: { "color-contrast": { enabled: false } } });
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)).toEqual([]);
});
