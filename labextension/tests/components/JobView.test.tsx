import { fireEvent, render, screen } from "@testing-library/react";
import type { ReactElement } from "react";
import { expect, it } from "vitest";

import { JobView } from "../../src/components/JobView";
import { ServiceError } from "../../src/service/errors";
import { EventStream } from "../../src/service/stream";
import { JobStore } from "../../src/store/jobs";
import { preview } from "../jobs";
import { ScriptedService } from "../service/scripted";

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

it("shows an admin another user's job, without what is for its owner", async () => {
  const service = new ScriptedService();
  service.answers.set("jobs/his", new ServiceError(403, "Not yours", 20000));
  service.answers.set("whoami", { user: "ana", roles: ["full_admin"] });
  service.answers.set("admin/jobs/his", preview({ id: "his", user: "bob", state: "complete" }));
  const store = new JobStore(service, new EventStream(service, {}));
  render(<JobView store={store} id="his" service="here" open={() => undefined} newJob={() => undefined} />);
  expect(await screen.findByText(/You see this job of another user as an admin/)).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Resubmit" })).toBeNull();
  expect(screen.queryByText("Logs")).toBeNull();
  fireEvent.click(screen.getByRole("button", { name: "More" }));
  expect(screen.getAllByRole("menuitem").map((item) => item.textContent)).toEqual(["Copy the id"]);
});
