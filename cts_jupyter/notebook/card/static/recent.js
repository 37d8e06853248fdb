// A map of bounded size: beyond `limit` it forgets what was not asked for or set for the longest.

export class Recent {
  #limit;
  #kept = new Map();

  constructor(limit) {
    this.#limit = limit;
  }

  get(key) {
    const value = this.#kept.get(key);
    if (this.#kept.has(key)) this.set(key, value);
    return value;
  }

  set(key, value) {
    this.#kept.delete(key);
    this.#kept.set(key, value);
    if (this.#kept.size > this.#limit) this.#kept.delete(this.#kept.keys().next().value);
  }
}
