import { act, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { WidgetPanel, boundTo } from "../../src/widget/panel";
import { FakeModel } from "./model";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it("has one form for the views of a widget, which ends with the last of them", async () => {
  const model = new FakeModel();
  const first = await boundTo(model, null);
  const second = await boundTo(model, null);
  const { draft } = first.bound;
  expect(second.bound.draft).toBe(draft);
  first.release();
  draft.change({ image: "host/tool" });
  await vi.advanceTimersByTimeAsync(200);
  expect(model.traits["_spec"]).toMatchObject({ image: "host/tool" });

  second.release();
  expect(model.listening).toBe(0);
  expect(draft.isWatched).toBe(false);
  model.sent.length = 0;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(model.sent).toEqual([]);

  const again = await boundTo(model, null);
  expect(again.bound.draft).not.toBe(draft);
  expect(again.bound.draft.view.draft.image).toBe("host/tool");
});

it("takes a submission by the kernel for lost when the form is closed, and keeps its key", async () => {
  const model = new FakeModel();
  const { bound, release } = await boundTo(model, null);
  bound.draft.change({ image: "host/tool", files: ["b/1"] });
  const submitted = bound.draft.submit();
  await vi.advanceTimersByTimeAsync(0);
  const key = model.traits["_sent_key"];
  expect(key).not.toBe("");
  release();
  await submitted;
  expect(bound.draft.view.sent.phase).toBe("lost");
  expect(model.traits["_sent_key"]).toBe(key);
  expect(model.listening).toBe(0);
  expect(bound.draft.isWatched).toBe(false);
});

it("says that the kernel is gone, and goes on as far as it can without it", async () => {
  const model = new FakeModel();
  const { bound } = await boundTo(model, null);
  render(<WidgetPanel {...bound} model={model} page={null} />);
  expect(screen.getByText(/^By the kernel/)).toBeTruthy();
  vi.spyOn(model, "send").mockImplementation(() => {
    throw new Error("Cannot send");
  });
  await act(async () => {
    model.emit("comm_live_update");
    bound.draft.change({ image: "host/tool", files: ["b/1"] });
    await vi.advanceTimersByTimeAsync(5_000);
  });
  expect(screen.queryByText(/^By the kernel/)).toBeNull();
  expect(screen.getByText(/^The kernel was restarted or ended, and this form asks by it/)).toBeTruthy();
  expect(bound.draft.view.draft.files).toEqual(["b/1"]);
});
