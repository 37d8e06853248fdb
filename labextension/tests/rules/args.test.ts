import { describe, expect, it } from "vitest";

import { forbiddenIn, formatArgument, isArgument, isFlag, quote, splitText } from "../../src/rules/args";
import { type Value, newValue } from "../../src/rules/spec";

const text = (word: string): Value => ({ kind: "text", text: word });

describe("splitText", () => {
  it.each<[string, Value[]]>([
    ["--x=4", [text("--x"), text("4")]],
    ["--threads 8\n -v", [text("--threads"), text("8"), text("-v")]],
    ["<files>", [newValue("files")]],
    ["--in=<files:comma>", [{ kind: "files", flag: "--in=", format: "comma_separated_list" }]],
    ["-i <files:repeat>", [{ kind: "files", flag: "-i", format: "repeat_parameter" }]],
    ["--list <manifest>", [text("--list"), newValue("manifest")]],
    ["<manifest:data_ids:id>", [{ kind: "manifest", flag: "", format: "data_ids", header: "id" }]],
    ["o_<n>.tsv", [{ kind: "number", flag: "", prefix: "o_", suffix: ".tsv" }]],
  ])("reads %j", (given, values) => {
    expect(splitText(given)).toEqual(values);
  });

  it.each(["", "word", "--flag", "--flag=", "a;b", "<files:repeat>", "x <files:repeat>", "<fil>", "a=b"])(
    "leaves %j as it is",
    (given) => {
      expect(splitText(given)).toBeNull();
    },
  );
});

it("knows what the service takes for words and flags", () => {
  expect(["a", "./x-1", "größe", "/in/a.txt", "0.5"].every(isArgument)).toBe(true);
  expect(["", "-a", "a b", "a=b", "a'", "x".repeat(1025)].some(isArgument)).toBe(false);
  expect(["-x", "--name", "--name=", "-1.5"].every(isFlag)).toBe(true);
  expect(["x", "---x", "--a=b", "-"].some(isFlag)).toBe(false);
  expect(forbiddenIn("a b=c b")).toEqual([" ", "="]);
});

it("writes arguments as words that are read as the same, where there are such", () => {
  for (const word of ["<files>", "--a=<files:comma>", "<manifest:data_ids:a b>", "<manifest>", "o_<n>.x"]) {
    const [value] = splitText(word.replace(" ", "_")) ?? [];
    expect(value).toBeDefined();
  }
  expect(
    formatArgument({ type: "input_files", input_files_format: "space_separated_list", flag: "-i" }),
  ).toBe(undefined);
  expect(formatArgument({ type: "container_number", container_num_prefix: "o_", flag: "--o=" })).toBe(
    "--o=o_<n>",
  );
});

it("quotes what a shell would read otherwise", () => {
  expect(quote("a/b.txt")).toBe("a/b.txt");
  expect(quote("it's $x")).toBe(`'it'"'"'s $x'`);
});
