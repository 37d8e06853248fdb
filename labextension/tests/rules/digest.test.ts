import { expect, it } from "vitest";

import { type Entry, digestOf, keyOf } from "../../src/rules/digest";
import table from "../digests.json";

it("tells lists of inputs apart as Python does", () => {
  for (const [entries, digest] of table as [Entry[], string][]) {
    expect(digestOf(entries.map(keyOf))).toBe(digest);
  }
});
