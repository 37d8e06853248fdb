// A map of bounded size: beyond `limit` it evicts the least recently used entry.

export class Recent {
  #limit;
  #entries = new Map();

  constructor(limit) {
    this.#limit = limit;
  }

  get(key) {
    const value = this.#entries.get(key);
    if (this.#entries.has(key)) this.set(key, value);
    return value;
  }

  set(key, value) {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.#limit) this.#entries.delete(this.#entries.keys().next().value);
  }
}
