import { fireEvent, render, screen } from "@testing-library/react";
import type { ReactNode } from "react";
import { expect, it, vi } from "vitest";

import { ErrorBoundary } from "../../src/components/ErrorBoundary";

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
