import { expect, it } from "vitest";

import { suggestFolder, toolOf } from "../../src/rules/folders";
import { formatPaths, readPaths } from "../../src/rules/paste";

const BEGUN = { time: new Date(2026, 10, 9, 8, 5, 7), mark: "7c1f" };

it("suggests a folder of its own for each job", () => {
  const known = { allowed: [], user: "ana" };
  expect(suggestFolder("ghcr.io/lab/checkm2:1.0", ["cts-io/in/a"], known, BEGUN)).toBe(
    "cts-io/ana/checkm2/2026-11-09-080507-7c1f/",
  );
  const allowed = [
    { path: "other/ana", perm: "write" },
    { path: "cts-io/ana", perm: "write" },
    { path: "cts-io", perm: "read" },
  ];
  const own = { allowed, user: "ana" };
  expect(suggestFolder("x/t", ["cts-io/ana/a"], own, BEGUN)).toBe("cts-io/ana/t/2026-11-09-080507-7c1f/");
  expect(suggestFolder("x/t", ["cts-io/in/a"], own, BEGUN)).toBe("other/ana/t/2026-11-09-080507-7c1f/");
  expect(suggestFolder("", ["cts-io/in/a"], own, BEGUN)).toBe("");
  expect(suggestFolder("x/t", [], known, BEGUN)).toBe("");
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

it("keeps the checksum of a path that is written again, and the data ID that is written alone", () => {
  const known = {
    "data/a": { crc64nvme: "AAAAAAAAAAA=", data_id: "1" },
    "data/b": { crc64nvme: "BBBBBBBBBBB=" },
  };
  expect(readPaths("data/a\ndata/b\t2\ndata/c", known).details).toEqual({
    "data/a": { crc64nvme: "AAAAAAAAAAA=" },
    "data/b": { crc64nvme: "BBBBBBBBBBB=", data_id: "2" },
  });
});
