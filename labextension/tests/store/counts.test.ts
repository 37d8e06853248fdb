import { expect, it, vi } from "vitest";

import { EventStream } from "../../src/service/stream";
import { LiveCount } from "../../src/store/counts";
import { ScriptedService } from "../service/scripted";

it("counts live jobs also while events do not pause", async () => {
  const service = new ScriptedService();
  service.answers.set("jobs/counts", {
    counts: [
      { state: "created", count: 2 },
      { state: "job_submitted", count: 1 },
      { state: "complete", count: 7 },
    ],
  });
  const count = new LiveCount(service, new EventStream(service, {}), () => undefined);
  const events = setInterval(() => {
    count.onTransition();
  }, 50);
  await vi.waitUntil(() => count.live === 3);
  clearInterval(events);
  expect(service.asked.filter((path) => path.startsWith("jobs/counts"))).toHaveLength(1);
  count.stop();
});
