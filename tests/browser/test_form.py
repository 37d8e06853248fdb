"""The form for a new job, in a real JupyterLab without a kernel, against the real engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.harness.browser import (
    LAB_TOKEN,
    LONG,
    LabHarness,
    expect_state,
    open_lab,
    open_sidebar,
    show_sidebar,
)

PATHS = "\n".join(f"data/in/{n}.txt" for n in range(4))


@pytest.fixture
def new_job(lab: LabHarness, page: Page) -> Callable[[], Locator]:
    """Open JupyterLab, and the form by the button of the sidebar."""

    def open_() -> Locator:
        open_sidebar(lab, page).get_by_role("button", name="New job").click(timeout=LONG)
        form = page.get_by_role("form", name="New job")
        expect(form).to_be_visible(timeout=LONG)
        return form

    return open_


def fill(form: Locator, folder: str) -> None:
    """Fill in a job of the tests' tool that ends at once."""
    form.get_by_role("button", name="Write paths").click()
    form.get_by_label("Paths of files, one a line").fill(PATHS)
    form.get_by_label("Image").fill("host/tool:latest")
    form.get_by_role("button", name="+ Text").click()
    form.get_by_label("Argument 1, text").fill("work 0.1 /output_files/o_<n>.txt")
    form.get_by_role("button", name="Split", exact=True).click()
    form.get_by_label("Containers", exact=True).fill("2")
    form.get_by_label("Memory each").fill("50")
    form.get_by_label("Unit of memory").select_option("MB")
    form.get_by_label("Output folder").fill(folder)


def test_a_job_is_made_without_a_kernel(lab, new_job, page, shot):
    form = new_job()
    shot("form-empty")
    fill(form, "data/out/by-form/")
    expect(form.get_by_label("Command line of container 0")).to_contain_text(
        "work 0.1 /output_files/o_0.txt"
    )
    expect(form.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    expect(form).to_contain_text("✓ Empty")
    shot("form-ready")
    # A double click makes one job.
    form.get_by_role("button", name="Submit 2 containers").dblclick()
    card = page.locator(".cts-panel .cts-card")
    expect_state(card, "Done")
    expect(card.locator(".cts-outputs tbody tr")).to_have_count(2)
    with lab.client() as client:
        jobs = [job for job in client.jobs() if job.job_input.output_dir == "data/out/by-form/"]
        assert len(jobs) == 1
        assert jobs[0].job_input.memory == 50_000_000


def test_the_form_shows_problems_at_their_fields(lab, new_job, page, shot):
    form = new_job()
    fill(form, "data/out/<img src=x onerror=window.hacked=1>/")
    form.get_by_label("Paths of files, one a line").fill("data/in/0.txt\ndata/in/nope.txt")
    form.get_by_label("Argument 1, text").fill("<img src=x onerror=window.hacked=1>")
    check = form.locator(".cts-check")
    missing = check.get_by_role("button", name="The path 'data/in/nope.txt' was not found")
    expect(missing).to_be_visible(timeout=LONG)
    expect(check).to_contain_text("“<img src=x onerror=window.hacked=1>” has")
    missing.click()
    expect(form.get_by_label("Paths of files, one a line")).to_be_focused()
    shot("form-problems")
    assert page.evaluate("window.hacked") is None


# No such image is registered.
@pytest.mark.usefixtures("unanswered")
def test_a_form_is_there_again_after_a_reload(lab, new_job, page):
    form = new_job()
    with page.expect_response(
        lambda response: (
            "/api/workspaces" in response.url
            and response.request.method == "PUT"
            and "host/kept:1" in (response.request.post_data or "")
        )
    ):
        form.get_by_label("Image").fill("host/kept:1")
    page.goto(f"{lab.url}/lab?token={LAB_TOKEN}")
    expect(page.get_by_role("form", name="New job").get_by_label("Image")).to_have_value(
        "host/kept:1", timeout=LONG
    )


@pytest.mark.usefixtures("own_page")
def test_forms_of_two_tabs_are_two_jobs_which_both_list(lab, page):
    tabs = (page, page.context.new_page())
    names = ("one", "two")
    for tab, name in zip(tabs, names, strict=True):
        open_lab(lab, tab, f"lab/workspaces/{name}")
        show_sidebar(tab).get_by_role("button", name="New job").click(timeout=LONG)
        fill(tab.get_by_role("form", name="New job"), f"data/out/tab-{name}/")
    for tab in tabs:
        form = tab.get_by_role("form", name="New job")
        expect(form.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
        form.get_by_role("button", name="Submit 2 containers").click()
    for tab, name in zip(tabs, names, strict=True):
        card = tab.locator(".cts-panel .cts-card")
        expect_state(card, "Done")
        expect(card).to_contain_text(f"data/out/tab-{name}/")
        ids = [other.locator(".cts-panel .cts-card").get_attribute("data-job") for other in tabs]
        for job_id in ids:
            row = tab.locator(f".cts-sidebar [role=option][id$='{job_id}']")
            expect(row).to_contain_text("Done", timeout=LONG)
