import { decode } from "../../src/rules/bytes";
import { english } from "../../src/rules/translator";
import { afterEach, expect, it, vi } from "vitest";

import { ServiceError } from "../../src/service/errors";
import { ANSWER_MS, CHANGE_MS, type Fetch, ServerService } from "../../src/service/server";
import { loud } from "../loud";

const ROOT = "https://lab.test/user/ana/cts/";

function service(fetch: Fetch, tr = english): ServerService {
  return new ServerService(ROOT, fetch, tr);
}

afterEach(() => {
  vi.useRealTimers();
});

const json = (body: unknown, init?: ResponseInit): Response => new Response(JSON.stringify(body), init);

it("names urls below its root", () => {
  const url = service(() => Promise.reject(new Error())).url("files/content", {
    path: "a/b c&d",
    state: ["x", "y"],
    no: undefined,
  });
  expect(url).toBe(`${ROOT}files/content?path=a%2Fb+c%26d&state=x&state=y`);
});

it("rejects with what the service says", async () => {
  const refused = json({ error: { message: "Not yours", appcode: 30 } }, { status: 403 });
  const error = await service(() => Promise.resolve(refused))
    .get("jobs/1")
    .catch((e: unknown) => e as ServiceError);
  expect(error).toMatchObject({
    status: 403,
    message: "Not yours",
    appcode: 30,
    isUnknown: true,
    isOffline: false,
  });
});

it.each([
  [413, "A proxy before the service answered 413. It refused the request as too large", false],
  [502, "A proxy before the service answered 502. It does not reach the service", true],
  [504, "A proxy before the service answered 504. It gave up waiting", true],
  [418, "The service answered 418", false],
])(
  "says of whom an answer is that is not the service's, with status %i",
  async (status, words, isOffline) => {
    const proxy = new Response("<html>", { status });
    await expect(service(() => Promise.resolve(proxy)).get("jobs")).rejects.toMatchObject({
      status,
      message: expect.stringContaining(words) as string,
      isOffline,
    });
  },
);

it.each([
  [new Response("<html>", { status: 504 }), /^A PROXY BEFORE THE SERVICE ANSWERED 504. IT GAVE UP/],
  [new Response("<html>", { status: 418 }), /^THE SERVICE ANSWERED 418$/],
  [new Response("{"), /^THE ANSWER WAS CUT OFF/],
  [null, /^THE JUPYTER SERVER CANNOT BE REACHED$/],
  [json({ error: { message: "Not yours" } }, { status: 403 }), /^Not yours$/],
])("says in the page's language what is not the service's own word, %#", async (response, words) => {
  const fetch: Fetch = () =>
    response ? Promise.resolve(response) : Promise.reject(new TypeError("failed to fetch"));
  await expect(service(fetch, loud).get("jobs")).rejects.toThrow(words);
});

it("says when no server answers", async () => {
  await expect(service(() => Promise.reject(new TypeError("failed"))).get("jobs")).rejects.toMatchObject({
    status: 0,
    isOffline: true,
  });
});

it("does not take the answer of what is before the Jupyter server for the service's", async () => {
  const redirected = (url: string): Response => {
    const response = json({}, { status: 200 });
    Object.defineProperties(response, { redirected: { value: true }, url: { value: url } });
    return response;
  };
  const hub = "https://lab.test/hub/user/ana/cts/jobs";
  await expect(service(() => Promise.resolve(redirected(hub))).get("jobs")).rejects.toMatchObject({
    status: 0,
    message: "The Jupyter server is not running, or you are signed out: open it in another tab",
    isOffline: true,
  });
  const own = "https://lab.test/user/ana/cts";
  expect(await service(() => Promise.resolve(redirected(own))).get("")).toEqual({});
});

it("tells a refused token of a service elsewhere from a session that ended", () => {
  expect(new ServiceError(401, "").isSignedOut).toBe(true);
  expect(new ServiceError(401, "", 10000)).toMatchObject({ isSignedOut: false, isOffline: true });
});

it("sends two requests at once, and the others after them", async () => {
  const answers: (() => void)[] = [];
  const asking = service(
    () =>
      new Promise((resolve) =>
        answers.push(() => {
          resolve(json({}));
        }),
      ),
  );
  const all = [1, 2, 3].map((n) => asking.get(`jobs/${n}`));
  await Promise.resolve();
  expect(answers).toHaveLength(2);
  answers[0]?.();
  await all[0];
  expect(answers).toHaveLength(3);
  answers.slice(1).forEach((answer) => {
    answer();
  });
  await Promise.all(all);
});

/** Never answers, as a connection that was lost without a word. */
const hang: Fetch = (_, { signal }) =>
  new Promise((_, reject) => {
    const abort = (): void => {
      reject(new DOMException("", "AbortError"));
    };
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort);
  });
const lost = { status: 0, isOffline: true, message: expect.stringContaining("No answer came") as string };

it("gives up what has no answer, and makes room for what comes after it", async () => {
  vi.useFakeTimers();
  const asking = service((url, init) =>
    url.endsWith("hangs") ? hang(url, init) : Promise.resolve(json({})),
  );
  const hanging = [
    asking.get("hangs"),
    asking.read("hangs", {}, { limit: 9, keep: "first", signal: new AbortController().signal }),
  ].map((one) => expect(one).rejects.toMatchObject(lost));
  const after = asking.get("jobs");
  await vi.advanceTimersByTimeAsync(ANSWER_MS);
  await Promise.all(hanging);
  expect(await after).toEqual({});
  const change = expect(asking.post("hangs", {})).rejects.toMatchObject(lost);
  await vi.advanceTimersByTimeAsync(CHANGE_MS);
  await change;
  expect(vi.getTimerCount()).toBe(0);
});

it("gives up an answer that stops in its middle", async () => {
  vi.useFakeTimers();
  const asking = service((_, { signal }) => {
    const body = new ReadableStream({
      start: (controller) => {
        controller.enqueue(new Uint8Array(1));
        signal?.addEventListener("abort", () => {
          controller.error(new DOMException("", "AbortError"));
        });
      },
    });
    return Promise.resolve(new Response(body));
  });
  const stopped = expect(asking.get("jobs")).rejects.toMatchObject(lost);
  await vi.advanceTimersByTimeAsync(ANSWER_MS);
  await stopped;
});

it("gives what waits the time that it waits for, too", async () => {
  vi.useFakeTimers();
  const waiting = service(hang).read("log", { wait: 10 }, { limit: 9, keep: "last" });
  const given = expect(waiting).rejects.toMatchObject(lost);
  await vi.advanceTimersByTimeAsync(ANSWER_MS);
  expect(vi.getTimerCount()).toBe(1);
  await vi.advanceTimersByTimeAsync(10_000);
  await given;
});

it("tells what nobody wants any more from what has no answer", async () => {
  const abort = new AbortController();
  const asked = service(hang).get("jobs", {}, abort.signal);
  abort.abort();
  await expect(asked).rejects.toMatchObject({ name: "AbortError" });
});

it("lets no long list keep a change waiting", async () => {
  const asking = service((url, init) =>
    init.method === undefined ? hang(url, init) : Promise.resolve(json({ job_id: "1" })),
  );
  const abort = new AbortController();
  const lists = [1, 2, 3].map((n) =>
    asking.get(`list/${n}`, {}, abort.signal).catch((error: unknown) => error),
  );
  expect(await asking.post("jobs", {})).toEqual({ job_id: "1" });
  await asking.put("jobs/1/cancel");
  await asking.delete("checksums/1");
  abort.abort();
  await Promise.all(lists);
});

it("reads the first or the last bytes of a long body", async () => {
  const pieces = ["begin", "a".repeat(100), "the end"];
  const answer = (): Promise<Response> => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece));
        controller.close();
      },
    });
    return Promise.resolve(new Response(body, { headers: { "X-CTS-Log-Size": "112" } }));
  };
  const asking = service(answer);
  const first = await asking.read("log", {}, { limit: 5, keep: "first" });
  expect([decode(first.bytes), first.isWhole, first.header("X-CTS-Log-Size")]).toEqual([
    "begin",
    false,
    "112",
  ]);
  const last = await asking.read("log", {}, { limit: 7, keep: "last" });
  expect([decode(last.bytes), last.isWhole]).toEqual(["the end", false]);
  for (const keep of ["first", "last"] as const) {
    const whole = await asking.read("log", {}, { limit: 112, keep });
    expect([decode(whole.bytes), whole.isWhole]).toEqual([pieces.join(""), true]);
  }
});

it("keeps what waits out of the way of other requests", async () => {
  const waits: (() => void)[] = [];
  const asking = service((url) =>
    url.includes("wait=")
      ? new Promise((resolve) =>
          waits.push(() => {
            resolve(new Response("more"));
          }),
        )
      : Promise.resolve(json({})),
  );
  const extent = { limit: 10, keep: "last" } as const;
  const both = [1, 2].map(() => asking.read("log", { wait: 10 }, extent));
  await asking.get("jobs/1");
  await asking.get("jobs/2");
  expect(waits).toHaveLength(1);
  waits[0]?.();
  await both[0];
  expect(waits).toHaveLength(2);
  waits[1]?.();
  await both[1];
});

it("goes by the service's clock", async () => {
  const date = new Date(Date.now() + 3_600_000).toUTCString();
  const asking = service(() => Promise.resolve(json({}, { headers: { date } })));
  await asking.get("whoami");
  expect(asking.clockOffset).toBeGreaterThan(3_590_000);
});

it("deletes", async () => {
  const asked: string[] = [];
  await service((url, { method }) => {
    asked.push(`${method ?? ""} ${url}`);
    return Promise.resolve(new Response(null, { status: 204 }));
  }).delete("checksums/1");
  expect(asked).toEqual([`DELETE ${ROOT}checksums/1`]);
});

it("knows what the service has by its description, which it reads once", async () => {
  const description = {
    paths: { "/files": { get: { parameters: [{ name: "prefix" }, { name: "match" }] } } },
  };
  let reads = 0;
  const asked = service(() => {
    reads += 1;
    // Away at first.
    return Promise.resolve(reads === 1 ? new Response("", { status: 503 }) : json(description));
  });
  await expect(asked.knows("GET", "/files")).rejects.toMatchObject({ isOffline: true });
  expect(await asked.knows("GET", "/files", "match")).toBe(true);
  expect(await asked.knows("GET", "/files", "checksum")).toBe(false);
  expect(await asked.knows("POST", "/files")).toBe(false);
  expect(await asked.knows("GET", "/files/roots")).toBe(false);
  expect(reads).toBe(2);
});

it("takes a service without a description for one that lacks what is asked for", async () => {
  expect(await service(() => Promise.resolve(json({}, { status: 404 }))).knows("GET", "/files/roots")).toBe(
    false,
  );
});

it("says that what it sends is JSON", async () => {
  const sent: RequestInit[] = [];
  const asking = service((_, init) => {
    sent.push(init);
    return Promise.resolve(json({}));
  });
  await asking.put("jobs/last_look", { until: 1 });
  await asking.put("jobs/1/cancel");
  await asking.post("jobs", { image: "x" }, "key");
  expect(sent.map(({ body, headers }) => [body, headers])).toEqual([
    ['{"until":1}', { "Content-Type": "application/json" }],
    [undefined, undefined],
    ['{"image":"x"}', { "Content-Type": "application/json", "Idempotency-Key": "key" }],
  ]);
});

it("rejects with an error of the service where an answer is cut, or is no JSON", async () => {
  const cut = (): Response =>
    new Response(
      new ReadableStream({
        start: (controller) => {
          controller.error(new TypeError("network error"));
        },
      }),
    );
  const wrong = { status: 502, isOffline: true };
  const asked = service(() => Promise.resolve(new Response("<html>")));
  await expect(asked.get("jobs")).rejects.toMatchObject(wrong);
  await expect(asked.post("jobs", {})).rejects.toMatchObject(wrong);
  const broken = service(() => Promise.resolve(cut()));
  await expect(broken.post("jobs", {})).rejects.toMatchObject(wrong);
  await expect(broken.read("files/content", {}, { limit: 9, keep: "first" })).rejects.toMatchObject(wrong);
});

it.each([
  [401, "You are signed out of Jupyter: sign in again in another tab"],
  [404, "This Jupyter server has no CTS, or an older one without this"],
  [418, "The service answered 418"],
])("says what an answer of Jupyter itself means: %i", async (status, message) => {
  for (const body of ["Not ours", '{"message": "Log in"}']) {
    const fetch = (): Promise<Response> => Promise.resolve(new Response(body, { status }));
    await expect(service(fetch).get("jobs")).rejects.toMatchObject({ status, message });
  }
});
