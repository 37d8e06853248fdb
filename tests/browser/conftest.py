"""Fixtures for a real JupyterLab that a real Chromium shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.harness.browser import SCREENSHOTS, LabHarness, NotebookPage
from tests.harness.labextension import built_labextension
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(240))


# By module: later tests run event loops of their own.
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
def lab(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[LabHarness]:
    with or_skip():
        built_labextension()
    lab = LabHarness(tmp_path_factory.mktemp("lab"), free_port())
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
def shot(page: Page):
    """Take a picture of the page, or of a part of it."""

    def take(name: str, what: Locator | None = None) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (what or page).screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    return take


@pytest.fixture
def open_notebook(lab: LabHarness, page: Page):
    """Write a notebook with these cells, open it and run it."""

    def open_(*cells: str, run: bool = True) -> NotebookPage:
        notebook = NotebookPage(lab, page, lab.write_notebook(["%load_ext cts_jupyter", *cells]))
        notebook.open()
        if run:
            notebook.run_all()
        return notebook

    return open_
