import { digestOf } from "../../src/rules/digest";
import type { Model } from "../../src/widget/binding";

type Sent = Record<string, unknown> & { cts: string };

/** A widget's model whose kernel is the test. */
export class FakeModel implements Model {
  readonly traits: Record<string, unknown> = {
    _spec: {},
    _digest: digestOf([]),
    _job_id: "",
    _sent_key: "",
    checked: null,
  };
  readonly sent: Sent[] = [];
  private readonly callbacks = new Map<
    string,
    ((content: unknown, buffers: readonly DataView[]) => void)[]
  >();

  get(name: string): unknown {
    return this.traits[name];
  }

  set(name: string, value: unknown): void {
    this.traits[name] = value;
  }

  save_changes(): void {
    // The test reads the traits.
  }

  send(content: unknown): void {
    this.sent.push(content as Sent);
  }

  on(event: string, callback: (content: unknown, buffers: readonly DataView[]) => void): void {
    this.callbacks.set(event, [...(this.callbacks.get(event) ?? []), callback]);
  }

  off(event: string, callback: (content: unknown, buffers: readonly DataView[]) => void): void {
    this.callbacks.set(
      event,
      (this.callbacks.get(event) ?? []).filter((one) => one !== callback),
    );
  }

  /** How many listen to it. */
  get listening(): number {
    return [...this.callbacks.values()].flat().length;
  }

  tell(content: unknown): void {
    for (const callback of this.callbacks.get("msg:custom") ?? []) callback(content, []);
  }

  change(name: string, value: unknown): void {
    this.traits[name] = value;
    this.emit(`change:${name}`);
  }

  emit(event: string): void {
    for (const callback of this.callbacks.get(event) ?? []) callback(undefined, []);
  }
}
