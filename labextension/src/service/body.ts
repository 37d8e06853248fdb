// Reads the part of a long body that is kept.

import { collect, join } from "../rules/bytes";
import type { Bytes } from "./port";

export async function readFirst(
  body: ReadableStream<Uint8Array>,
  limit: number,
): Promise<Omit<Bytes, "header">> {
  const pieces: Uint8Array[] = [];
  const isWhole = await collect(body, limit, pieces);
  return { bytes: join(pieces).slice(0, limit), isWhole };
}

export async function readLast(
  body: ReadableStream<Uint8Array>,
  limit: number,
): Promise<Omit<Bytes, "header">> {
  const reader = body.getReader();
  const pieces: Uint8Array[] = [];
  let length = 0;
  let isWhole = true;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { bytes: join(pieces).slice(-limit), isWhole: isWhole && length <= limit };
    pieces.push(value);
    length += value.length;
    for (let [first] = pieces; first && length - first.length >= limit; [first] = pieces) {
      pieces.shift();
      length -= first.length;
      isWhole = false;
    }
  }
}
