import { describe, expect, it } from "vitest";

import type { Site } from "../../src/api/types";
import { faultsOf, isAt, problemsOf, toChecked, withProblems } from "../../src/rules/problems";
import { type Draft, EMPTY_DRAFT, newValue, toDraft } from "../../src/rules/spec";
import { english } from "../../src/rules/translator";

const SITE: Site = {
  cluster: "kbase",
  cpus_per_node: 16,
  memory_per_node_gb: 100,
  max_runtime_min: 60,
  notes: [],
  active: true,
  available: true,
};
const GOOD = toDraft({
  image: "host/tool:1",
  cluster: "kbase",
  input_files: ["data/in/a", "data/in/b"],
  output_dir: "data/out/",
});

function faults(changes: Partial<Draft>, sites = [SITE]): string[] {
  return faultsOf({ ...GOOD, ...changes }, sites, english).map(
    ({ place, message }) => `${place.join("/")}: ${message}`,
  );
}
const args = (...texts: string[]): Draft["args"] =>
  texts.map((text, key) => ({ key, value: { kind: "text", text } }));

describe("faultsOf", () => {
  it("finds nothing wrong with a good draft", () => {
    expect(faults({})).toEqual([]);
  });

  it("says what is not filled in", () => {
    const missing = faultsOf(EMPTY_DRAFT, [SITE], english);
    expect(missing.map(({ place }) => place[0])).toEqual(["input_files", "image", "cluster", "output_dir"]);
    expect(missing.every(({ isMissing }) => isMissing)).toBe(true);
  });

  it.each<[Partial<Draft>, string]>([
    [{ files: ["data/a", "no"] }, "input_files/1: “no” is no path of a file: write bucket/folder/file"],
    [
      { files: Array.from({ length: 10_001 }, (_, n) => `data/${n}`) },
      "input_files: A job takes at most 10,000 files, and these are 10,001",
    ],
    [{ details: { "data/in/a": { data_id: "1" } } }, "input_files: 1 of 2 files have no data ID"],
    [{ roots: ["x"] }, "input_roots/0: “x” is no folder: write bucket/folder"],
    [{ args: args("--x=4") }, "params/args/0: “--x=4” is 2 arguments: split it"],
    [
      { args: args("a", "b;c") },
      "params/args/1: “b;c” has ; in it; a word has letters, digits and . _ / - alone",
    ],
    [{ args: args("") }, "params/args/0: Write a word, or remove the line"],
    [{ args: args("---x") }, "params/args/0: “---x”: only flags such as -x or --name begin with -"],
    [
      { args: [{ key: 0, value: { kind: "files", flag: "", format: "repeat_parameter" } }] },
      "params/args/0/flag: Say which flag is repeated before each file",
    ],
    [
      { args: [{ key: 0, value: { kind: "number", flag: "x", prefix: "", suffix: "" } }] },
      "params/args/0/flag: “x” is no flag: write -x, --name or --name=",
    ],
    [
      { args: [{ key: 0, value: { kind: "number", flag: "", prefix: "a b", suffix: "" } }] },
      "params/args/0: “a b” is 2 arguments: split it",
    ],
    [
      { args: [{ key: 0, value: { kind: "manifest", flag: "", format: "files", header: "a\nb" } }] },
      "params/args/0: The first line of a manifest has at most 1,000 characters",
    ],
    [
      {
        args: [
          { key: 0, value: newValue("files") },
          { key: 1, value: newValue("manifest") },
        ],
      },
      "params/args: The files can be given once: as files or as a manifest, in an argument or in a variable",
    ],
    [
      { environment: [{ key: 0, name: "x", value: newValue("number") }] },
      "params/environment/x: “x” is no name of a variable: write capital letters, digits and _",
    ],
    [
      {
        environment: [
          { key: 0, name: "X", value: newValue("number") },
          { key: 1, name: "X", value: newValue("number") },
        ],
      },
      "params/environment/X: X is there twice",
    ],
    [
      { environment: [{ key: 0, name: "X", value: newValue("files") }] },
      "params/environment/X: A variable holds its files separated by commas",
    ],
    [{ inputMount: "in" }, "params/input_mount_point: “in” is no folder in a container: write /name"],
    [{ containers: "3" }, "num_containers: There are 2 files for 3 containers"],
    [{ containers: "1.5" }, "num_containers: Write a whole number from 1 to 1,000"],
    [{ cpus: "500" }, "cpus: kbase has at most 16 for a container; you asked for 500"],
    [
      { memory: { amount: "1200", unit: "GB" } },
      "memory: kbase has at most 100 GB for a container; you asked for 1.2 TB",
    ],
    [{ memory: { amount: "", unit: "GB" } }, "memory: Write how much, at least 1 MB"],
    [
      { runtime: { amount: "2", unit: "h" } },
      "runtime: At kbase a container runs for at most 1 h; you asked for 2 h",
    ],
    [{ outputDir: "out" }, "output_dir: “out” is no folder: write bucket/folder/"],
    [
      { labels: [{ key: 0, name: "a b", text: "" }] },
      "labels/a b: “a b” is no label: write letters, digits and . _ - alone",
    ],
  ])("finds what is wrong (%#)", (changes, fault) => {
    expect(faults(changes)).toEqual([fault]);
  });

  it("says why a site is closed", () => {
    const closed = { ...SITE, available: false, unavailable_reason: "maintenance" };
    expect(faults({}, [closed])).toEqual(["cluster: kbase takes no jobs now: maintenance"]);
  });
});

describe("toChecked", () => {
  it("puts right what is known to be wrong, so that the rest can be checked", () => {
    const draft = { ...GOOD, args: args("a;b"), cpus: "x", labels: [{ key: 0, name: "?", text: "" }] };
    const checked = toChecked(draft, faultsOf(draft, [SITE], english));
    expect(checked).toMatchObject({ image: "host/tool:1", cpus: 1, input_files: GOOD.files });
    expect(checked).not.toHaveProperty("labels");
    expect(checked?.params).not.toHaveProperty("args");
  });

  it("waits until there is enough", () => {
    expect(toChecked(EMPTY_DRAFT, faultsOf(EMPTY_DRAFT, [], english))).toBeNull();
  });
});

it("adds what the service found at other fields", () => {
  const known = faultsOf({ ...GOOD, cpus: "x" }, [SITE], english);
  const found = withProblems(known, [
    { loc: ["body", "cpus"], message: "of a value that stood in" },
    { loc: ["body", "input_files", 1], message: "has no checksum", hint: "Have it computed" },
  ]);
  expect(found).toHaveLength(2);
  expect(found[1]).toEqual({
    place: ["input_files", 1],
    message: "has no checksum",
    hint: "Have it computed",
    isFound: true,
  });
  expect(found.map((fault) => isAt(fault, ["input_files"]))).toEqual([false, true]);
});

it("reads what the service refused as a whole", () => {
  const detail = { type: "value_error", loc: ["body", "image"], msg: "Value error, Not so" };
  expect(problemsOf([detail])).toEqual([{ loc: ["body", "image"], message: "Not so" }]);
});
