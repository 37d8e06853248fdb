import { fireEvent, render, screen } from "@testing-library/react";
import { type ReactNode, Suspense } from "react";
import { expect, it, vi } from "vitest";

import { ErrorBoundary } from "../../src/components/ErrorBoundary";
import { whenShown } from "../../src/components/lazy";

it("says that a view broke, and shows it again", () => {
  vi.spyOn(console, "error").mockImplementation(() => undefined);
  let isBroken = true;
  function Fragile(): ReactNode {
    if (isBroken) throw new Error("no such thing");
    return <p>whole</p>;
  }
  render(
    <ErrorBoundary>
      <Fragile />
    </ErrorBoundary>,
  );
  expect(screen.getByRole("alert").textContent).toContain("This view broke: no such thing.");
  isBroken = false;
  fireEvent.click(screen.getByRole("button", { name: "Show again" }));
  expect(screen.getByText("whole")).toBeTruthy();
  vi.restoreAllMocks();
});

it("loads again what could not be loaded", async () => {
  vi.spyOn(console, "error").mockImplementation(() => undefined);
  const load = vi.fn<() => Promise<(props: { text: string }) => ReactNode>>();
  load.mockRejectedValueOnce(new Error("the network is away"));
  load.mockResolvedValue(({ text }) => <p>{text}</p>);
  const Part = whenShown(load);
  render(
    <ErrorBoundary>
      <Suspense fallback={null}>
        <Part text="whole" />
      </Suspense>
    </ErrorBoundary>,
  );
  expect((await screen.findByRole("alert")).textContent).toContain("the network is away");
  expect(load).toHaveBeenCalledTimes(1);
  fireEvent.click(screen.getByRole("button", { name: "Show again" }));
  expect(await screen.findByText("whole")).toBeTruthy();
  vi.restoreAllMocks();
});
