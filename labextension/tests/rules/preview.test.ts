import { expect, it } from "vitest";

import { decode, unpack } from "../../src/rules/bytes";
import { MAX_ROWS, parseTable, previewOf } from "../../src/rules/preview";

it.each([
  ["a/b.tsv", { kind: "table", separator: "\t", isPacked: false }],
  ["a/b.csv.gz", { kind: "table", separator: ",", isPacked: true }],
  ["a/b.HTML", { kind: "text", isPacked: false }],
  ["a/b.svg", { kind: "text", isPacked: false }],
  ["a/b.PNG", { kind: "image", type: "image/png" }],
  ["a/b.png.gz", null],
  ["a/b.bam", null],
  ["a.txt/b", null],
])("%s", (path, kind) => {
  expect(previewOf(path)).toEqual(kind);
});

it("reads tables", () => {
  expect(parseTable('a\tb\r\n"1\t2', "\t", true)).toEqual([
    ["a", "b"],
    ['"1', "2"],
  ]);
  expect(parseTable('a,"b, ""c""\nd"\ne,f', ",", true)).toEqual([
    ["a", 'b, "c"\nd'],
    ["e", "f"],
  ]);
  // The last row of a part may be a part, too.
  expect(parseTable("a\tb\nc", "\t", false)).toEqual([["a", "b"]]);
  expect(parseTable("x\n".repeat(1000), "\t", true)).toHaveLength(MAX_ROWS);
});

async function pack(text: string): Promise<Uint8Array> {
  const stream = new Response(text).body?.pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

it("unpacks the first bytes, also of a part of what was packed", async () => {
  const packed = await pack("contig\t".repeat(100_000));
  const first = await unpack(packed, 10);
  expect([decode(first.bytes), first.isWhole]).toEqual(["contig\tcon", false]);
  expect((await unpack(packed, 1_000_000)).isWhole).toBe(true);
  const part = await unpack(packed.slice(0, packed.length - 20), 1_000_000);
  expect(part.isWhole).toBe(false);
  expect(decode((await unpack(new TextEncoder().encode("no gzip"), 10)).bytes)).toBe("");
});
