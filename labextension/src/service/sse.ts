// Reads server-sent events from the body of a response. EventSource hides an answer's status, and can send no header.

export interface ServerEvent {
  /** Its name; "message" where the stream gives none. */
  name: string;
  id: string;
  data: string;
}

/** Yields the events of a stream; `heard` is called for all that comes, so that a silent connection can be told. */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  heard: () => void,
): AsyncGenerator<ServerEvent, void> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let id = "";
  let name = "";
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { name: name || "message", id, data: data.join("\n") };
          name = "";
          data = [];
          continue;
        }
        const [, field = "", text = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
        if (field === "event") name = text;
        else if (field === "data") data.push(text);
        else if (field === "id") id = text;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
