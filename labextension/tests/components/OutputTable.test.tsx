import { fireEvent, render, screen, within } from "@testing-library/react";
import axe from "axe-core";
import { beforeEach, expect, it } from "vitest";

import { OutputTable } from "../../src/components/OutputTable";
import { ScriptedService } from "../service/scripted";

const EVIL = '<img src=x onerror="window.hacked=1">';
const FOLDER = "data/out/";

let service: ScriptedService;
beforeEach(() => {
  service = new ScriptedService();
});

function show(files: { file: string; crc64nvme?: string }[], count = files.length): HTMLElement {
  const outputs = { shown: files, count };
  return render(<OutputTable service={service} jobId="12345678-9" outputs={outputs} folder={FOLDER} />)
    .container;
}

const row = (name: string): HTMLElement => {
  const found = screen.getByRole("link", { name }).closest("tr");
  if (!found) throw new Error(name);
  return found;
};

it("says of each output how large it is, and what became of it", async () => {
  const files = ["same.tsv", "changed.tsv", "gone.tsv", EVIL].map((name) => ({
    file: `${FOLDER}${name}`,
    crc64nvme: "ikLs7sFMNGo=",
  }));
  service.answers.set("files", {
    objects: [
      { path: `${FOLDER}same.tsv`, size: 14_200, crc64nvme: "ikLs7sFMNGo=" },
      { path: `${FOLDER}changed.tsv`, size: 1, crc64nvme: "other" },
      { path: `${FOLDER}${EVIL}`, size: 1 },
    ],
    folders: [],
    left_out: [],
  });
  const container = show(files);
  expect(await screen.findByText("14.2 kB")).toBeTruthy();
  expect(row("same.tsv").textContent).toContain("✓unchanged");
  expect(row("changed.tsv").textContent).toContain("⚠ changed since");
  expect(row("gone.tsv").textContent).toContain("✕ no longer there");
  expect(container.querySelector("img")).toBeNull();
  const { violations } = await axe.run(container, { rules: { region: { enabled: false } } });
  expect(violations).toEqual([]);
});

it("loads what is not known yet, filters it, and hides what an older service lacks", async () => {
  const all = Array.from({ length: 1500 }, (_, n) => ({ file: `${FOLDER}${n}.tsv` }));
  service.answers.set("jobs/12345678-9/outputs", ({ after }: { after?: string }) =>
    after === undefined
      ? { outputs: all.slice(0, 1000), jobs: [], open_inputs: 0, next: "x" }
      : { outputs: all.slice(1000), jobs: [], open_inputs: 0 },
  );
  show(all.slice(0, 50), 1500);
  expect(await screen.findByText("This service does not tell what became of them since.")).toBeTruthy();
  fireEvent.change(screen.getByRole("searchbox"), { target: { value: "149" } });
  expect(await screen.findByText("12 of 1,500")).toBeTruthy();
  expect(screen.getByRole("link", { name: "1490.tsv" })).toBeTruthy();
  expect(screen.getByRole("button", { name: "Copy these paths" })).toBeTruthy();
});

it("looks at tables and texts, and never makes HTML of them", async () => {
  const container = show(["t.tsv", "p.html", "b.bam", "i.png"].map((name) => ({ file: `${FOLDER}${name}` })));
  service.answers.set("files/content", ({ path }: { path: string }) =>
    path.endsWith("tsv") ? `name\tN50\n${EVIL}\t5\n` : `<b>${EVIL}</b>`,
  );
  expect(within(row("b.bam")).queryByRole("button", { name: /Look/ })).toBeNull();
  fireEvent.click(screen.getByRole("button", { name: "Look at t.tsv" }));
  expect(await screen.findByRole("columnheader", { name: "N50" })).toBeTruthy();
  expect(screen.getByRole("cell", { name: EVIL })).toBeTruthy();
  expect(service.asked).toContain("files/content?path=data%2Fout%2Ft.tsv&length=262145");
  fireEvent.click(screen.getByRole("button", { name: "Look at p.html" }));
  expect(await screen.findByText(`<b>${EVIL}</b>`)).toBeTruthy();
  expect(container.querySelector("img, b")).toBeNull();
  expect("hacked" in window).toBe(false);
  // An image that is too large is not shown at all.
  service.answers.set("files/content", { bytes: new Uint8Array(3), isWhole: false, header: () => null });
  fireEvent.click(screen.getByRole("button", { name: "Look at i.png" }));
  expect(await screen.findByText("An image of more than 10 MB is not shown: download it.")).toBeTruthy();
});

it("names outputs without a link where none leads to the service", () => {
  service.hasLinks = false;
  const container = show([{ file: `${FOLDER}a.tsv` }]);
  expect(screen.getByText("a.tsv").title).toBe(`${FOLDER}a.tsv`);
  expect(container.querySelector("a")).toBeNull();
});
