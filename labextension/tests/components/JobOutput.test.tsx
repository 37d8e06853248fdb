import { render, screen } from "@testing-library/react";
import { beforeEach, expect, it } from "vitest";

import { JobOutput } from "../../src/components/JobOutput";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

const EVIL = '<img src=x onerror="window.hacked=1">';

let service: ScriptedService;
beforeEach(() => {
  service = new ScriptedService();
  service.answers.set("", { instance: "own" });
  service.answers.set("jobs/a", preview({ id: "a", state: "complete" }));
});

function show(instance?: string): void {
  const none = (): void => undefined;
  render(
    <JobOutput
      store={new JobStore(service, new EventStream(service, {}))}
      id="a"
      service={EVIL}
      open={none}
      onLoad={none}
      {...(instance !== undefined && { instance })}
    />,
  );
}

it.each([undefined, "own"])("shows a job whose records are %s", async (instance) => {
  show(instance);
  expect(await screen.findByText("Done")).toBeTruthy();
});

it("shows no job of other records by the same id, and says where it is", async () => {
  show("another");
  expect((await screen.findByRole("status")).textContent).toContain(`elsewhere, at ${EVIL},`);
  expect(service.asked).toEqual([""]);
  expect(document.querySelector("img")).toBeNull();
});

it("shows a job where the service does not tell which records it has", async () => {
  service.answers.delete("");
  show("another");
  expect(await screen.findByText("Done")).toBeTruthy();
});

it("says who is signed out where to sign in, in another tab", async () => {
  service.answers.set("jobs/a", new ServiceError(401, "Sign in"));
  show();
  const note = await screen.findByRole("status");
  expect(note.textContent).toBe("Not live: you are signed out of Jupyter. Sign in again");
  const link = screen.getByRole<HTMLAnchorElement>("link", { name: "Sign in again" });
  expect([link.href, link.target]).toEqual([location.href, "_blank"]);
});

it("says so of a live job, too", async () => {
  service.answers.set("jobs/a", preview({ id: "a", state: "job_submitted" }));
  service.refusal = new ServiceError(401, "Sign in");
  show();
  expect(await screen.findByRole("link", { name: "Sign in again" })).toBeTruthy();
});
