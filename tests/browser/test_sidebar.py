"""The sidebar with the user's jobs, and a job in the main area, in a real JupyterLab."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.harness.browser import (
    LAB_TOKEN,
    LONG,
    LabHarness,
    expect_state,
    find_inaccessible,
    open_lab,
    open_sidebar,
    open_sidebar_for_keys,
    show_sidebar,
)
from tests.harness.paths import SLEEP_THEN_WRITE

OUTPUT = {
    "type": "container_number",
    "container_num_prefix": "/output_files/o_",
    "container_num_suffix": ".txt",
}


def submit(
    lab: LabHarness,
    name: str,
    mode: str = "work",
    *,
    seconds: str = "0.1",
    containers: int = 1,
    image: str = "host/tool",
    labels: Mapping[str, str] | None = None,
) -> str:
    """Submit a job of the tests' tool, and return its id."""
    body = {
        "image": image, "cluster": "local", "cpus": 1, "memory": 50_000_000, "runtime": "PT5M",
        "num_containers": containers,
        "input_files": [f"data/in/{n}.txt" for n in range(containers)],
        "output_dir": f"data/out/{name}/",
        "params": {"args": [mode, seconds, OUTPUT]},
        "labels": labels or {},
    }  # fmt: skip
    with lab.client() as client:
        return client.submit(body)


@pytest.fixture
def sidebar(lab: LabHarness, page: Page) -> Callable[[], Locator]:
    """Open JupyterLab with the sidebar."""

    return partial(open_sidebar, lab, page)


def rows(sidebar: Locator) -> Locator:
    return sidebar.get_by_role("listbox").get_by_role("option")


def row(sidebar: Locator, text: str) -> Locator:
    return rows(sidebar).filter(has_text=text)


def test_jobs_are_listed_live_and_open_in_the_main_area(lab, sidebar, page, tmp_path):
    release = tmp_path / "release"
    shown = sidebar()
    expect(shown.locator(".cts-stream")).to_have_text("live", timeout=LONG)
    job_id = submit(
        lab, "listed", "until", seconds=str(release), containers=3, labels={"ana": "c2"}
    )
    expect(row(shown, "ana=c2")).to_contain_text("of 3", timeout=LONG)
    release.touch()
    expect(row(shown, "ana=c2")).to_contain_text("Done", timeout=LONG)
    with page.expect_response(
        lambda response: "/api/workspaces" in response.url and response.request.method == "PUT"
    ):
        row(shown, "ana=c2").click()
    view = page.locator(".cts-view .cts-card")
    expect_state(view, "Done")
    expect(view.locator(".cts-outputs tbody tr")).to_have_count(3)
    # It is there again after a reload.
    page.goto(f"{lab.url}/lab?token={LAB_TOKEN}")
    expect(page.locator(".cts-view .cts-card")).to_have_attribute("data-job", job_id, timeout=LONG)


def test_what_ended_since_the_last_look_is_counted_and_shown(lab, sidebar, page, shot):
    before = submit(lab, "news-before")
    with lab.client() as client:
        while client.status(before).state != "complete":
            page.wait_for_timeout(100)
    shown = sidebar()
    news = shown.locator(".cts-news")
    expect(news).to_contain_text("ended since you last looked", timeout=LONG)
    news.get_by_role("button", name="Seen").click()
    expect(news).to_have_count(0)
    expect(shown.locator(".cts-stream")).to_have_text("live", timeout=LONG)
    submit(lab, "news", "fail", labels={"run": "news"})
    expect(news).to_contain_text("1 ended since you last looked: 1 failed", timeout=LONG)
    news.get_by_role("button", name="Show", exact=True).click()
    expect(rows(shown)).to_have_count(1)
    expect(row(shown, "run=news")).to_be_visible()
    shot("sidebar-news", shown)
    assert find_inaccessible(page, ".cts-sidebar") == []
    news.get_by_role("button", name="Seen").click()
    expect(news).to_have_count(0)
    expect(row(shown, "run=news")).to_be_visible()
    expect(shown.get_by_role("button", name="Filters")).to_be_visible()


def test_search_filters_and_keys(lab, page, shot):
    failed = submit(lab, "for-search", "fail", labels={"run": "needle"})
    with lab.client() as client:
        while client.status(failed).state != "error":
            page.wait_for_timeout(100)
    shown = open_sidebar_for_keys(lab, page)
    shown.get_by_role("searchbox").fill("needle")
    expect(rows(shown)).to_have_count(1, timeout=LONG)
    shown.get_by_role("listbox").press("f")
    expect(shown.get_by_label("Done")).to_be_focused()
    page.keyboard.press("Space")
    expect(shown).to_contain_text("No job matches.", timeout=LONG)
    shown.get_by_label("Failed").check()
    shot("sidebar-filters", shown)
    page.keyboard.press("Escape")
    expect(shown.get_by_role("button", name="1 filter")).to_be_focused()
    expect(row(shown, "run=needle")).to_contain_text("exit code 3", timeout=LONG)
    shown.get_by_role("listbox").press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".cts-view .cts-error")).to_contain_text("exit code 3", timeout=LONG)
    shown.get_by_role("listbox").press("/")
    expect(shown.get_by_role("searchbox")).to_be_focused()


def test_status_bar_counts_live_jobs(lab, sidebar, page, tmp_path):
    release = tmp_path / "release"
    sidebar()
    submit(lab, "counted", "until", seconds=str(release))
    expect(page.locator(".cts-status")).to_have_text(re.compile(r"CTS: \d+ live"), timeout=LONG)
    release.touch()


def test_grouping_is_kept(lab, sidebar, page):
    submit(lab, "grouped")
    shown = sidebar()
    expect(shown.locator(".cts-group").first).to_contain_text("Today", timeout=LONG)
    with page.expect_response("**/api/settings/cts-jupyter*"):
        shown.get_by_label("Group by").select_option("image")
    expect(shown.locator(".cts-group").first).to_contain_text("host/tool")
    shown = sidebar()
    expect(shown.locator(".cts-group").first).to_contain_text("host/tool", timeout=LONG)
    with page.expect_response("**/api/settings/cts-jupyter*"):
        shown.get_by_label("Group by").select_option("day")


def test_long_and_hostile_names_are_text_and_keep_within_the_sidebar(lab, sidebar, page, shot):
    name = f"host/{'a-tool-with-a-very-long-name-' * 4}<img src=x onerror=window.hacked=1>"
    with lab.client() as client:
        if "host/long-name" not in {image.name for image in client.images()}:
            client.register_image("host/long-name", executable=str(SLEEP_THEN_WRITE))
    long = {"name": name[:100], "x": "<img src=x onerror=window.hacked=1>"}
    submit(lab, "fails", "fail", image="host/long-name", labels=long)
    job_id = submit(lab, "axe", image="host/long-name", labels=long)
    shown = sidebar()
    expect(row(shown, "host/long-name").first).to_be_visible(timeout=LONG)
    page.evaluate("id => window.jupyterapp.commands.execute('cts:open-job', {id})", job_id)
    expect_state(page.locator(".cts-view .cts-card"), "Done")
    shot("sidebar-long-names")
    assert find_inaccessible(page, ".cts-sidebar", ".cts-view") == []
    for width in (320, 190):
        page.evaluate(
            "width => { document.querySelector('.cts-sidebar').style.width = `${width}px`; }", width
        )
        assert shown.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
        shot(f"sidebar-long-names-{width}", shown)
    assert page.evaluate("window.hacked") is None


@pytest.mark.usefixtures("own_page", "unanswered")
def test_offline_and_signed_out_it_says_so_and_keeps_its_rows(lab, sidebar, page, shot):
    submit(lab, "before-offline")
    shown = sidebar()
    expect(rows(shown).first).to_be_visible(timeout=LONG)
    expect(shown.locator(".cts-stream")).to_have_text("live", timeout=LONG)
    lab.stop()
    expect(shown.locator(".cts-banner")).to_contain_text("What you see is from", timeout=LONG)
    expect(rows(shown).first).to_be_visible()
    shot("sidebar-offline", shown)
    # As after the end of the session.
    page.route("**/cts/**", lambda route: route.fulfill(status=401, json={"message": "Log in"}))
    lab.start()
    ended = "You are signed out of Jupyter"
    expect(shown.locator(".cts-banner")).to_contain_text(ended, timeout=LONG)
    expect(rows(shown).first).to_be_visible()
    shot("sidebar-signed-out", shown)
    page.unroute("**/cts/**")
    expect(shown.locator(".cts-stream")).to_have_text("live", timeout=LONG)


@pytest.mark.usefixtures("own_page")
def test_seven_tabs_have_one_stream_which_another_takes_over(lab, page):
    # A browser opens six connections to a server at most.
    streams: list[str] = []
    page.context.on(
        "request", lambda request: "/cts/events" in request.url and streams.append(request.url)
    )
    leader, *others = tabs = [*(page.context.new_page() for _ in range(6)), page]
    for number, tab in enumerate(tabs):
        open_lab(lab, tab, f"lab/workspaces/tab-{number}")
        expect(show_sidebar(tab).locator(".cts-stream")).to_have_text("live", timeout=LONG)
    submit(lab, "seven-tabs", labels={"seen": "in-all"})
    for tab in tabs:
        shown = row(tab.locator(".cts-sidebar"), "seen=in-all")
        expect(shown).to_contain_text("Done", timeout=LONG)
    assert len(streams) == 1
    with page.context.expect_event("request", lambda request: "/cts/events" in request.url):
        leader.close()
    submit(lab, "six-tabs", labels={"seen": "in-six"})
    for tab in others:
        shown = row(tab.locator(".cts-sidebar"), "seen=in-six")
        expect(shown).to_contain_text("Done", timeout=LONG)
    assert len(streams) == 2


def test_resubmissions_are_below_their_job(lab, sidebar, page, shot):
    parent = submit(lab, "resubmitted", "fail", labels={"family": "one"})
    with lab.client() as client:
        while client.status(parent).state != "error":
            page.wait_for_timeout(100)
        client.resubmit(parent)
    shown = sidebar()
    shown.get_by_role("searchbox").fill("family=one")
    expect(rows(shown)).to_have_count(1, timeout=LONG)
    expect(rows(shown)).to_contain_text("1 resubmission, latest: Failed", timeout=LONG)
    shown.get_by_role("listbox").press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(rows(shown)).to_have_count(2)
    shot("sidebar-family", shown)


@pytest.mark.usefixtures("own_page", "unanswered")
def test_server_without_cts_is_said_and_is_not_asked_again(sidebar, page):
    asked: list[str] = []
    page.on("request", lambda request: "/cts/events" in request.url and asked.append(request.url))
    page.route(re.compile(r"/cts/"), lambda route: route.fulfill(status=404, body="Not Found"))
    page.clock.install()
    shown = sidebar()
    expect(shown.get_by_role("alert")).to_have_text("This Jupyter server has no CTS.", timeout=LONG)
    expect(shown.locator(".cts-stream")).to_have_text("no CTS")
    before = len(asked)
    page.clock.fast_forward("10:00")
    page.wait_for_function("() => true")
    assert len(asked) == before


def test_example_notebook_opens_as_a_copy_that_is_kept(lab, sidebar, page):
    sidebar()
    copy = lab.folder / "work" / "quickstart.ipynb"
    opened = "window.jupyterapp.shell.currentWidget?.context?.path === 'quickstart.ipynb'"
    page.locator(".jp-LauncherCard").filter(has_text="Quickstart").click()
    page.wait_for_function(opened)
    assert "%cts" in copy.read_text()
    copy.write_text(copy.read_text().replace("%cts", "%cts "))
    changed = copy.read_text()
    page.evaluate(
        "window.jupyterapp.commands.execute('cts:open-example', {name: 'quickstart'}).then(() => null)"
    )
    page.wait_for_function(opened)
    assert copy.read_text() == changed
