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
    if (this.callbacks.size === 1) this.onWatched();
    return () => {
      if (this.callbacks.delete(callback) && !this.isWatched) this.onUnwatched();
    };
  }

  /** What a view needs while it is watched begins. */
  protected onWatched(): void {
    return;
  }

  /** Nobody watches it any more. */
  protected onUnwatched(): void {
    return;
  }

  protected set(changes: Partial<View>): void {
    this.state = { ...this.state, ...changes };
    for (const callback of [...this.callbacks]) callback();
  }
}
