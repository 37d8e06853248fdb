// All that a widget saves and sends of its component: it takes the one that is in the page, or asks the kernel once.

const PAGE_KEY = Symbol.for("cts.page.v1");

function fetchModule(model) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error("The kernel does not answer: run the cell again")),
      60_000,
    );
    model.on("msg:custom", function take(content, buffers) {
      if (content.cts !== "module") return;
      clearTimeout(timer);
      model.off("msg:custom", take);
      const url = URL.createObjectURL(new Blob(buffers, { type: "text/javascript" }));
      import(/* webpackIgnore: true */ url).then(resolve, reject);
    });
    model.send({ cts: "module?" });
  });
}

async function render({ model, el }) {
  globalThis[PAGE_KEY] ??= fetchModule(model);
  try {
    return await (await globalThis[PAGE_KEY]).mount("panel", el, model);
  } catch (error) {
    delete globalThis[PAGE_KEY];
    el.textContent = String(error);
  }
}

export default { render };
