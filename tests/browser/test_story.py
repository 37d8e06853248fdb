"""From an empty panel to a downloaded output, with a failure on the way: what an analyst's first hour is like."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import NewContext
from tests.harness.animation import Animation
from tests.harness.browser import LONG, SCREENSHOTS, LabHarness, expect_state, open_sidebar
from tests.harness.paths import ASSEMBLY_STATS
from tests.services.server import free_port

GENOMES = 6


@pytest.fixture
def fresh_lab(tmp_path: Path) -> Iterator[LabHarness]:
    """Start a JupyterLab without jobs, with genomes and a tool."""
    lab = LabHarness(tmp_path, free_port())
    # Its path is in the pictures.
    tools = Path(tempfile.mkdtemp(prefix="tools-", dir="/tmp"))
    tool = Path(shutil.copy(ASSEMBLY_STATS, tools / "assembly-stats"))
    lab.start()
    try:
        with lab.client() as client:
            client.register_image("host/assembly-stats", executable=str(tool))
            source = tmp_path / "in.txt"
            for n in range(GENOMES):
                source.write_text(f">contig-1\n{'ACGT' * (n + 1)}\n>contig-2\nAC\n")
                client.upload(source, f"data/genomes/strain_{n}.fna")
            source.write_text("strains of the soil samples\n")
            client.upload(source, "data/genomes/readme.txt")
        yield lab
    finally:
        lab.close()
        shutil.rmtree(tools)


@pytest.fixture
def fresh_page(new_context: NewContext) -> Iterator[Page]:
    with new_context(viewport={"width": 1000, "height": 720}) as context:
        yield context.new_page()


def choose_files(form: Locator, film: Animation) -> None:
    tree = form.get_by_role("tree")
    tree.get_by_role("treeitem", name="data/").click(timeout=LONG)
    tree.get_by_role("treeitem", name="genomes/").click(timeout=LONG)
    expect(tree.get_by_role("treeitem", name="readme.txt")).to_be_visible(timeout=LONG)
    film.take(1500)
    form.get_by_role("searchbox", name="Pattern").fill("*.fna")
    expect(tree.get_by_role("treeitem", name="readme.txt")).to_have_count(0, timeout=LONG)
    form.get_by_role("button", name="Choose all that match").click()
    expect(form.get_by_text(f"{GENOMES} files chosen")).to_be_visible(timeout=LONG)
    film.take(1500)


def describe_job(form: Locator, film: Animation) -> None:
    form.get_by_label("Image").fill("host/assembly-stats:latest")
    form.get_by_role("button", name="+ Text").click()
    form.get_by_label("Argument 1, text").fill("/output_files/stats_<n>.tsv <files>")
    form.get_by_role("button", name="Split", exact=True).click()
    command = form.get_by_label("Command line of container 0")
    expect(command).to_contain_text("assembly-stats /output_files/stats_0.tsv /input_files/")
    command.scroll_into_view_if_needed()
    film.take(2000)
    form.get_by_label("Containers", exact=True).fill("3")
    form.get_by_label("Memory each").fill("60")
    form.get_by_label("Unit of memory").select_option("MB")
    form.get_by_label("Output folder").fill("data/stats/")
    expect(form.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    form.get_by_label("Output folder").scroll_into_view_if_needed()
    film.take(2000)


def test_from_an_empty_panel_to_a_downloaded_output(fresh_lab: LabHarness, fresh_page: Page):
    page, film = fresh_page, Animation(fresh_page)
    sidebar = open_sidebar(fresh_lab, page)
    expect(sidebar).to_contain_text("No jobs yet.", timeout=LONG)
    sidebar.get_by_role("button", name="New job").click()
    form = page.get_by_role("form", name="New job")
    choose_files(form, film)
    describe_job(form, film)
    form.get_by_role("button", name="Submit 3 containers").click()
    card = page.locator(".cts-panel .cts-card")
    expect(card).to_be_visible(timeout=LONG)
    film.watch(2000)
    expect_state(card, "Failed")
    fix = card.get_by_role(
        "button", name=re.compile(r"Resubmit (this one|these \d+) with (1[2-9]|2\d)0 MB")
    )
    expect(fix).to_be_visible(timeout=LONG)
    film.take(3000)
    fix.click()
    card.get_by_role("button", name=re.compile("Resubmitted as")).click(timeout=LONG)
    again = page.locator(".cts-view .cts-card")
    expect(again).to_be_visible(timeout=LONG)
    film.watch(2000)
    expect_state(again, "Done")
    outputs = again.locator(".cts-outputs")
    expect(outputs.locator("tbody tr")).to_have_count(3)
    expect(outputs.get_by_text("✓")).to_have_count(3, timeout=LONG)
    outputs.get_by_role("button", name="Look at stats_0.tsv").click()
    expect(outputs.get_by_role("cell", name="strain_0")).to_be_visible(timeout=LONG)
    film.take(4000)
    page.screenshot(path=SCREENSHOTS / "lab.png")
    with page.expect_download() as download:
        outputs.get_by_role("link", name="stats_0.tsv").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[:2] == ["assembly\tcontigs\tlength", "strain_0\t2\t6"]
    film.save(SCREENSHOTS / "story.gif")
