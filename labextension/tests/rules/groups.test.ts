import { expect, it } from "vitest";

import { arrange } from "../../src/rules/groups";
import { english } from "../../src/rules/translator";
import { preview } from "../jobs";

const NOW = new Date(2026, 0, 2, 12).getTime();

function job(id: string, daysAgo: number, changes = {}): ReturnType<typeof preview> {
  const time = new Date(NOW - daysAgo * 86_400_000).toISOString();
  return preview({ id, transition_times: [{ state: "created", time }], ...changes });
}

function told(
  jobs: ReturnType<typeof preview>[],
  grouping: Parameters<typeof arrange>[1],
  ...opened: string[]
): string[] {
  return arrange(jobs, grouping, new Set(opened), NOW, english).map((item) =>
    item.kind === "group"
      ? `${item.title} (${item.count})`
      : `${" ".repeat(item.depth)}${item.key} ${item.place}`,
  );
}

it("groups by day", () => {
  const lines = told([job("a", 0), job("b", 0), job("c", 1), job("d", 9)], "day");
  expect(lines.slice(0, 5)).toEqual(["Today (2)", "a 1", "b 2", "Yesterday (1)", "c 3"]);
  expect(lines[5]).toMatch(/24.*\(1\)|December.*\(1\)/);
});

it("ends a day at midnight, in whatever order jobs come", () => {
  const at = (id: string, ...time: [number, number, number, number]): ReturnType<typeof preview> => {
    const iso = new Date(2026, 0, ...time).toISOString();
    return preview({ id, transition_times: [{ state: "created", time: iso }] });
  };
  const jobs = [
    at("first", 2, 0, 0, 0),
    at("before", 1, 23, 59, 59),
    at("last", 2, 23, 59, 59),
    at("morning", 1, 0, 0, 0),
  ];
  const lines = ["Today (2)", "first 1", "last 2", "Yesterday (2)", "before 3", "morning 4"];
  expect(told(jobs, "day")).toEqual(lines);
});

it("groups by image and by label", () => {
  const labelled = job("b", 0, { labels: { ana: "c2" } });
  expect(told([job("a", 0)], "image")).toEqual(["host/tool:1 (1)", "a 1"]);
  expect(told([job("a", 0), labelled], "label")).toEqual(["Without a label (1)", "a 1", "ana=c2 (1)", "b 2"]);
});

it("puts resubmissions below what they resubmit, once that is opened", () => {
  const jobs = [
    job("again", 0, { parent_id: "first" }),
    job("third", 0, { parent_id: "again" }),
    job("orphan", 0, { parent_id: "not listed" }),
    job("first", 3),
  ];
  expect(told(jobs, "none")).toEqual(["first 1", "orphan 2"]);
  expect(told(jobs, "none", "first")).toEqual(["first 1", " again 2", " third 3", "orphan 4"]);
  const [first] = arrange(jobs, "none", new Set(), NOW, english);
  expect(first?.kind === "job" && first.again.map(({ id }) => id)).toEqual(["again", "third"]);
});

it("puts a job among those of the day of its latest resubmission", () => {
  const lines = told([job("again", 0, { parent_id: "first" }), job("first", 3)], "day");
  expect(lines).toEqual(["Today (2)", "first 1"]);
});

it("shows jobs that resubmit each other", () => {
  const jobs = [job("a", 0, { parent_id: "b" }), job("b", 0, { parent_id: "a" })];
  expect(told(jobs, "none")).toEqual(["a 1", "b 2"]);
});
