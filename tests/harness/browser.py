"""A real JupyterLab in a process of its own, and its notebooks in a page of a browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Error, Locator, Page, Route, expect, sync_playwright

from cts_jupyter.client import CTSClient
from cts_jupyter.discovery import Connection
from tests.harness.labextension import SOURCES
from tests.harness.paths import SLEEP_THEN_WRITE
from tests.harness.server_file import wait_for_server_file
from tests.services.server import MissingError

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
LAB_TOKEN = "the-labs-own-token"
SCREENSHOTS = Path(os.environ.get("TESTS_SCREENSHOTS", "test-results/card"))
SUBMIT = (
    "%cts submit {image} -i {inputs} --output-dir data/out/{name}/ -n {containers} --memory 50MB "
    "--runtime 5m -o job -- {mode} {seconds} /output_files/{output}"
)
AXE = SOURCES / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = """async parts => (await axe.run({include: parts})).violations
    .filter(({impact}) => ['serious', 'critical'].includes(impact))
    .map(({id, nodes}) => `${id}: ${nodes.map(({html}) => html).join(' ')}`)"""
NEWS = "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
"""JupyterLab's question whether it may fetch its news lies over what it shows; this answers it."""
NO_SPLASH = "() => !document.querySelector('#jupyterlab-splash')"
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
LONG = 60_000
"""Milliseconds for steps that need a kernel to be started."""
FORGET = """
shell = get_ipython()
shell.extension_manager.loaded.discard("cts_jupyter")
shell.reset()
"""
"""Has a kernel begin anew, without the seconds that Python takes to start and to import."""
OPEN = """async ([path, forget]) => {
    const { commands, serviceManager: { kernels } } = window.jupyterapp;
    await kernels.refreshRunning();
    const [kernel] = kernels.running();
    if (kernel) {
        const connection = kernels.connectTo({ model: kernel });
        await connection.requestExecute({ code: forget, silent: true }).done;
        connection.dispose();
    }
    // Not returned: it is a widget.
    await commands.execute("docmanager:open", { path, kernel });
}"""


LAB_PAGE = re.compile(r"/lab(/tree/[^?]*)?\?")
PAGE_CONFIG = re.compile(
    r'(<script id="jupyter-config-data" type="application/json">)(.*?)(</script>)', re.DOTALL
)


def serve_lab(route: Route, *, with_cts: bool) -> None:
    """Answer with JupyterLab's page, with or without the extension; for the page's requests that match ``LAB_PAGE``."""
    answer = route.fetch()
    found = PAGE_CONFIG.search(answer.text())
    assert found is not None
    opening, config, closing = found.groups()
    page_config = json.loads(config)
    page_config["federated_extensions"] = [
        one
        for one in page_config["federated_extensions"]
        if with_cts or one["name"] != "cts-jupyter"
    ]
    changed = PAGE_CONFIG.sub(lambda _: opening + json.dumps(page_config) + closing, answer.text())
    route.fulfill(response=answer, body=changed)


def find_chromium() -> Path:
    """Return the browser that pages are shown in. Raises MissingError."""
    if not CHROMIUM.exists():
        raise MissingError(f"There is no {CHROMIUM}: the browser tests need it")
    return CHROMIUM


@contextlib.contextmanager
def running_browser(*flags: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(find_chromium()), args=[*FLAGS, *flags]
        )
        yield browser
        browser.close()


def set_theme(page: Page, theme: str) -> None:
    """Show JupyterLab in a theme, which is kept on its server for the pages that follow."""
    # JupyterLab fails to remove the splash of its start if that of a theme comes and goes meanwhile.
    page.wait_for_function(NO_SPLASH)
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
    )
    page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)
    page.wait_for_function(NO_SPLASH)


def find_inaccessible(page: Page, *parts: str) -> list[str]:
    """Return what axe finds in parts of a page that keeps people from using it."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=AXE)
    found: list[str] = page.evaluate(SERIOUS, [[part] for part in parts])
    return found


def open_lab(lab: LabHarness, page: Page, path: str = "lab") -> None:
    """Open JupyterLab anew, with nothing of what was open before."""
    page.goto(f"{lab.url}/{path}?token={LAB_TOKEN}&reset")
    page.wait_for_function("window.jupyterapp?.restored.then(() => true)")


def open_sidebar(lab: LabHarness, page: Page) -> Locator:
    """Open JupyterLab anew, with the sidebar."""
    open_lab(lab, page)
    return show_sidebar(page)


def open_sidebar_for_keys(lab: LabHarness, page: Page) -> Locator:
    """Open JupyterLab anew, with the sidebar, once its launcher has taken the focus, as it does of its own accord."""
    found = open_sidebar(lab, page)
    expect(page.locator(".jp-Launcher")).to_be_focused(timeout=LONG)
    return found


def show_sidebar(page: Page) -> Locator:
    page.evaluate("window.jupyterapp.commands.execute('cts:show-jobs')")
    found = page.locator(".cts-sidebar")
    expect(found).to_be_visible(timeout=LONG)
    return found


def submit(
    name: str,
    *,
    mode: str = "work",
    seconds: float | Path = 1,
    containers: int = 1,
    inputs: str = "data/in/",
    image: str = "host/tool",
    output: str = "o_<n>.txt",
) -> str:
    return SUBMIT.format(**locals())


def expect_state(card: Locator, state: str, timeout: float = LONG) -> None:
    expect(card.locator("header .cts-state")).to_have_text(state, timeout=timeout)


@dataclass
class LabHarness:
    """A JupyterLab with CTS, in a folder of its own; may be stopped and started again on the same port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    notebooks: int = field(default=0)
    tool: Path = SLEEP_THEN_WRITE
    python: str | Path = sys.executable
    environ: dict[str, str] = field(default_factory=dict)
    policy: str = ""
    """The Content-Security-Policy of its pages; empty for Jupyter's own."""
    runtime: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="cts-lab-", dir="/tmp"))
    )
    """Holds kernels' sockets, whose names must be short."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("CTS_", "CDM_", "JPY_"))}
        for name in ("CONFIG", "DATA"):
            env[f"JUPYTER_{name}_DIR"] = str(self.folder / name.lower())
        env["JUPYTER_RUNTIME_DIR"] = str(self.runtime)
        env |= {"IPYTHONDIR": str(self.folder / "ipython"), "CTS_LOCAL__CPUS": "2", **self.environ}
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        news = self.folder / "config" / NEWS
        news.parent.mkdir(parents=True, exist_ok=True)
        news.write_text('{"fetchNews": "false"}')
        if self.policy:
            headers = {"headers": {"Content-Security-Policy": self.policy}}
            config = json.dumps({"ServerApp": {"tornado_settings": headers}})
            (self.folder / "config" / "jupyter_server_config.json").write_text(config)
        with (self.folder / "lab.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.python, "-m", "jupyterlab", "--no-browser", "--allow-root",
                    f"--port={self.port}", "--ServerApp.port_retries=0", "--ip=127.0.0.1",
                    f"--IdentityProvider.token={LAB_TOKEN}", f"--ServerApp.root_dir={work}",
                    "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
                    f"--CTSExtension.home={self.folder / 'home'}", "--CTSExtension.owner=ana",
                    "--ServerApp.jpserver_extensions=cts_jupyter=True",
                    "--JupyterNotebookApp.expose_app_in_browser=True",
                    # Of ports that are chosen before a kernel has them, some other process may take one.
                    "--KernelManager.transport=ipc",
                ],
                cwd=work, env=env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.client().close()

    def client(self) -> CTSClient:
        assert self.process is not None
        found = wait_for_server_file(self.runtime, self.process, self.folder / "lab.log")
        return CTSClient.of(Connection(found.url, lambda: found.token))

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.runtime)

    def end_kernels(self) -> None:
        api = f"{self.url}/api/kernels"
        with httpx.Client(headers={"Authorization": f"token {LAB_TOKEN}"}, timeout=60) as http:
            for kernel in http.get(api).raise_for_status().json():
                http.delete(f"{api}/{kernel['id']}").raise_for_status()

    def write_notebook(self, cells: list[str]) -> str:
        self.notebooks += 1
        name = f"n{self.notebooks}.ipynb"
        notebook = new_notebook(
            cells=[new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self.folder / "work" / name)
        return name


@dataclass
class NotebookPage:
    """A notebook in a page."""

    lab: LabHarness
    page: Page
    name: str
    program: str = "lab/tree"
    """What shows it: ``notebooks`` is Notebook 7."""

    def open(self) -> None:
        self.page.goto(f"{self.lab.url}/{self.program}/{self.name}?token={LAB_TOKEN}&reset")
        self.page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length"
        )

    def show(self) -> None:
        """Open it where JupyterLab is loaded, in the kernel of the notebook before, where there is one."""
        if not self.page.url.startswith(self.lab.url):
            self.open()
            return
        self.page.evaluate(OPEN, [self.name, FORGET])
        self.page.wait_for_function(
            "path => window.jupyterapp.shell.currentWidget?.context?.path === path"
            " && window.jupyterapp.shell.currentWidget.content.widgets.length",
            arg=self.name,
        )

    def execute(self, command: str, args: dict[str, Any] | None = None) -> None:
        self.page.evaluate(
            "([command, args]) => { window.jupyterapp.commands.execute(command, args); }",
            [command, args or {}],
        )

    def run_all(self) -> None:
        self.page.wait_for_function(
            "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
        )
        self.execute("notebook:run-all-cells")

    def save(self) -> None:
        self.page.evaluate("window.jupyterapp.shell.currentWidget.context.save()")

    def saved(self) -> nbformat.NotebookNode:
        return nbformat.read(self.lab.folder / "work" / self.name, as_version=4)

    def open_foreign(self) -> None:
        """Open the same notebook by another author, for which there is no kernel."""
        saved = self.saved()
        saved.cells[0].source += " "
        saved.metadata.kernelspec = {"name": "none", "display_name": "None"}
        self.name = f"foreign-{self.name}"
        nbformat.write(saved, self.lab.folder / "work" / self.name)
        self.open()

    def card(self, number: int = 0) -> Locator:
        return self.page.locator(".cts-card").nth(number)

    def shot(self, name: str, what: Locator | None = None) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.add_style_tag(content=".Toastify { display: none }")
        for tries_left in reversed(range(5)):
            try:
                path = SCREENSHOTS / f"{name}.png"
                (what or self.card()).screenshot(path=path, animations="disabled")
            except Error as e:
                # Lab makes an output anew when the kernel updates it, which may be just now.
                if "not attached" not in e.message or not tries_left:
                    raise
            else:
                return
