import { expect, it } from "vitest";

import { adopt, findClashes, mergeLabels } from "../../src/rules/labels";

it("keeps what others changed beside what was changed here", () => {
  const before = { study: "soil", batch: "1", old: "x", theirs: "x" };
  const wanted = { study: "water", batch: "1", theirs: "x", mine: "new" };
  const now = { study: "soil", batch: "2", old: "x", added: "y" };
  expect(mergeLabels(before, wanted, now)).toEqual({ study: "water", batch: "2", added: "y", mine: "new" });
  expect(findClashes(before, wanted, now)).toEqual([]);
});

it("tells of labels that were changed to something else here and by others", () => {
  const before = { study: "soil", gone: "x", same: "1" };
  const wanted = { study: "water", same: "2", added: "a" };
  const now = { study: "sea", gone: "y", same: "2", added: "b" };
  expect(findClashes(before, wanted, now).sort()).toEqual(["added", "gone", "study"]);
  expect(findClashes(before, wanted, before)).toEqual([]);
});

it("takes one label as it is now, and no other", () => {
  const now = { study: "sea", batch: "2", added: "b" };
  const before = { study: "soil", batch: "1", gone: "x" };
  expect(adopt(before, "study", now)).toEqual({ ...before, study: "sea" });
  expect(adopt(before, "gone", now)).toEqual({ study: "soil", batch: "1" });
});
