"""Fixtures for a real JupyterLab that a real Chromium shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page

from tests.harness.browser import (
    LIGHT,
    SCREENSHOTS,
    LabHarness,
    NotebookPage,
    find_chromium,
    running_browser,
    set_theme,
)
from tests.harness.console import Faults
from tests.harness.labextension import built_labextension
from tests.harness.paths import SLEEP_THEN_WRITE
from tests.services.server import free_port, or_skip

NewContext = Callable[..., BrowserContext]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(240))


# By package: tests elsewhere run event loops of their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with or_skip():
        find_chromium()
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
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


@dataclass
class SharedPage:
    """A page for one test after the other, as JupyterLab takes long to load; nothing is open in it between them."""

    new_context: NewContext
    page: Page | None = None

    def open(self) -> Page:
        if self.page is None:
            self.page = self.new_context(viewport={"width": 1100, "height": 900}).new_page()
        return self.page

    def empty(self) -> None:
        """Close what a test has opened; keep the page only if that is all that the test has changed."""
        if self.page is None:
            return
        for other in self.page.context.pages[1:]:
            other.close()
        self.page.unroute_all()
        if self.page.evaluate(EMPTY):
            set_theme(self.page, LIGHT)
        else:
            self.close()

    def close(self) -> None:
        if self.page is not None:
            self.page.context.close()
            self.page = None


EMPTY = """() => {
    const shell = window.jupyterapp?.shell;
    for (const widget of [...(shell?.widgets("main") ?? [])]) widget.dispose();
    return shell !== undefined;
}"""


@pytest.fixture(scope="package")
def faults() -> Faults:
    return Faults()


@pytest.fixture(scope="package")
def new_context(browser: Browser, faults: Faults) -> NewContext:
    """Make a context of the browser; what goes wrong in its pages fails the test that they are shown in."""

    def new(**options: Any) -> BrowserContext:
        context = browser.new_context(**options)
        faults.watch(context)
        return context

    return new


@pytest.fixture(autouse=True)
def no_fault(faults: Faults) -> Iterator[None]:
    faults.begin()
    yield
    assert faults.found == []


@pytest.fixture
def unanswered(no_fault: None, faults: Faults) -> None:
    """For a test in which requests of ours are refused, or have no answer: of each, Chromium itself writes an error."""
    faults.allows_unanswered = True


@pytest.fixture(scope="package")
def shared_page(new_context: NewContext) -> Iterator[SharedPage]:
    shared = SharedPage(new_context)
    yield shared
    shared.close()


@pytest.fixture
def own_page(shared_page: SharedPage) -> Iterator[None]:
    """For a test that changes its page for good, or looks at all that its page asks for."""
    shared_page.close()
    yield
    shared_page.close()


@pytest.fixture
def own_kernel(lab: LabHarness) -> Iterator[None]:
    """For a test that changes its kernel for good."""
    lab.end_kernels()
    yield
    lab.end_kernels()


@pytest.fixture
def page(shared_page: SharedPage) -> Iterator[Page]:
    yield shared_page.open()
    shared_page.empty()


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
        notebook.show()
        if run:
            notebook.run_all()
        return notebook

    return open_
