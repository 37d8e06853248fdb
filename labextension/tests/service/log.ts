// A log as the service answers its parts.

import type { Bytes, Query } from "../../src/service/port";

export class ScriptedLog {
  hasEnded = false;
  /** Called when a request waits for more; it waits until what is returned is settled. */
  onWait: () => Promise<void> = () => new Promise(() => undefined);

  constructor(public text: string) {}

  readonly answer = async (query: Query): Promise<Bytes> => {
    const { seek = 0, length = Infinity, tail, wait } = query as Record<string, number | undefined>;
    if (wait && seek >= this.text.length && !this.hasEnded) await this.onWait();
    const begin = tail === undefined ? seek : Math.max(0, this.text.length - tail);
    const headers: Record<string, string> = {
      "X-CTS-Log-Size": String(this.text.length),
      "X-CTS-Log-Ended": String(this.hasEnded),
    };
    return {
      bytes: new TextEncoder().encode(this.text.slice(begin, begin + length)),
      isWhole: true,
      header: (name) => headers[name] ?? null,
    };
  };
}
