// Builds a request from a form, shows it as a curl command, sends it, and shows the response.

const SHOWN_CHARACTERS = 100_000;

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// Jupyter requires this token of requests that are authenticated by a cookie.
function xsrf() {
  return document.cookie.split("; ").find((one) => one.startsWith("_xsrf="))?.slice("_xsrf=".length);
}

class RequestForm {
  constructor(root, method, path, operation, schemas, token) {
    Object.assign(this, { root, method, path, token });
    this.inputs = (operation.parameters ?? []).map((parameter) => ({
      ...parameter,
      input: el("input", {
        "aria-label": parameter.name,
        placeholder: parameter.schema.default ?? null,
        required: parameter.required,
        spellcheck: "false",
      }),
    }));
    const content = operation.requestBody?.content ?? {};
    this.body = null;
    if (content["application/json"]) {
      const schema = content["application/json"].schema;
      const value = operation.requestBody.required ? JSON.stringify(schemas.example(schema), null, 2) : "";
      this.body = el("textarea", { "aria-label": "body", spellcheck: "false", value });
    } else if (operation.requestBody) {
      this.body = el("input", { type: "file", "aria-label": "body" });
    }
    this.command = el("pre", { className: "command" });
    this.status = el("p", { role: "status" });
    this.answer = el("pre", { className: "answer", hidden: true, tabindex: "0" });
    this.stop = el("button", { type: "button", hidden: true, on: { click: () => this.abort?.abort() } }, "Stop");
    this.element = el(
      "form", { on: { submit: (event) => this.submit(event), input: () => this.show() } },
      el("h3", {}, "Request"),
      el("div", { className: "inputs" }, ...this.inputs.flatMap(({ name, input }) => [el("code", {}, name), input]),
        ...(this.body ? [el("code", {}, "body"), this.body] : [])),
      el("div", { className: "row" }, el("button", {}, "Send"), this.stop, this.status),
      this.answer,
      el("details", {}, el("summary", { className: "faint" }, "As a command"), this.command),
    );
    this.show();
  }

  get isFile() {
    return this.body?.type === "file";
  }

  compose() {
    const url = new URL(this.root);
    const headers = {};
    let path = this.path;
    for (const { in: place, name, input, schema } of this.inputs) {
      if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(input.value));
      else if (!input.value) continue;
      else if (place === "header") headers[name] = input.value;
      else if (schema.type === "array") {
        for (const value of input.value.split(",")) url.searchParams.append(name, value.trim());
      } else url.searchParams.set(name, input.value);
    }
    url.pathname = this.root.pathname.replace(/\/$/, "") + path;
    if (this.body && !this.isFile && this.body.value) headers["Content-Type"] = "application/json";
    return { url, headers };
  }

  show() {
    const { url, headers } = this.compose();
    const parts = ["curl", "-X", this.method, '-H "Authorization: Bearer $CTS_TOKEN"'];
    for (const [name, value] of Object.entries(headers)) parts.push("-H", quote(`${name}: ${value}`));
    if (this.isFile) parts.push("--data-binary @FILE");
    else if (this.body?.value) parts.push("--data-binary", quote(this.body.value));
    this.command.textContent = [...parts, quote(url.href)].join(" ");
  }

  async submit(event) {
    event.preventDefault();
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    const { url, headers } = this.compose();
    if (this.token()) headers.Authorization = `Bearer ${this.token()}`;
    else if (xsrf()) headers["X-XSRFToken"] = xsrf();
    const body = (this.isFile ? this.body.files[0] : this.body?.value) || undefined;
    this.showStatus("Waiting for the answer …");
    this.answer.hidden = true;
    this.stop.hidden = false;
    try {
      const response = await fetch(url, { method: this.method, headers, body, signal: abort.signal, credentials: "same-origin" });
      this.showStatus(`${response.status} ${response.statusText}`, !response.ok);
      await this.read(response, abort);
    } catch (error) {
      if (!abort.signal.aborted) this.showStatus(`No answer: ${error.message}`, true);
    } finally {
      if (this.abort === abort) this.stop.hidden = true;
    }
  }

  // Read piece by piece, because an event stream does not end.
  async read(response, abort) {
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = reader ? await reader.read() : { done: true };
      if (done || this.abort !== abort) break;
      text += value;
      this.draw(text);
      if (text.length > SHOWN_CHARACTERS) {
        this.draw(`${text.slice(0, SHOWN_CHARACTERS)}\n… the rest is not shown`);
        abort.abort();
        return;
      }
    }
    if (response.headers.get("Content-Type")?.startsWith("application/json")) {
      this.draw(JSON.stringify(JSON.parse(text), null, 2));
    }
  }

  draw(text) {
    this.answer.hidden = false;
    this.answer.textContent = text;
  }

  showStatus(text, isFailure = false) {
    this.status.textContent = text;
    this.status.className = isFailure ? "failed" : "";
  }
}
