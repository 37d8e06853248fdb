"""A job's card and the form as a widget in Notebook 7, of the same Jupyter server."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.test_panel import show
from tests.harness.browser import LONG, NotebookPage, expect_state, submit


@pytest.mark.usefixtures("own_page")
def test_card_and_panel_in_notebook_7(lab, page, tmp_path):
    release = tmp_path / "release"
    job = submit("notebook7", mode="until", seconds=release)
    name = lab.write_notebook(["%load_ext cts_jupyter", job, show("notebook7-panel")])
    notebook = NotebookPage(lab, page, name, "notebooks")
    notebook.open()
    notebook.run_all()
    card = notebook.card()
    expect_state(card, "Running")
    expect(card.locator(".cts-stream")).to_have_text("Live", timeout=LONG)
    form = page.locator(".cts-widget").get_by_role("form", name="New job")
    expect(form.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    notebook.shot("notebook7", page.locator(".jp-Notebook"))
    form.get_by_role("button", name="Submit 1 container").click()
    expect_state(page.locator(".cts-widget .cts-card"), "Done")
    notebook.save()
    # Live without a kernel, too, and in a notebook that is not trusted.
    notebook.open_foreign()
    expect_state(card, "Running")
    release.touch()
    expect_state(card, "Done")
