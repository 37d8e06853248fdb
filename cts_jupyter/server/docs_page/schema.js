// Renders JSON schemas as words and lists. All text is inserted as text, never as HTML.

function el(tag, { on = {}, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "className" || name === "value") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, handler] of Object.entries(on)) element.addEventListener(event, handler);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

class Schemas {
  constructor(document) {
    this.components = document.components?.schemas ?? {};
  }

  resolve(schema) {
    // Keywords beside a reference, such as a default, apply as well.
    const { $ref, ...beside } = schema;
    if ($ref === undefined) return schema;
    return { ...this.components[$ref.slice($ref.lastIndexOf("/") + 1)], ...beside };
  }

  // Returns the alternatives, without null.
  options(schema) {
    const whole = this.resolve(schema);
    if (!whole.anyOf && !whole.oneOf) return whole.type === "null" ? [] : [whole];
    return (whole.anyOf ?? whole.oneOf).flatMap((option) => this.options(option));
  }

  mayBeNull(schema) {
    const whole = this.resolve(schema);
    return whole.type === "null" || (whole.anyOf ?? whole.oneOf ?? []).some((option) => this.mayBeNull(option));
  }

  words(schema) {
    const words = this.options(schema).map((option) => this.word(option));
    if (this.mayBeNull(schema)) words.push("null");
    return [...new Set(words)].join(" or ") || "anything";
  }

  word(schema) {
    if ("const" in schema) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
    if (schema.type === "array") return `list of ${this.words(schema.items ?? {})}`;
    const values = this.mapped(schema);
    if (values) return `object of names to ${this.words(values)}`;
    if (schema.type === "object") return schema.title ?? "object";
    return [schema.type ?? "anything", schema.format && `(${schema.format})`].filter(Boolean).join(" ");
  }

  // Returns the schema of the values of an object with arbitrary names.
  mapped(schema) {
    if (schema.properties) return null;
    if (typeof schema.additionalProperties === "object") return schema.additionalProperties;
    return Object.values(schema.patternProperties ?? {})[0] ?? null;
  }

  bounds(schema) {
    const bounds = new Set();
    for (const option of [this.resolve(schema), ...this.options(schema)]) {
      const span = (low, high, unit) => {
        if (low !== undefined && high !== undefined) bounds.add(low === high ? `${low}${unit}` : `${low} to ${high}${unit}`);
        else if (low !== undefined) bounds.add(`at least ${low}${unit}`);
        else if (high !== undefined) bounds.add(`at most ${high}${unit}`);
      };
      span(option.minimum, option.maximum, "");
      span(option.minLength, option.maxLength, " characters");
      span(option.minItems, option.maxItems, " items");
      span(option.minProperties, option.maxProperties, " names");
      if (option.pattern) bounds.add(`matches ${option.pattern}`);
    }
    const preset = this.resolve(schema).default;
    if (preset !== undefined && preset !== null) bounds.add(`default ${JSON.stringify(preset)}`);
    return [...bounds].join("; ");
  }

  // Returns the objects inside a schema that have fields.
  inner(schema) {
    return this.options(schema).flatMap((option) => {
      if (option.properties) return [option];
      const deeper = option.type === "array" ? option.items : this.mapped(option);
      return deeper ? this.inner(deeper) : [];
    });
  }

  describe(name, schema, isNeeded) {
    const bounds = this.bounds(schema);
    return [
      el("code", { className: "name" }, name), " ",
      isNeeded ? el("span", { className: "needed" }, "required ") : null,
      el("span", { className: "type" }, this.words(schema)),
      bounds ? el("span", { className: "bounds" }, ` ${bounds}`) : null,
    ];
  }

  // Deeper objects are rendered when they are opened, because schemas may be recursive.
  field(name, schema, isNeeded) {
    const inner = this.inner(schema);
    const about = this.describe(name, schema, isNeeded);
    if (!inner.length) return el("li", {}, ...about);
    const details = el("details", {}, el("summary", {}, ...about));
    details.addEventListener("toggle", () => details.append(...inner.map((one) => this.fields(one))), { once: true });
    return el("li", {}, details);
  }

  fields(schema) {
    const needed = new Set(schema.required ?? []);
    const items = Object.entries(schema.properties).map(([name, one]) => this.field(name, one, needed.has(name)));
    return el("ul", { className: "fields" }, ...items);
  }

  block(schema) {
    const inner = this.inner(schema);
    const lines = [el("p", {}, el("span", { className: "type" }, this.words(schema)))];
    for (const one of inner) {
      if (inner.length > 1) lines.push(el("p", { className: "faint" }, one.title ?? "object"));
      lines.push(this.fields(one));
    }
    return lines;
  }

  // Returns an example for a request's body: its required fields.
  example(schema, depth = 0) {
    const [option = {}] = this.options(schema);
    const preset = this.resolve(schema).default;
    if (preset !== undefined && preset !== null) return preset;
    if ("const" in option) return option.const;
    if (option.enum) return option.enum[0];
    if (option.type === "array") return depth < 6 && option.items ? [this.example(option.items, depth + 1)] : [];
    if (option.type === "integer" || option.type === "number") return option.minimum ?? 0;
    if (option.type === "boolean") return false;
    if (option.type !== "object") return "";
    const needed = depth < 6 ? option.required ?? [] : [];
    return Object.fromEntries(needed.map((name) => [name, this.example(option.properties?.[name] ?? {}, depth + 1)]));
  }
}
