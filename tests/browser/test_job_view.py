"""A job in the main area of a real JupyterLab: what only a browser that lays out and draws can show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.harness.browser import DARK, LIGHT, LONG, LabHarness, expect_state, open_lab, set_theme
from tests.harness.paths import FAIL_SOME, WRITE_LINES

OUTPUT = {
    "type": "container_number",
    "container_num_prefix": "/output_files/o_",
    "container_num_suffix": ".txt",
}


def submit(lab: LabHarness, name: str, args: list[str], containers: int = 1) -> str:
    """Submit a job of the program that writes lines, and return its id."""
    body = {
        "image": "host/lines", "cluster": "local", "cpus": 1, "memory": 50_000_000, "runtime": "PT5M",
        "num_containers": containers,
        "input_files": [f"data/in/{n}.txt" for n in range(containers)],
        "output_dir": f"data/out/{name}/",
        "params": {"args": [*args, OUTPUT]},
    }  # fmt: skip
    with lab.client() as client:
        if "host/lines" not in {image.name for image in client.images()}:
            client.register_image("host/lines", executable=str(WRITE_LINES))
        return client.submit(body)


@pytest.fixture
def view(lab: LabHarness, page: Page) -> Callable[[str], Locator]:
    """Open a job in the main area."""

    def open_(job_id: str) -> Locator:
        open_lab(lab, page)
        page.evaluate("id => window.jupyterapp.commands.execute('cts:open-job', {id})", job_id)
        found = page.locator(".cts-view .cts-card")
        expect(found).to_be_visible(timeout=LONG)
        return found

    return open_


def below(log: Locator) -> float:
    """Return how many pixels of a log are below what is in sight."""
    return log.evaluate("e => e.scrollHeight - e.clientHeight - e.scrollTop")


def test_a_live_log_is_followed_until_it_is_scrolled_up(lab, view, page, tmp_path: Path, shot):
    release = tmp_path / "release"
    shown = view(submit(lab, "follow", ["20000", str(release)]))
    expect(shown.locator(".cts-state").first).to_have_text("Running", timeout=LONG)
    shown.locator(".cts-logs summary").click()
    log = shown.locator(".cts-log")
    # Of a log of a megabyte, its last line is in sight, and few are in the page.
    expect(log).to_contain_text("020000 contigs read", timeout=LONG)
    assert log.locator("[data-index]").count() < 150
    page.wait_for_function(
        "e => e.scrollHeight - e.clientHeight - e.scrollTop < 5", arg=log.element_handle()
    )
    shot("log-live")
    # Scrolled up, it stays where it is read, also when earlier lines come in above.
    log.evaluate("e => { e.scrollTop = 300; }")
    expect(shown.get_by_role("checkbox", name="Follow")).not_to_be_checked()
    expect(shown.get_by_text("1.9 MB to")).to_have_count(0, timeout=LONG)
    assert below(log) > 1_000
    shown.get_by_role("button", name="To the beginning").click()
    expect(log).to_contain_text("000001 contigs read", timeout=LONG)
    shown.get_by_role("button", name="To the end").click()
    expect(log).to_contain_text("020000 contigs read", timeout=LONG)
    release.touch()
    expect(log).to_contain_text("last line <img src=x", timeout=LONG)
    assert page.evaluate("window.hacked") is None
    shown.get_by_label("Find in the log").fill("020000")
    page.keyboard.press("Enter")
    # The outputs are above it by now.
    log.scroll_into_view_if_needed()
    expect(log.locator("mark").first).to_be_in_viewport(timeout=LONG)
    shot("log-found")
    # So far up that it is not loaded.
    shown.get_by_label("Find in the log").fill("000007 contigs")
    shown.get_by_role("button", name="Search earlier").click()
    expect(log.locator("[data-current=true]")).to_contain_text("000007 contigs", timeout=LONG)
    expect(log.locator("mark").first).to_be_in_viewport(timeout=LONG)


def painted(strip: Locator) -> set[str]:
    """Return the colours that a strip is painted in."""
    return set(
        strip.locator("canvas").evaluate(
            """canvas => {
                const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                const colors = new Set();
                for (let n = 0; n < data.length; n += 4) {
                    if (data[n + 3] === 255) colors.add(`${data[n]},${data[n + 1]},${data[n + 2]}`);
                }
                return [...colors];
            }"""
        )
    )


def submit_mixed(lab: LabHarness, page: Page, name: str) -> str:
    """Submit a job of which some containers fail, and return its id once it has ended."""
    with lab.client() as client:
        if "host/mixed" not in {image.name for image in client.images()}:
            client.register_image("host/mixed", executable=str(FAIL_SOME))
        job_id = client.submit(
            {
                "image": "host/mixed", "cluster": "local", "cpus": 1, "memory": 4_000_000_000,
                "runtime": "PT5M", "num_containers": 6,
                "input_files": [f"data/in/{n}.txt" for n in range(6)],
                "output_dir": f"data/out/{name}/",
                "params": {
                    "args": [
                        {"type": "container_number"},
                        {**OUTPUT, "container_num_suffix": ".tsv"},
                    ]
                },
            }
        )  # fmt: skip
        while client.status(job_id).state != "error":
            page.wait_for_timeout(200)
    return job_id


def test_a_failed_job_by_its_strip_table_and_outputs(lab, view, page, shot):
    job_id = submit_mixed(lab, page, "mixed")
    page.set_viewport_size({"width": 1100, "height": 1300})
    shown = view(job_id)
    strip = shown.get_by_role("slider", name="Container")
    expect(strip).to_be_visible(timeout=LONG)
    light = painted(strip)
    assert len(light) == 2
    set_theme(page, DARK)
    expect(shown).not_to_have_css("background-color", "rgb(255, 255, 255)")
    while painted(strip) == light:
        page.wait_for_timeout(50)
    strip.press("n")
    expect(strip).to_have_attribute("aria-valuetext", "Container 1 of 6: failed, exit code 3")
    page.keyboard.press("Enter")
    expect(shown.locator(".cts-log")).to_contain_text("no contigs", timeout=LONG)
    shown.locator(".cts-containers summary").click()
    expect(shown.locator(".cts-containers tbody tr")).to_have_count(6)
    expect(shown.locator(".cts-containers tbody tr").first).to_contain_text("Failed")
    # What completed is there, unchanged, and can be looked at.
    outputs = shown.locator(".cts-outputs")
    expect(outputs.locator("tbody tr")).to_have_count(4)
    expect(outputs.get_by_text("✓").first).to_be_visible(timeout=LONG)
    outputs.get_by_role("button", name="Look at o_0.tsv").click()
    expect(outputs.get_by_role("cell", name="<b>contig</b>")).to_be_visible(timeout=LONG)
    shot("job-view-dark")
    set_theme(page, LIGHT)
    shot("job-view-light")
    shown.get_by_role("button", name="Resubmit", exact=True).click()
    shot("job-view-menu", shown)
    page.keyboard.press("Escape")
    shown.get_by_role("button", name="More").click()
    shown.get_by_role("menuitem", name="Command lines").click()
    expect(shown.get_by_role("region", name="Command lines")).to_contain_text(
        "/output_files/o_0.tsv"
    )
    shown.evaluate("e => { e.style.width = '320px'; }")
    page.wait_for_timeout(200)
    assert shown.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    shot("job-view-320", shown)


def test_a_container_is_found_by_its_input_and_a_job_by_labels(lab, view, page, shot):
    shown = view(submit_mixed(lab, page, "found"))
    shown.locator(".cts-containers summary").click()
    shown.get_by_label("Find by an input").fill("4.txt")
    found = shown.locator(".cts-containers tbody tr")
    expect(found).to_have_count(1, timeout=LONG)
    expect(found).to_contain_text("Failed")
    expect(found.get_by_title("data/in/4.txt")).to_be_visible()
    shown.get_by_role("button", name="More").click()
    shown.get_by_role("menuitem", name="Labels").click()
    shown.get_by_role("button", name="+ Label").click()
    page.keyboard.type("study")
    shown.get_by_label("Label 1: value").fill("soil")
    shown.get_by_role("button", name="Save").click()
    expect(shown.get_by_text("Saved")).to_be_visible(timeout=LONG)
    expect(shown).to_contain_text("study=soil")
    shot("job-view-labels", shown)
    shown.evaluate("e => { e.style.width = '320px'; }")
    page.wait_for_timeout(200)
    assert shown.evaluate("e => e.scrollWidth <= e.clientWidth + 1")


def test_states_are_told_apart_in_forced_colors(lab, view, page, shot):
    shown = view(submit(lab, "forced", ["3", "/dev/null"]))
    expect_state(shown, "Done")
    page.emulate_media(forced_colors="active")
    try:
        page.evaluate("() => new Promise(requestAnimationFrame)")
        paper = shown.evaluate("e => getComputedStyle(e).backgroundColor")
        bars = shown.locator(".cts-bar span")
        assert bars.count() > 1
        for bar in bars.all():
            assert bar.evaluate("e => getComputedStyle(e).backgroundColor") != paper
        shot("job-view-forced", shown)
    finally:
        page.emulate_media(forced_colors="none")
