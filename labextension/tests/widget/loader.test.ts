import { afterEach, beforeEach, expect, it, vi } from "vitest";

type Callback = (content: { cts: string }, buffers: BlobPart[]) => void;
interface Loader {
  default: { render: (props: { model: object; el: HTMLElement }) => Promise<unknown> };
}
const KEY = Symbol.for("cts.page.v1");
const page = globalThis as unknown as Record<symbol, unknown>;
// It is JavaScript without types, as a page takes it.
const path = "../../src/widget/loader.js";

let callbacks: Set<Callback>;
let model: object;
let el: HTMLElement;
const revoke = vi.fn();

beforeEach(() => {
  callbacks = new Set();
  model = {
    on: (_: string, callback: Callback) => callbacks.add(callback),
    off: (_: string, callback: Callback) => callbacks.delete(callback),
    send: () => undefined,
  };
  el = document.createElement("div");
  revoke.mockReset();
  URL.createObjectURL = () => "data:text/javascript,export const mount = () => 'mounted'";
  URL.revokeObjectURL = revoke;
});

afterEach(() => {
  vi.useRealTimers();
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- the page's entry has a symbol
  delete page[KEY];
});

async function render(): Promise<unknown> {
  const { default: loader } = (await import(/* @vite-ignore */ path)) as Loader;
  return loader.render({ model, el });
}

it("leaves what the page has put there, whatever becomes of one widget", async () => {
  const own = {
    mount: () => {
      throw new Error("broken");
    },
  };
  page[KEY] = own;
  await render();
  expect(el.textContent).toBe("Error: broken");
  expect(page[KEY]).toBe(own);
});

it("asks the kernel once, and keeps no copy of what it sent", async () => {
  const rendering = render();
  await vi.waitUntil(() => callbacks.size);
  for (const callback of callbacks) callback({ cts: "module" }, [""]);
  expect(await rendering).toBe("mounted");
  expect(revoke).toHaveBeenCalledTimes(1);
  expect(callbacks.size).toBe(0);
  expect(await render()).toBe("mounted");
});

it("asks again after a kernel has not answered", async () => {
  vi.useFakeTimers();
  const rendering = render();
  await vi.waitUntil(() => callbacks.size);
  vi.advanceTimersByTime(60_000);
  await rendering;
  expect(el.textContent).toContain("run the cell again");
  expect(callbacks.size).toBe(0);
  expect(page[KEY]).toBeUndefined();
});
