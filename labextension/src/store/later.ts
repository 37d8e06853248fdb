// What is done a little later, once for all that ask for it meanwhile.

export class Later {
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Does it in so many milliseconds, unless something waits already: what comes meanwhile does not put it off. */
  once(act: () => void, ms: number): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      act();
    }, ms);
  }

  /** Forgets what waits. */
  forget(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
