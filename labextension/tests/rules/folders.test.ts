import { expect, it } from "vitest";

import { suggestFolder, toolOf } from "../../src/rules/folders";
import { formatPaths, readPaths } from "../../src/rules/paste";

const TIME = new Date(2026, 10, 9, 8, 5);

it("suggests a folder of its own for each job", () => {
  const known = { allowed: [], user: "ana" };
  expect(suggestFolder("ghcr.io/lab/checkm2:1.0", ["cts-io/in/a"], known, TIME)).toBe(
    "cts-io/ana/checkm2/2026-11-09-0805/",
  );
  const allowed = [
    { path: "other/ana", perm: "write" },
    { path: "cts-io/ana", perm: "write" },
    { path: "cts-io", perm: "read" },
  ];
  const own = { allowed, user: "ana" };
  expect(suggestFolder("x/t", ["cts-io/ana/a"], own, TIME)).toBe("cts-io/ana/t/2026-11-09-0805/");
  expect(suggestFolder("x/t", ["cts-io/in/a"], own, TIME)).toBe("other/ana/t/2026-11-09-0805/");
  expect(suggestFolder("", ["cts-io/in/a"], own, TIME)).toBe("");
  expect(suggestFolder("x/t", [], known, TIME)).toBe("");
});

it("names a tool by its image", () => {
  expect(toolOf("ghcr.io/lab/checkm2@sha256:0")).toBe("checkm2");
  expect(toolOf("<img src=x>:1")).toBe("imgsrcx");
});

it("reads pasted paths, with their data IDs", () => {
  const pasted = readPaths("s3://data/a\t1\r\n\n  data/b \ndata/b \ns3://data/a\t1");
  expect(pasted).toEqual({ paths: ["data/a", "data/b "], details: { "data/a": { data_id: "1" } } });
  expect(formatPaths(pasted)).toBe("data/a\t1\ndata/b ");
});
