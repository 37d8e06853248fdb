// Renders the OpenAPI description as a page.

const place = (id) => document.getElementById(id);
// The page is at <root>/docs, with any number of slashes.
const ROOT = new URL(location.pathname.replace(/\/*docs\/*$/, "/"), location.origin);

function drawResponse(status, response, schemas) {
  const about = el("p", {}, el("b", {}, status), ` ${response.description}`);
  const parts = Object.entries(response.content ?? {}).flatMap(([media, { schema }]) => [
    el("p", { className: "faint" }, media),
    ...(media === "application/json" ? schemas.block(schema) : []),
  ]);
  return parts.length ? el("details", {}, el("summary", {}, ...about.childNodes), ...parts) : about;
}

function drawOperation(method, path, operation, schemas) {
  const parts = [];
  if (operation.description) parts.push(el("p", {}, operation.description));
  if (operation.parameters?.length) {
    parts.push(el("h3", {}, "Parameters"), el("ul", { className: "fields" }, ...operation.parameters.map((one) => {
      const item = schemas.field(one.name, one.schema, one.required);
      item.append(el("span", { className: "faint" }, ` · ${one.in}`));
      return item;
    })));
  }
  for (const [media, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    parts.push(el("h3", {}, "Body"), el("p", { className: "faint" }, media), ...schemas.block(schema));
  }
  parts.push(el("h3", {}, "Answers"));
  for (const [status, response] of Object.entries(operation.responses)) parts.push(drawResponse(status, response, schemas));
  const form = new RequestForm(ROOT, method.toUpperCase(), path, operation, schemas, () => place("token").value.trim());
  return el("div", {}, ...parts, form.element);
}

function drawSummary(method, path, operation) {
  return el(
    "details", { className: "operation", id: operation.operationId },
    el("summary", {},
      el("span", { className: `method ${method}` }, method.toUpperCase()),
      el("span", { className: "path" }, path),
      el("span", { className: "says" }, operation.summary),
      operation.security ? el("span", { className: "who" }, operation["x-roles"]?.join(" or ") ?? "token") : null),
  );
}

// Returns the text that the search looks in: method, path, summary, operationId, and names of parameters and fields.
function wordsOf(method, path, operation, schemas) {
  const names = (operation.parameters ?? []).map((one) => one.name);
  for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
    names.push(...schemas.inner(schema).flatMap((one) => Object.keys(one.properties)));
  }
  return [method, path, operation.summary, operation.operationId, ...names].join(" ").toLowerCase();
}

function draw(description) {
  const schemas = new Schemas(description);
  const sections = new Map();
  const words = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "service";
      if (!sections.has(tag)) sections.set(tag, el("section", {}, el("h2", {}, tag)));
      const details = drawSummary(method, path, operation);
      const unfold = () => details.append(drawOperation(method, path, operation, schemas));
      details.addEventListener("toggle", unfold, { once: true });
      words.set(details, wordsOf(method, path, operation, schemas));
      sections.get(tag).append(details);
    }
  }
  place("version").textContent = description.info.version;
  const nothing = el("p", { hidden: true }, "Nothing here is called so.");
  place("api").replaceChildren(...sections.values(), nothing);
  const find = () => {
    const terms = place("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [details, text] of words) details.hidden = !terms.every((term) => text.includes(term));
    for (const section of sections.values()) section.hidden = !section.querySelector("details.operation:not([hidden])");
    nothing.hidden = [...sections.values()].some((section) => !section.hidden);
  };
  place("find").addEventListener("input", find);
  find();
}

function openLinked() {
  const linked = place(decodeURIComponent(location.hash.slice(1)));
  if (!linked?.classList.contains("operation")) return;
  linked.open = true;
  linked.scrollIntoView();
}

async function begin() {
  const api = place("api");
  const where = new URL("openapi.json", ROOT);
  place("tools").addEventListener("submit", (event) => event.preventDefault());
  place("description").href = where.href;
  try {
    const response = await fetch(where);
    const content = await response.json();
    if (!response.ok) throw new Error(content.error?.message ?? `it answers ${response.status}`);
    draw(content);
    openLinked();
    addEventListener("hashchange", openLinked);
  } catch (error) {
    api.replaceChildren(el("p", { className: "failed" }, `The description of the API cannot be read: ${error.message}`));
  }
  api.removeAttribute("aria-busy");
}

begin();
