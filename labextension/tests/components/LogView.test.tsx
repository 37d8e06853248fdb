import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import axe from "axe-core";
import { type ReactNode, useState } from "react";
import { beforeEach, expect, it, vi } from "vitest";

import { type LogTarget, LogView } from "../../src/components/LogView";
import type { Query } from "../../src/service/port";
import { ScriptedLog } from "../service/log";
import { ScriptedService } from "../service/scripted";

const EVIL = '<img src=x onerror="window.hacked=1">';

let service: ScriptedService;
beforeEach(() => {
  service = new ScriptedService();
});

function View({ isLive = false }: { isLive?: boolean }): ReactNode {
  const [target, setTarget] = useState<LogTarget>({ container: 0, name: "stdout" });
  return (
    <LogView
      service={service}
      path="jobs/a"
      containers={5}
      target={target}
      setTarget={setTarget}
      nextFailed={(after) => [1, 3].find((number) => number > after) ?? 1}
      isLive={isLive}
    />
  );
}

function log(text: string, hasEnded = true): ScriptedLog {
  const scripted = new ScriptedLog(text);
  scripted.hasEnded = hasEnded;
  return scripted;
}

it("shows lines in their colours, and text of programs as text", async () => {
  service.answers.set("jobs/a/log/0/stdout", log(`\u001b[31mred\u001b[0m\n${EVIL}\n`).answer);
  const { container } = render(<View />);
  expect((await screen.findByText("red")).className).toBe("cts-fg-red");
  expect(screen.getByText(EVIL)).toBeTruthy();
  expect(container.querySelector("img")).toBeNull();
  expect("hacked" in window).toBe(false);
  expect(screen.getByRole("link", { name: "Download" }).getAttribute("href")).toBe(
    `${service.root}jobs/a/log/0/stdout`,
  );
  const { violations } = await axe.run(container, { rules: { region: { enabled: false } } });
  expect(violations).toEqual([]);
});

it("finds lines, counts them and goes round", async () => {
  service.answers.set("jobs/a/log/0/stdout", log("an error\nfine\nError again\n").answer);
  render(<View />);
  const finder = await screen.findByRole("searchbox");
  fireEvent.change(finder, { target: { value: "ERROR" } });
  expect(await screen.findByText("2 lines")).toBeTruthy();
  fireEvent.keyDown(finder, { key: "Enter" });
  expect(screen.getByText("1 of 2 lines")).toBeTruthy();
  fireEvent.keyDown(finder, { key: "Enter" });
  fireEvent.keyDown(finder, { key: "Enter" });
  expect(screen.getByText("1 of 2 lines")).toBeTruthy();
  fireEvent.keyDown(finder, { key: "Enter", shiftKey: true });
  expect(screen.getByText("2 of 2 lines")).toBeTruthy();
  const [current] = document.querySelectorAll('[data-current="true"]');
  expect(current?.textContent).toBe("Error again");
  fireEvent.change(finder, { target: { value: "nowhere" } });
  expect(await screen.findByText("No line")).toBeTruthy();
});

it("goes to the next failed container and the other log by keys and buttons", async () => {
  for (const place of ["0/stdout", "1/stdout", "3/stdout", "3/stderr"]) {
    service.answers.set(`jobs/a/log/${place}`, log(`this is ${place}\n`).answer);
  }
  render(<View />);
  await screen.findByText("this is 0/stdout");
  fireEvent.click(screen.getByRole("button", { name: "Next failed: 1" }));
  await screen.findByText("this is 1/stdout");
  fireEvent.keyDown(screen.getByRole("region", { name: "Log" }), { key: "n" });
  await screen.findByText("this is 3/stdout");
  fireEvent.keyDown(screen.getByRole("region", { name: "Log" }), { key: "o" });
  await screen.findByText("this is 3/stderr");
  const wrap = screen.getByRole<HTMLInputElement>("checkbox", { name: "Wrap" });
  fireEvent.keyDown(screen.getByRole("region", { name: "Log" }), { key: "w" });
  expect(wrap.checked).toBe(false);
});

it("has the focus where a key leads to: at the other log, or what chooses it where nothing was written", async () => {
  service.answers.set("jobs/a/log/0/stdout", log("out\n").answer);
  service.answers.set("jobs/a/log/1/stdout", log("failed\n").answer);
  render(<View />);
  const shown = await screen.findByRole("region", { name: "Log" });
  shown.focus();
  fireEvent.keyDown(shown, { key: "n" });
  expect(await screen.findByText("failed")).toBeTruthy();
  const next = screen.getByRole("region", { name: "Log" });
  await waitFor(() => {
    expect(document.activeElement).toBe(next);
  });
  service.answers.set("jobs/a/log/1/stderr", log("").answer);
  fireEvent.keyDown(next, { key: "o" });
  expect(await screen.findByText("Nothing was written")).toBeTruthy();
  await waitFor(() => {
    expect(document.activeElement).toBe(screen.getByRole("combobox", { name: "Log of the container" }));
  });
});

it("follows while a job is live, and stops when it is told to", async () => {
  const live = log("begun\n", false);
  let write: () => void = () => undefined;
  live.onWait = () => new Promise((resolve) => (write = resolve));
  service.answers.set("jobs/a/log/0/stdout", live.answer);
  render(<View isLive />);
  await screen.findByText("begun");
  expect(screen.getByRole<HTMLInputElement>("checkbox", { name: "Follow" }).checked).toBe(true);
  live.text += "more\n";
  write();
  await screen.findByText("more");
  fireEvent.click(screen.getByRole("checkbox", { name: "Follow" }));
  expect(screen.getByRole<HTMLInputElement>("checkbox", { name: "Follow" }).checked).toBe(false);
});

it("shows a part of a long log, and goes to its beginning", async () => {
  const long = log("beginning\n" + "middle\n".repeat(100_000));
  service.answers.set("jobs/a/log/0/stdout", long.answer);
  render(<View />);
  await screen.findByText("444 kB to 700 kB of 700 kB");
  fireEvent.keyDown(screen.getByRole("region", { name: "Log" }), { key: "g" });
  await screen.findByText("0 B to 256 kB of 700 kB");
  await screen.findByText("beginning");
  fireEvent.click(screen.getByRole("button", { name: "To the end" }));
  await screen.findByText("444 kB to 700 kB of 700 kB");
});

it("says that it looks at no more than what is loaded of a long log", async () => {
  const long = log("beginning\n" + "middle\n".repeat(100_000) + "end\n");
  service.answers.set("jobs/a/log/0/stdout", long.answer);
  render(<View />);
  const finder = await screen.findByRole("searchbox");
  fireEvent.change(finder, { target: { value: "beginning" } });
  expect(await screen.findByText("No line in the part that is loaded")).toBeTruthy();
  fireEvent.change(finder, { target: { value: "end" } });
  expect(await screen.findByText("1 line in the part that is loaded")).toBeTruthy();
  fireEvent.keyDown(finder, { key: "Enter" });
  expect(screen.getByText("1 of 1 line in the part that is loaded")).toBeTruthy();
});

it("searches on beyond what is loaded, either way, and says where there is none", async () => {
  const middle = `${"middle".repeat(100)}\n`.repeat(2_000);
  const long = log(`${middle}a needle\n${middle}another needle\n${middle}`);
  service.answers.set("jobs/a/log/0/stdout", long.answer);
  render(<View />);
  const finder = await screen.findByRole("searchbox");
  fireEvent.change(finder, { target: { value: "NEEDLE" } });
  expect(await screen.findByText("No line in the part that is loaded")).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Search on" })).toBeNull();
  for (const place of ["2.4 MB to 3.4 MB of 3.6 MB", "351.7 kB to 1.4 MB of 3.6 MB"]) {
    fireEvent.click(screen.getByRole("button", { name: "Search earlier" }));
    expect(await screen.findByText(place)).toBeTruthy();
    expect(screen.getByText("1 of 1 line in the part that is loaded")).toBeTruthy();
  }
  fireEvent.click(screen.getByRole("button", { name: "Search earlier" }));
  expect(await screen.findByText(/None before it\.$/)).toBeTruthy();
  fireEvent.click(screen.getByRole("button", { name: "Search on" }));
  expect(await screen.findByText("2.4 MB to 3.4 MB of 3.6 MB")).toBeTruthy();
  fireEvent.click(screen.getByRole("button", { name: "Search on" }));
  expect(await screen.findByText(/None after it\.$/)).toBeTruthy();
});

it("stops a search when it is told to, or another text is wanted", async () => {
  const long = log("middle\n".repeat(300_000));
  let answer: (query: Query) => unknown = long.answer;
  service.answers.set("jobs/a/log/0/stdout", (query: Query) => answer(query));
  render(<View />);
  const finder = await screen.findByRole("searchbox");
  fireEvent.change(finder, { target: { value: "needle" } });
  answer = () => new Promise(() => undefined);
  fireEvent.click(await screen.findByRole("button", { name: "Search earlier" }));
  expect(await screen.findByText("Searched to 1.8 MB")).toBeTruthy();
  fireEvent.click(screen.getByRole("button", { name: "Stop" }));
  expect(await screen.findByText(/The search was stopped\.$/)).toBeTruthy();
  fireEvent.click(screen.getByRole("button", { name: "Search earlier" }));
  fireEvent.change(finder, { target: { value: "other" } });
  expect(await screen.findByRole("button", { name: "Search earlier" })).toBeTruthy();
  expect(screen.queryByText(/Searched to/)).toBeNull();
});

it.each([
  [true, "Nothing was written yet"],
  [false, "Nothing was written"],
])("says that there is nothing: live %s", async (isLive, text) => {
  vi.spyOn(globalThis, "setTimeout");
  const { container } = render(<View isLive={isLive} />);
  expect(await within(container).findByText(text)).toBeTruthy();
});

it("offers no download where no link leads to the service", async () => {
  service.hasLinks = false;
  service.answers.set("jobs/a/log/0/stdout", log("text\n").answer);
  const { container } = render(<View />);
  expect(await screen.findByText("text")).toBeTruthy();
  expect(container.querySelector("a")).toBeNull();
});
