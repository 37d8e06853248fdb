// Starts a built JupyterLab extension as JupyterLab does, and prints the names of the files that a page loads for it:
// node start_extension.mjs FOLDER ENTRY NAME

import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { runInThisContext } from "node:vm";

const [folder, entry, name] = process.argv.slice(2);
const loaded = [];

function load(source) {
  const file = basename(new URL(source).pathname);
  loaded.push(file);
  runInThisContext(readFileSync(join(folder, file), "utf8"));
}

const base = "http://lab.test/";
globalThis.self = globalThis;
globalThis.document = {
  currentScript: { tagName: "SCRIPT", src: base + entry },
  getElementsByTagName: () => [],
  createElement: () => ({ setAttribute: () => undefined }),
  head: {
    appendChild: (script) => {
      load(script.src);
      script.onload({ type: "load" });
    },
  },
};

// JupyterLab shares each package that the extension asks for and does not bring along.
const shared = (packages, key) => (packages[key] ??= { "99.0.0": { get: () => () => ({}), from: "lab" } });
const scope = new Proxy(
  {},
  {
    get: shared,
    getOwnPropertyDescriptor: (packages, key) => {
      shared(packages, key);
      return Object.getOwnPropertyDescriptor(packages, key);
    },
  },
);

console.warn = () => undefined;
load(base + entry);
const container = globalThis._JUPYTERLAB[name];
await container.init(scope);
await Promise.all(["./extension", "./style"].map((module) => container.get(module)));
console.log(JSON.stringify(loaded));
