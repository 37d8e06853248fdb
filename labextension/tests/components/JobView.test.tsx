import { render, screen } from "@testing-library/react";
import type { ReactElement } from "react";
import { expect, it } from "vitest";

import { JobView } from "../../src/components/JobView";
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
