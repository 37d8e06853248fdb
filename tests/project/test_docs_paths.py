"""Each path that the documentation names exists, and each of its relative links leads somewhere."""

import re

import pytest

from tests.harness.paths import DOCS, ROOT

PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
PAGES = [page for page in PAGES if not {"_build", "_ext"} & set(page.relative_to(ROOT).parts)]
CODE_PATH = re.compile(r"`((?:cts_core|cts_jupyter|tests|benchmarks|deploy|notebooks)/[^`\s]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

name_of_page = {"ids": lambda page: str(page.relative_to(ROOT))}


@pytest.mark.parametrize("page", PAGES, **name_of_page)
def test_each_path_in_backticks_exists(page):
    missing = [
        path
        for path in CODE_PATH.findall(page.read_text())
        if not re.search(r"[<>*{]", path) and path not in EXAMPLES and not (ROOT / path).exists()
    ]
    assert missing == []


EXAMPLES = {
    "cts_core/x/y.py",
    "cts_jupyter/x/y.py",
    "tests/core/x/test_y.py",
    "tests/jupyter/x/test_y.py",
    "deploy/cts.env",
}
"""Paths that stand for others, and one that the reader makes."""


def anchors(page):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, **name_of_page)
def test_each_relative_link_leads_to_a_page_and_a_heading(page):
    lost = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            lost.append(link)
    assert lost == []


def test_architecture_names_every_folder_of_the_packages():
    text = (DOCS / "explanation" / "architecture.md").read_text()
    folders = [
        f"{package}/{folder.name}/"
        for package in ("cts_core", "cts_jupyter")
        for folder in (ROOT / package).iterdir()
        if (folder / "__init__.py").exists()
    ]
    assert folders
    assert [folder for folder in folders if f"`{folder}`" not in text] == []
