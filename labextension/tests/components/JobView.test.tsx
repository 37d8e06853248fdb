import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import type { ReactElement } from "react";
import { expect, it } from "vitest";

import type { JobState } from "../../src/api/types";
import { JobView } from "../../src/components/JobView";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { preview } from "../jobs";
import { ScriptedLog } from "../service/log";
import { ScriptedService } from "../service/scripted";

const EVIL = '<img src=x onerror="window.hacked=1">';

it("shows the job that it is given, also another one", async () => {
  const service = new ScriptedService();
  for (const id of ["a", "b"]) service.answers.set(`jobs/${id}`, preview({ id }));
  const store = new JobStore(service, new EventStream(service, {}));
  const show = (id: string): ReactElement => (
    <JobView store={store} id={id} service="here" open={() => undefined} />
  );
  const { rerender } = render(show("a"));
  expect(await screen.findByText("a")).toBeTruthy();
  rerender(show("b"));
  expect(await screen.findByText("b")).toBeTruthy();
  expect(screen.queryByText("a")).toBeNull();
});

function ofAnother(state: JobState): ScriptedService {
  const service = new ScriptedService();
  service.answers.set("jobs/his", new ServiceError(403, "Not yours", 20000));
  service.answers.set("whoami", { user: "ana", roles: ["full_admin"] });
  service.answers.set("admin/jobs/his", preview({ id: "his", user: "bob", state }));
  return service;
}

it("shows an admin the containers of another user's job and their logs, that of one that failed first", async () => {
  const service = ofAnother("error");
  const job = preview({ id: "his", user: "bob", state: "error" });
  job.job_input.num_containers = 3;
  service.answers.set("admin/jobs/his", job);
  const subjobs = ["complete", "complete", "error"].map((state, sub_id) => ({
    id: "his",
    sub_id,
    state,
    transition_times: [],
    ...(state === "error" && { exit_code: 4, admin_error: EVIL }),
  }));
  service.answers.set("admin/jobs/his/container", { subjobs });
  service.answers.set("admin/jobs/his/log/2/stderr", new ScriptedLog("no space\n").answer);
  const store = new JobStore(service, new EventStream(service, {}));
  render(<JobView store={store} id="his" service="here" open={() => undefined} />);
  expect(await screen.findByText(`Container 2: ${EVIL} (exit code 4)`)).toBeTruthy();
  expect(screen.getByText(/as an admin. Its files are for its owner.$/)).toBeTruthy();
  fireEvent.click(screen.getByText("3 containers"));
  fireEvent.click(await screen.findByRole("button", { name: "Container 2" }));
  const detail = within(screen.getByRole("group", { name: "Container 2" }));
  expect(detail.queryByText("Loading …")).toBeNull();
  fireEvent.click(detail.getByRole("button", { name: "Show stderr" }));
  expect(await screen.findByText("no space")).toBeTruthy();
  expect(service.asked.filter((path) => path.startsWith("jobs/his/"))).toEqual([]);
  expect(document.querySelector("img")).toBeNull();
});

it("says that an older service shows admins no logs of others", async () => {
  const service = ofAnother("complete");
  service.lacks.add("/admin/jobs/{job_id}/log/{container_num}/stdout");
  const store = new JobStore(service, new EventStream(service, {}));
  render(<JobView store={store} id="his" service="here" open={() => undefined} />);
  expect(await screen.findByText(/Its files and logs are for its owner/)).toBeTruthy();
  expect(screen.queryByText("Logs")).toBeNull();
});

it("shows an admin another user's job, without what is for its owner", async () => {
  const service = ofAnother("complete");
  const store = new JobStore(service, new EventStream(service, {}));
  render(<JobView store={store} id="his" service="here" open={() => undefined} newJob={() => undefined} />);
  expect(await screen.findByText(/You see this job of another user as an admin/)).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Resubmit" })).toBeNull();
  fireEvent.click(screen.getByRole("button", { name: "More" }));
  expect(screen.getAllByRole("menuitem").map((item) => item.textContent)).toEqual(["Copy the id"]);
});

it.each([
  [new ServiceError(401, "Log in"), "You are signed out of Jupyter. Sign in again"],
  [new ServiceError(404, "Not Found"), "This Jupyter server has no CTS."],
  [new ServiceError(404, "None", 50000), "The service does not know this job. It may be on another service."],
  [new ServiceError(500, "The records cannot be read"), "The records cannot be read."],
])("says why there is no job: %s", async (error, text) => {
  const service = new ScriptedService();
  service.answers.set("jobs/a", error);
  const store = new JobStore(service, new EventStream(service, {}));
  render(<JobView store={store} id="a" service="here" open={() => undefined} />);
  await waitFor(() => {
    expect(document.querySelector(".cts-empty")?.textContent).toBe(text);
  });
});
