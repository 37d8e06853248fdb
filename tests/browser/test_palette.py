"""What is done from JupyterLab's command palette, and what JupyterLab tells of jobs by itself."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.test_sidebar import submit
from tests.harness.browser import LONG, SCREENSHOTS, LabHarness, expect_state, open_sidebar_for_keys

COMMANDS = [
    "Cancel job …",
    "Copy job as code …",
    "Group jobs by …",
    "New job",
    "Open job …",
    "Show my jobs",
    "Tell me when jobs end",
]


@pytest.fixture
def sidebar(lab: LabHarness, page: Page) -> Locator:
    return open_sidebar_for_keys(lab, page)


def search(page: Page, text: str) -> Locator:
    """Open the palette by its keys, and return the commands that it finds."""
    page.keyboard.press("Control+Shift+c")
    field = page.locator(".lm-CommandPalette-input")
    expect(field).to_be_focused(timeout=LONG)
    field.fill(text)
    return page.locator(".lm-CommandPalette-itemLabel")


def run(page: Page, command: str) -> None:
    expect(search(page, command).first).to_have_text(command)
    page.keyboard.press("Enter")


def choose(page: Page, title: str, option: str | re.Pattern[str]) -> None:
    """Choose in a dialog of JupyterLab, by keys alone after the choice."""
    dialog = page.locator(".jp-Dialog").filter(has_text=title)
    select = dialog.locator("select")
    expect(select).to_be_focused(timeout=LONG)
    value = select.locator("option").filter(has_text=option).first.get_attribute("value")
    select.select_option(value)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)


def toast(page: Page, text: str | re.Pattern[str]) -> Locator:
    return page.locator(".Toastify__toast").filter(has_text=text)


def test_jobs_are_cancelled_copied_and_grouped_from_the_palette(
    lab: LabHarness, sidebar, page, tmp_path
):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    job_id = submit(lab, "palette", "until", seconds=str(tmp_path / "never"))
    search(page, "")
    expect(page.locator("[data-command^='cts:'] .lm-CommandPalette-itemLabel")).to_have_text(
        COMMANDS
    )
    page.keyboard.press("Escape")

    run(page, "Copy job as code …")
    choose(page, "Copy a job as code", job_id)
    choose(page, f"Copy job {job_id[:8]} as code", "Python")
    expect(toast(page, f"Copied job {job_id[:8]}")).to_be_visible(timeout=LONG)
    code = page.evaluate("navigator.clipboard.readText()")
    assert code.startswith("from cts_jupyter import submit\n")
    assert "data/out/palette/" in code

    run(page, "Group jobs by …")
    choose(page, "Group jobs", "Image")
    expect(sidebar.locator(".cts-group").first).to_contain_text("host/tool", timeout=LONG)
    run(page, "Group jobs by …")
    choose(page, "Group jobs", "Day")
    expect(sidebar.locator(".cts-group").first).to_contain_text("Today")

    # What Enter does alone changes nothing.
    sure = page.get_by_role("dialog").filter(has_text="This cannot be undone.")
    run(page, "Cancel job …")
    choose(page, "Cancel a job", job_id)
    expect(sure.get_by_role("button", name="Keep it running")).to_be_focused(timeout=LONG)
    page.keyboard.press("Enter")
    expect(sure).to_have_count(0)
    with lab.client() as client:
        assert client.status(job_id).state == "job_submitted"
    # The job that is looked at is the first.
    page.evaluate("id => window.jupyterapp.commands.execute('cts:open-job', {id})", job_id)
    expect_state(page.locator(".cts-view .cts-card"), "Running")
    run(page, "Cancel job …")
    expect(page.locator(".jp-Dialog option").first).to_contain_text(job_id, timeout=LONG)
    page.keyboard.press("Enter")
    sure.get_by_role("button", name="Cancel the job").click(timeout=LONG)
    expect(toast(page, re.compile(rf"Job {job_id[:8]} .* is being cancelled"))).to_be_visible()
    expect_state(page.locator(".cts-view .cts-card"), "Cancelled")


def test_the_end_of_a_job_is_told_once_that_is_switched_on(lab: LabHarness, sidebar, page, shot):
    page.context.grant_permissions(["notifications"])
    shown = page.locator(".Toastify__toast")
    expect(sidebar.locator(".cts-stream")).to_have_text("live", timeout=LONG)
    submit(lab, "untold", labels={"told": "no"})
    row = sidebar.get_by_role("option")
    expect(row.filter(has_text="told=no")).to_contain_text("Done", timeout=LONG)

    with page.expect_response("**/api/settings/cts-jupyter*"):
        run(page, "Tell me when jobs end")
    job_id = submit(lab, "told", "fail", labels={"told": "yes"})
    expect(toast(page, "host/tool: Failed.")).to_be_visible(timeout=LONG)
    # The one before, which would have been told before this, was not.
    expect(shown).to_have_count(1)
    # Without its animations it would be over.
    page.screenshot(path=SCREENSHOTS / "notification.png")
    toast(page, "host/tool: Failed.").get_by_role("button", name="Show").click()
    card = page.locator(".cts-view .cts-card")
    expect(card).to_have_attribute("data-job", job_id, timeout=LONG)
    expect_state(card, "Failed")

    with page.expect_response("**/api/settings/cts-jupyter*"):
        run(page, "Tell me when jobs end")
    submit(lab, "untold-again", labels={"told": "no-more"})
    expect(row.filter(has_text="told=no-more")).to_contain_text("Done", timeout=LONG)
    expect(shown).to_have_count(0)
