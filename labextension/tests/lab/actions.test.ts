import { beforeEach, describe, expect, it } from "vitest";

import { type Dialogs, JobActions, type Wanted } from "../../src/lab/actions";
import { english } from "../../src/rules/translator";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

/** A person who answers what a test says, and what they were asked and told. */
class Person implements Dialogs {
  readonly asked: string[] = [];
  readonly told: string[] = [];
  copied = "";
  /** What they choose, by its place or a part of its name. */
  choices: (string | null)[] = [];
  isSure = true;
  letsCopy = true;

  choose(title: string, _: string, items: readonly string[]): Promise<number | null> {
    this.asked.push(`${title}: ${items.join(", ")}`);
    const wanted = this.choices.shift() ?? null;
    return Promise.resolve(wanted === null ? null : items.findIndex((item) => item.includes(wanted)));
  }

  confirm({ text, yes, no }: Parameters<Dialogs["confirm"]>[0]): Promise<boolean> {
    this.asked.push(`${text} [${yes}] [${no}]`);
    return Promise.resolve(this.isSure);
  }

  tell(text: string): void {
    this.told.push(text);
  }

  copy(text: string): Promise<boolean> {
    if (this.letsCopy) this.copied = text;
    return Promise.resolve(this.letsCopy);
  }
}

const ANY: Wanted = { id: null, current: null };

let service: ScriptedService;
let store: JobStore;
let person: Person;
let actions: JobActions;
beforeEach(() => {
  service = new ScriptedService();
  store = new JobStore(service, new EventStream(service, {}));
  person = new Person();
  actions = new JobActions(store, english, person);
});

function answerJobs(...ids: string[]): void {
  service.answers.set("jobs", { jobs: ids.map((id) => preview({ id })) });
}

/** Shows a job, as an open view of it does. */
async function look(job: ReturnType<typeof preview>): Promise<void> {
  service.answers.set(`jobs/${job.id}`, job);
  store.watch(job.id, () => undefined);
  await expect.poll(() => store.view(job.id).job).not.toBeNull();
}

function cancelled(): string[] {
  return service.asked.filter((path) => path.startsWith("PUT"));
}

describe("cancel", () => {
  it("asks which of the live jobs, and whether, and tells that it is done", async () => {
    const job = preview({ id: "b", containers: { complete: 41, job_submitted: 79 } });
    job.job_input.num_containers = 120;
    service.answers.set("jobs", { jobs: [preview({ id: "a" }), job] });
    service.answers.set("PUT jobs/b/cancel", null);
    person.choices = ["b"];
    await actions.cancel(ANY);
    expect(service.asked[0]).toMatch(/^jobs\?state=created.*job_submitted/);
    expect(person.asked).toEqual([
      "Cancel a job: host/tool:1 · Running · a, host/tool:1 · Running · b",
      "Job b (host/tool:1). 41 of 120 containers done, 79 running. Its outputs so far stay. " +
        "This cannot be undone. [Cancel the job] [Keep it running]",
    ]);
    expect(cancelled()).toEqual(["PUT jobs/b/cancel"]);
    expect(person.told).toEqual(["Job b (host/tool:1) is being cancelled"]);
  });

  it("offers the job that one looks at first, while it is live", async () => {
    answerJobs("a", "b");
    await look(preview({ id: "b" }));
    await look(preview({ id: "old", state: "complete" }));
    for (const current of ["b", "old"]) await actions.cancel({ id: null, current });
    expect(person.asked.map((text) => text.replaceAll("host/tool:1 · Running · ", ""))).toEqual([
      "Cancel a job: b, a",
      "Cancel a job: a, b",
    ]);
  });

  it("offers no ended job that a service answers which takes no notice of several states", async () => {
    service.answers.set("jobs", { jobs: [preview({ id: "a" }), preview({ id: "b", state: "complete" })] });
    await actions.cancel(ANY);
    expect(person.asked).toEqual(["Cancel a job: host/tool:1 · Running · a"]);
  });

  it.each([
    ["chooses none", [], true],
    ["keeps it running", ["a"], false],
  ])("does nothing if one %s", async (_, choices, isSure) => {
    answerJobs("a");
    person.choices = choices;
    person.isSure = isSure;
    await actions.cancel(ANY);
    expect(cancelled()).toEqual([]);
    expect(person.told).toEqual([]);
  });

  it("takes the job of its arguments, and asks only whether", async () => {
    service.answers.set("jobs/a", preview({ id: "a" }));
    service.answers.set("PUT jobs/a/cancel", null);
    await actions.cancel({ id: "a", current: null });
    expect(person.asked).toHaveLength(1);
    expect(cancelled()).toEqual(["PUT jobs/a/cancel"]);
  });

  it("says that there is none, and why the service refuses", async () => {
    answerJobs();
    await actions.cancel(ANY);
    service.answers.set("jobs", new ServiceError(503, "CTS is starting"));
    await actions.cancel(ANY);
    expect(person.told).toEqual(["None of your jobs is live.", "Not cancelled: CTS is starting."]);
    expect(person.asked).toEqual([]);
  });
});

describe("copy", () => {
  beforeEach(() => {
    answerJobs("a");
    service.answers.set("jobs/a", {
      ...preview({ id: "a" }),
      job_input: { ...preview().job_input, input_files: [{ file: "data/in/1", crc64nvme: "x" }] },
    });
  });

  it.each([
    ["cell", "%%cts submit\nimage: host/tool:1\n"],
    ["Python", "from cts_jupyter import submit\n"],
    ["curl", "curl 'https://lab.test/user/ana/cts/jobs' "],
  ])("asks for the job and the language, %s", async (language, beginning) => {
    person.choices = ["a", language];
    await actions.copyCode(ANY, null);
    expect(person.asked[1]).toBe("Copy job a as code: a %%cts submit cell, Python, curl");
    expect(person.copied.slice(0, beginning.length)).toBe(beginning);
    expect(person.copied).toContain("data/in/1");
    expect(person.told).toEqual(["Copied job a"]);
  });

  it("offers no curl where no link leads to the service", async () => {
    service.hasLinks = false;
    person.choices = ["a"];
    await actions.copyCode(ANY, null);
    expect(person.asked[1]).toBe("Copy job a as code: a %%cts submit cell, Python");
    expect(person.copied).toBe("");
  });

  it("takes job and language of its arguments", async () => {
    await actions.copyCode({ id: "a", current: null }, "python");
    expect(person.asked).toEqual([]);
    expect(person.copied).toContain("job = submit(");
  });

  it("says that the browser does not let it, and that there is no job", async () => {
    person.letsCopy = false;
    await actions.copyCode({ id: "a", current: null }, "yaml");
    answerJobs();
    await actions.copyCode(ANY, null);
    expect(person.told).toEqual(["Not copied: the browser does not let this page", "You have no jobs yet."]);
  });
});
