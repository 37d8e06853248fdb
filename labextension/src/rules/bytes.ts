// Bytes and their text.

const decoder = new TextDecoder();

export function join(pieces: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let place = 0;
  for (const piece of pieces) {
    joined.set(piece, place);
    place += piece.length;
  }
  return joined;
}

/** The text of UTF-8; what is none is shown as U+FFFD. */
export function decode(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** Adds the pieces of a body until there are more than `limit` bytes, and returns whether they are all of it. */
export async function collect(
  body: ReadableStream<Uint8Array>,
  limit: number,
  pieces: Uint8Array[],
): Promise<boolean> {
  const reader = body.getReader();
  let length = 0;
  while (length <= limit) {
    const { done, value } = await reader.read();
    if (done) return true;
    pieces.push(value);
    length += value.length;
  }
  await reader.cancel();
  return false;
}

/** The first bytes of what gzip has packed, of which there may be a part alone. */
export async function unpack(
  packed: Uint8Array,
  limit: number,
): Promise<{ bytes: Uint8Array; isWhole: boolean }> {
  const stream = new Response(packed).body ?? new Blob([]).stream();
  const unpacked = stream.pipeThrough(new DecompressionStream("gzip")) as ReadableStream<Uint8Array>;
  const pieces: Uint8Array[] = [];
  let isWhole = false;
  try {
    isWhole = await collect(unpacked, limit, pieces);
  } catch {
    // It ends within what was packed, or is no gzip: what came before is what there is to show.
  }
  return { bytes: join(pieces).slice(0, limit), isWhole };
}
