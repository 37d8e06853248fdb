import { cleanup, configure } from "@testing-library/react";
import { afterEach } from "vitest";

afterEach(cleanup);

// What is loaded when it is first shown takes its time on a machine that does much else.
configure({ asyncUtilTimeout: 10_000 });

// jsdom draws nothing and lays nothing out: each thing is as large as this says.
HTMLCanvasElement.prototype.getContext = () => null;
for (const [name, value] of Object.entries({ clientHeight: 500, offsetHeight: 500, clientWidth: 600 })) {
  Object.defineProperty(HTMLElement.prototype, name, { configurable: true, value });
}
HTMLElement.prototype.scrollTo = () => undefined;
globalThis.ResizeObserver = class {
  observe(): void {
    // Nothing changes its size.
  }
  unobserve(): void {
    // Nothing changes its size.
  }
  disconnect(): void {
    // Nothing changes its size.
  }
};
HTMLElement.prototype.scrollIntoView = () => undefined;
