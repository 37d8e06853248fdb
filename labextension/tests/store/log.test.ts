import { beforeEach, expect, it, vi } from "vitest";

import { decode } from "../../src/rules/bytes";
import { endOf, rowAt, rowText } from "../../src/rules/log";
import { ServiceError } from "../../src/service/errors";
import { CHUNK, LogReader, RETRY_MS } from "../../src/store/log";
import { ScriptedLog } from "../service/log";
import { ScriptedService } from "../service/scripted";

const PATH = "jobs/a/log/0/stdout";

let service: ScriptedService;
let isLive: boolean;
beforeEach(() => {
  service = new ScriptedService();
  isLive = true;
});

function read(): LogReader {
  const reader = new LogReader(service, PATH, () => isLive);
  reader.watch(() => undefined);
  return reader;
}

/** Follows a live log of one line; ``write`` tells of what was added to it. */
async function follow(): Promise<{ log: ScriptedLog; reader: LogReader; write: () => void }> {
  const log = new ScriptedLog("one\n");
  service.answers.set(PATH, log.answer);
  let wake: () => void = () => undefined;
  log.onWait = () => new Promise((resolve) => (wake = resolve));
  const reader = read();
  await vi.waitFor(() => {
    expect(service.asked).toContain(`${PATH}?seek=4&length=${CHUNK}&wait=10`);
  });
  const write = (): void => {
    wake();
  };
  return { log, reader, write };
}

const text = (reader: LogReader): string => decode(reader.view.window.bytes);

it("follows a live log to its end", async () => {
  const { log, reader, write } = await follow();
  log.text += "two\n";
  write();
  await vi.waitFor(() => {
    expect(text(reader)).toBe("one\ntwo\n");
  });
  log.hasEnded = true;
  write();
  await vi.waitFor(() => {
    expect(reader.view.hasEnded).toBe(true);
  });
  const { length } = service.asked;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(service.asked).toHaveLength(length);
});

it("goes to the end of a live log that is written faster than it is loaded", async () => {
  const { log, reader, write } = await follow();
  log.text += "a line\n".repeat(1_000_000);
  write();
  const end = log.text.length;
  await vi.waitFor(() => {
    expect(service.asked.at(-1)).toBe(`${PATH}?seek=${end}&length=${CHUNK}&wait=10`);
  });
  expect(text(reader) === log.text.slice(-CHUNK)).toBe(true);
  expect(service.asked.length).toBeLessThan(6);
});

it("loads parts of a long log, and each byte at its place", async () => {
  const line = "a line that is 32 characters lon\n".replace("lon", "lo");
  const log = new ScriptedLog(line.repeat(100_000));
  log.hasEnded = true;
  service.answers.set(PATH, log.answer);
  const reader = read();
  await vi.waitFor(() => {
    expect(reader.view.phase).toBe("shown");
  });
  expect([reader.view.window.start, reader.hasEarlier, reader.hasLater]).toEqual([
    3_200_000 - CHUNK,
    true,
    false,
  ]);
  await reader.earlier();
  expect(reader.view.window.start).toBe(3_200_000 - 2 * CHUNK);
  await reader.toStart();
  expect([reader.view.window.start, reader.hasEarlier, reader.hasLater]).toEqual([0, false, true]);
  await reader.later();
  expect(text(reader) === log.text.slice(0, 2 * CHUNK)).toBe(true);
  await reader.toEnd();
  expect(text(reader) === log.text.slice(-CHUNK)).toBe(true);
});

it("searches beyond the window both ways, also where a part of the log ends within a line", async () => {
  const log = new ScriptedLog("");
  log.hasEnded = true;
  // Each begins a little before an end of a part that is searched, from either end of the log.
  const lines = "x".repeat(99) + "\n";
  log.text = `${lines.repeat(9_999)}${"x".repeat(98)}needle 1\n${lines.repeat(30_000)}needle 2\n`;
  const end = log.text.length;
  log.text +=
    lines.repeat(CHUNK / 100) + lines.repeat(9_999) + "x".repeat(98) + "needle 3\n" + lines.repeat(30_000);
  service.answers.set(PATH, log.answer);
  const reader = read();
  await vi.waitFor(() => {
    expect(reader.view.phase).toBe("shown");
  });
  const row = (place: number): string => {
    const { window } = reader.view;
    return rowText(window, rowAt(window, place));
  };
  const found = [];
  for (;;) {
    const place = await reader.search("NEEDLE", -1);
    if (typeof place !== "number") break;
    found.push(row(place).slice(-8));
    expect(reader.view).toMatchObject({ searched: null, size: log.text.length });
    expect(text(reader) === log.text.slice(reader.view.window.start, endOf(reader.view.window))).toBe(true);
  }
  expect(found).toEqual(["needle 3", "needle 2", "needle 1"]);
  expect(reader.view.window.start).toBeLessThan(end);
  await reader.toStart();
  for (const one of ["needle 1", "needle 2", "needle 3", undefined]) {
    const place = await reader.search("needle", 1);
    expect(typeof place === "number" ? row(place).slice(-8) : undefined).toBe(one);
  }
  expect(await reader.search("needle", 1)).toBe("none");
});

it("ends a search that is stopped or fails, and shows what it did", async () => {
  const log = new ScriptedLog("x\n".repeat(CHUNK));
  log.hasEnded = true;
  service.answers.set(PATH, log.answer);
  const reader = read();
  await vi.waitFor(() => {
    expect(reader.view.phase).toBe("shown");
  });
  const { window } = reader.view;
  service.answers.set(PATH, () => new Promise(() => undefined));
  const first = reader.search("y", -1);
  const second = reader.search("y", -1);
  expect(await first).toBe("stopped");
  expect(reader.view.searched).not.toBeNull();
  reader.stopSearch();
  expect(await second).toBe("stopped");
  expect(reader.view).toMatchObject({ searched: null, window });
  service.answers.set(PATH, new ServiceError(503, "Away"));
  expect(await reader.search("y", -1)).toBe("stopped");
  expect(reader.view.message).toBe("Away");
});

it("drops nothing that a person reads while the log grows", async () => {
  const log = new ScriptedLog("x\n".repeat(10));
  service.answers.set(PATH, log.answer);
  let write: () => void = () => undefined;
  log.onWait = () => new Promise((resolve) => (write = resolve));
  const reader = read();
  await vi.waitFor(() => {
    expect(reader.view.phase).toBe("shown");
  });
  reader.setAtEnd(false);
  log.text += "a line that is longer\n".repeat(30_000);
  write();
  await vi.waitFor(() => {
    expect(reader.hasLater).toBe(true);
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect([reader.view.window.start, reader.hasLater]).toEqual([0, true]);
  reader.setAtEnd(true);
  await vi.waitFor(() => {
    expect(reader.hasLater).toBe(false);
  });
  expect(text(reader) === log.text).toBe(true);
});

it("waits for a log that nothing was written to yet", async () => {
  vi.useFakeTimers();
  const reader = read();
  await vi.waitFor(() => {
    expect(reader.view.phase).toBe("none");
  });
  const log = new ScriptedLog("at last");
  service.answers.set(PATH, log.answer);
  await vi.advanceTimersByTimeAsync(RETRY_MS);
  expect(text(reader)).toBe("at last");
  vi.useRealTimers();
});

it("asks no more for the log of a job that has ended without one", async () => {
  isLive = false;
  const reader = read();
  await vi.waitFor(() => {
    expect(reader.view.phase).toBe("none");
  });
  expect(service.asked).toHaveLength(1);
});

it("shows the end of a log of a service that answers no parts, and says what failed", async () => {
  vi.useFakeTimers();
  service.answers.set(PATH, "a".repeat(CHUNK) + "end");
  const reader = read();
  await vi.advanceTimersByTimeAsync(0);
  expect([text(reader).slice(-4), reader.view.isCut, reader.hasEarlier, reader.hasLater]).toEqual([
    "aend",
    true,
    false,
    false,
  ]);
  service.answers.set(PATH, new ServiceError(503, "Away"));
  await vi.advanceTimersByTimeAsync(RETRY_MS);
  expect(reader.view.message).toBe("Away");
  service.answers.set(PATH, "short");
  isLive = false;
  await vi.advanceTimersByTimeAsync(2 * RETRY_MS);
  expect([text(reader).slice(-5), reader.view.message]).toEqual(["short", ""]);
  vi.useRealTimers();
});
