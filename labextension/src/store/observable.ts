// What a component watches: a view that is another object after each change.

export class Observable<View> {
  private readonly callbacks = new Set<() => void>();

  constructor(private state: View) {}

  get view(): View {
    return this.state;
  }

  get isWatched(): boolean {
    return this.callbacks.size > 0;
  }

  /** Calls back after each change; returns what ends it. */
  watch(callback: () => void): () => void {
    this.callbacks.add(callback);
    return () => {
      this.callbacks.delete(callback);
    };
  }

  protected set(changes: Partial<View>): void {
    this.state = { ...this.state, ...changes };
    for (const callback of [...this.callbacks]) callback();
  }
}
