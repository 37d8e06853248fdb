"""The documentation builds without a warning, and needs no network to be read."""

import re
import subprocess
import sys

import pytest

from tests.harness.paths import DOCS, ROOT

LOADED = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
IMPORTED = re.compile(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-n", "-E", "-q", "-b", "html"]
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder)],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_builds_without_a_warning_and_has_every_page(site):
    pages = {page.relative_to(DOCS) for page in DOCS.rglob("*.md")}
    pages = {page.with_suffix(".html") for page in pages if page.parts[0] != "_build"}
    assert pages <= {page.relative_to(site) for page in site.rglob("*.html")}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_loads_nothing_from_elsewhere(site):
    loaded = {
        url
        for page in site.rglob("*.html")
        for url in LOADED.findall(page.read_text())
        if re.match(r"(\w+:)?//", url)
    }
    imported = {url for sheet in site.rglob("*.css") for url in IMPORTED.findall(sheet.read_text())}
    assert loaded | imported == set()
