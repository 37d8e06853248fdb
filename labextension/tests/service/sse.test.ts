import { expect, it } from "vitest";

import { type ServerEvent, readEvents } from "../../src/service/sse";

function bodyOf(...pieces: string[]): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>({
    start: (controller) => {
      for (const piece of pieces) controller.enqueue(encoder.encode(piece));
      controller.close();
    },
  });
}

async function read(...pieces: string[]): Promise<ServerEvent[]> {
  const body = bodyOf(...pieces);
  const events: ServerEvent[] = [];
  for await (const event of readEvents(body, () => undefined)) events.push(event);
  return events;
}

it("reads name, id and data, and keeps the id", async () => {
  expect(await read("retry: 2000\nid: 7\nevent: begin\ndata: {}\n\nevent: progress\ndata: {}\n\n")).toEqual([
    { name: "begin", id: "7", data: "{}" },
    { name: "progress", id: "7", data: "{}" },
  ]);
});

it("reads events that come in pieces, with lines of any end", async () => {
  const text = "event: ping\r\ndata: ä 👩‍🔬\r\n\r\n: a comment\n\ndata:1\ndata: 2\n\ndata: cut off";
  const expected = [
    { name: "ping", id: "", data: "ä 👩‍🔬" },
    { name: "message", id: "", data: "1\n2" },
  ];
  expect(await read(text)).toEqual(expected);
  expect(await read(...text.split(/(?=[\s\S])/u))).toEqual(expected);
});

it("tells of all that it hears", async () => {
  let heard = 0;
  const body = bodyOf(": a comment\n\n");
  const first = await readEvents(body, () => (heard += 1)).next();
  expect(first.done).toBe(true);
  expect(heard).toBe(1);
});
