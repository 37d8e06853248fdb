// All that a widget saves and sends of its component: it takes the one that is in the page, or asks the kernel once.

const PAGE_KEY = Symbol.for("cts.page.v1");

function fetchModule(model) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      model.off("msg:custom", take);
      reject(new Error("The kernel does not answer: run the cell again"));
    }, 60_000);
    function take(content, buffers) {
      if (content.cts !== "module") return;
      clearTimeout(timer);
      model.off("msg:custom", take);
      const url = URL.createObjectURL(new Blob(buffers, { type: "text/javascript" }));
      import(/* webpackIgnore: true */ url).finally(() => URL.revokeObjectURL(url)).then(resolve, reject);
    }
    model.on("msg:custom", take);
    model.send({ cts: "module?" });
  });
}

function keepModule(model) {
  const fetched = fetchModule(model);
  globalThis[PAGE_KEY] = fetched;
  fetched.catch(() => {
    if (globalThis[PAGE_KEY] === fetched) delete globalThis[PAGE_KEY];
  });
  return fetched;
}

async function render({ model, el }) {
  try {
    return await (await (globalThis[PAGE_KEY] ?? keepModule(model))).mount("panel", el, model);
  } catch (error) {
    el.textContent = String(error);
  }
}

export default { render };
