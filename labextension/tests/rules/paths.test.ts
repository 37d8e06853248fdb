import { expect, it } from "vitest";

import { commonPrefix, nameOf, parentOf, trailOf } from "../../src/rules/paths";

it.each([
  ["b/", "", "b/"],
  ["b/in/", "b/", "in/"],
  ["b/in/x.gz", "b/in/", "x.gz"],
  ["b//x", "b//", "x"],
])("splits %s", (path, parent, name) => {
  expect([parentOf(path), nameOf(path)]).toEqual([parent, name]);
});

it("leads from a root to a folder", () => {
  expect(trailOf("b/ana/in/", ["c/", "b/ana/"])).toEqual(["b/ana/", "b/ana/in/"]);
  expect(trailOf("b/", ["b/"])).toEqual(["b/"]);
  expect(trailOf("d/", ["b/"])).toEqual([]);
});

it("finds what all texts begin with", () => {
  expect(commonPrefix(["b/a1", "b/a2", "b/a"])).toBe("b/a");
  expect(commonPrefix(["b/a"])).toBe("b/a");
  expect(commonPrefix(["x", "y"])).toBe("");
  expect(commonPrefix([])).toBe("");
});
