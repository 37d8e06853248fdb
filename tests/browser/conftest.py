"""A real JupyterLab, driven by a real Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

from cts_jupyter.client import CTSClient
from cts_jupyter.discovery import Connection, ServerFile
from tests.harness.paths import SLEEP_THEN_WRITE
from tests.services.server import MissingError, free_port, or_skip

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
TOKEN = "the-labs-own-token"
SCREENSHOTS = Path(os.environ.get("TESTS_SCREENSHOTS", "test-results/card"))
START_SECONDS = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(240))


@dataclass
class Lab:
    """A JupyterLab with CTS, in a folder of its own; may be stopped and started again on the same port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    notebooks: int = field(default=0)
    tool: Path = SLEEP_THEN_WRITE
    environ: dict[str, str] = field(default_factory=dict)
    runtime: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="cts-lab-", dir="/tmp"))
    )
    """Has kernels' sockets, whose names have to be short."""

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
        with (self.folder / "lab.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
                    f"--port={self.port}", "--ServerApp.port_retries=0", "--ip=127.0.0.1",
                    f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={work}",
                    "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
                    f"--CTSExtension.home={self.folder / 'home'}", "--CTSExtension.owner=ana",
                    "--ServerApp.jpserver_extensions=cts_jupyter=True",
                    # Of ports that are chosen before a kernel has them, some other process may take one.
                    "--KernelManager.transport=ipc",
                ],
                cwd=work, env=env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.client().close()

    def client(self) -> CTSClient:
        assert self.process is not None
        file = self.runtime / f"cts-server-{self.process.pid}.json"
        deadline = time.monotonic() + START_SECONDS
        while not file.exists():
            assert self.process.poll() is None, (self.folder / "lab.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "lab.log").read_text()
            time.sleep(0.1)
        found = ServerFile.model_validate_json(file.read_text())
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
class Notebook:
    """A notebook in a page."""

    lab: Lab
    page: Page
    name: str

    def open(self) -> None:
        self.page.goto(f"{self.lab.url}/lab/tree/{self.name}?token={TOKEN}&reset")
        self.page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length"
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

    def card(self, number: int = 0) -> Locator:
        return self.page.locator("cts-job-card section.card").nth(number)

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


@pytest.fixture(autouse=True)
def jp_asyncio_loop() -> None:
    """Not here: Playwright has a loop of its own, and it runs all the time."""


@pytest.fixture(autouse=True)
def jp_server_cleanup() -> None:
    """Not here: no server lives in this process."""


# By module: tests after these want to run loops of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with or_skip():
        if not CHROMIUM.exists():
            raise MissingError(f"There is no {CHROMIUM}: the browser tests need it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"), free_port())
    lab.start()
    try:
        with lab.client() as client:
            client.register_image("host/tool", executable=str(SLEEP_THEN_WRITE))
            source = lab.folder / "in.txt"
            for n in range(6):
                source.write_text(f"genome {n}\n")
                client.upload(source, f"data/in/{n}.txt")
        yield lab
    finally:
        lab.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def open_notebook(lab: Lab, page: Page):
    """Write a notebook whose cells these are, open it, run it."""

    def open_(*cells: str, run: bool = True) -> Notebook:
        notebook = Notebook(lab, page, lab.write_notebook(["%load_ext cts_jupyter", *cells]))
        notebook.open()
        if run:
            notebook.run_all()
        return notebook

    return open_
