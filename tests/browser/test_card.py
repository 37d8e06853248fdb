"""The live card in a real notebook."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from cts_core.worker.objects.directory import Directory
from tests.harness.browser import DARK, LIGHT, LONG, expect_state, set_theme, submit


def expect_snapshot(page, text):
    """Expect a text in the kernel's snapshot below the live card; the snapshot is updated later than the card."""
    expect(page.locator(".cts-output .jp-RenderedHTML").first).to_contain_text(text, timeout=LONG)


def card_output(page):
    """Return the first output that is a snapshot; the line with the job's id is one of its own."""
    return page.locator(".jp-OutputArea-output.jp-RenderedHTML").first


def test_a_job_from_submission_to_its_end(open_notebook):
    notebook = open_notebook(submit("runs", seconds=4, containers=3))
    card = notebook.card()
    expect_state(card, "Running")
    expect(card.locator(".cts-stream")).to_have_text("Live")
    notebook.shot("running")
    expect_state(card, "Done")
    expect(card.locator(".cts-count")).to_have_text("3 of 3 containers done")
    expect(card.locator(".cts-outputs tbody tr")).to_have_count(3)
    expect(card.get_by_role("button", name="Cancel")).to_have_count(0)
    card.locator(".cts-timeline summary").click()
    expect(card.locator(".cts-timeline li")).to_have_count(7)
    card.locator(".cts-logs summary").click()
    expect(card.locator(".cts-log")).to_contain_text("has begun")
    notebook.shot("done")
    with notebook.page.expect_download() as download:
        card.get_by_role("link", name="o_1.txt").click()
    assert download.value.path().read_text() == "done\n"


def test_saved_output_is_a_snapshot_and_a_reference(open_notebook, lab, page):
    notebook = open_notebook(submit("saved"))
    expect_state(notebook.card(), "Done")
    expect_snapshot(page, "Done")
    notebook.save()
    saved = notebook.saved()
    (shown,) = [output for output in saved.cells[1].outputs if "data" in output]
    assert re.search(r"Job \w{8}  Done  host/tool", shown.data["text/plain"])
    assert "<summary>1 output in data/out/saved/</summary>" in shown.data["text/html"]
    assert "<script" not in json.dumps(saved)
    assert lab.client()._transport._token() not in json.dumps(saved)


def test_card_of_an_untrusted_notebook_without_a_kernel_is_live(open_notebook, lab, page):
    notebook = open_notebook(submit("foreign", seconds=100))
    expect_state(notebook.card(), "Running")
    notebook.save()
    notebook.open_foreign()
    card = notebook.card()
    expect_state(card, "Running")
    expect(card.locator(".cts-stream")).to_have_text("Live", timeout=LONG)
    job_id = card.locator("code").first.get_attribute("title")
    with lab.client() as client:
        client.cancel(job_id)
    expect_state(card, "Cancelled")
    notebook.shot("untrusted")


def test_failed_job(open_notebook):
    notebook = open_notebook(submit("fails", mode="fail", seconds=0.5, containers=2))
    card = notebook.card()
    expect_state(card, "Failed")
    expect(card.locator(".cts-error")).to_contain_text("Containers 0, 1 ended with exit code 3")
    # Text is not parsed as HTML.
    expect(card.locator(".cts-error pre")).to_contain_text("<b>genome 3</b>")
    card.locator(".cts-logs summary").click()
    expect(card.locator(".cts-logs select")).to_have_value("stderr")
    notebook.shot("failed")


def test_cancel_with_the_keyboard(open_notebook, page):
    notebook = open_notebook(submit("cancel", seconds=100))
    card = notebook.card()
    expect_state(card, "Running")
    cancel = card.get_by_role("button", name="Cancel", exact=True)
    cancel.press("Enter")
    keep = card.get_by_role("button", name="Keep it running")
    expect(keep).to_be_focused()
    notebook.shot("confirm")
    page.keyboard.press("Escape")
    expect(cancel).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect_state(card, "Cancelled")
    notebook.shot("cancelled")


def test_card_survives_kernel_restart_and_reload(open_notebook, page, tmp_path):
    release = tmp_path / "release"
    notebook = open_notebook(submit("outlives", mode="until", seconds=release, containers=2))
    expect_state(notebook.card(), "Running")
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    notebook.save()
    page.reload()
    card = notebook.card()
    expect_state(card, "Running")
    expect(card.locator(".cts-stream")).to_have_text("Live")
    release.touch()
    expect_state(card, "Done")


@pytest.mark.usefixtures("own_page", "unanswered")
def test_card_survives_server_restart(open_notebook, lab, tmp_path):
    release = tmp_path / "release"
    notebook = open_notebook(submit("offline", mode="until", seconds=release))
    card = notebook.card()
    expect_state(card, "Running")
    lab.stop()
    expect(card.locator(".cts-stream")).to_contain_text("Offline since", timeout=LONG)
    expect_state(card, "Running")
    notebook.shot("offline")
    lab.start()
    expect(card.locator(".cts-stream")).to_have_text("Live", timeout=LONG)
    release.touch()
    expect_state(card, "Done")
    expect(card.locator(".cts-outputs tbody tr")).to_have_count(1)


@pytest.mark.usefixtures("unanswered")
def test_unknown_job_shows_the_snapshot(open_notebook, lab, page):
    notebook = open_notebook(submit("unknown"))
    expect_state(notebook.card(), "Done")
    expect_snapshot(page, "Done")
    page.route("**/cts/jobs/**", lambda route: route.fulfill(status=404, json={"error": {}}))
    notebook.save()
    page.reload()
    card = page.locator(".cts-output")
    expect(card).to_contain_text("1 of 1 container done", timeout=LONG)
    expect(card.locator(".cts-note")).to_contain_text("does not know the job")


@pytest.mark.usefixtures("own_page")
def test_cards_share_one_stream(open_notebook, page):
    streams = []
    page.on("request", lambda request: "/cts/events" in request.url and streams.append(request))
    notebook = open_notebook(
        "for n in range(8):\n    %cts submit host/tool -i data/in/0.txt --output-dir data/out/many-{n}/ "
        "--memory 50MB --runtime 1m -o job -- work 3 /output_files/o.txt\n    display(job)"
    )
    for number in range(8):
        expect_state(notebook.card(number), "Done")
    assert len(streams) == 1


@pytest.mark.usefixtures("own_page")
def test_stream_without_a_sign_of_life_is_opened_anew(open_notebook, lab, page):
    # In this page ten times as much time passes as pings are apart at the server.
    page.add_init_script("""
        const now = Date.now;
        let ahead = 0;
        Date.now = () => now() + ahead;
        setInterval(() => { ahead += 9_000; }, 1_000);
    """)
    notebook = open_notebook(submit("silent", seconds=100))
    card = notebook.card()
    expect_state(card, "Running")
    expect(card.locator(".cts-stream")).to_have_text("Live", timeout=LONG)
    with page.expect_request(lambda request: "/cts/events" in request.url) as again:
        silence = "Nothing came from the service for 40 seconds."
        expect(card.locator(".cts-stream")).to_contain_text(silence, timeout=LONG)
    assert "after=20" in again.value.url
    assert again.value.all_headers()["x-xsrftoken"]
    expect(card.locator(".cts-stream")).to_have_text("Live", timeout=LONG)
    with lab.client() as client:
        client.cancel(card.locator("code").first.get_attribute("title"))
    expect_state(card, "Cancelled")


def set_hidden(page: Page, hidden: bool) -> None:  # noqa: FBT001 - said by name where it is called
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


@pytest.mark.usefixtures("own_page")
def test_hidden_tab_closes_its_stream_and_resumes_at_the_cursor(open_notebook, lab, page):
    streams = []
    page.on("request", lambda request: "/cts/events" in request.url and streams.append(request))
    notebook = open_notebook(submit("hidden", seconds=5), submit("longer", seconds=100))
    card, longer = notebook.card(0), notebook.card(1)
    expect_state(card, "Running")
    expect_state(longer, "Running")
    # The cards have the jobs' states before the stream is open, and until then there is no cursor.
    expect(longer.locator(".cts-stream")).to_have_text("Live", timeout=LONG)
    with page.expect_event("requestfailed", lambda request: "/cts/events" in request.url):
        set_hidden(page, hidden=True)
    with lab.client() as client:
        job_id = card.locator("code").first.get_attribute("title")
        while client.status(job_id).state != "complete":
            page.wait_for_timeout(100)
    set_hidden(page, hidden=False)
    expect_state(card, "Done")
    assert len(streams) == 2
    assert "after=20" in streams[1].url
    with lab.client() as client:
        client.cancel(longer.locator("code").first.get_attribute("title"))
    expect_state(longer, "Cancelled")


def test_live_card_requests_only_on_events(open_notebook, lab, page):
    notebook = open_notebook(submit("quiet", seconds=100))
    card = notebook.card()
    expect_state(card, "Running")
    expect(card.locator(".cts-stream")).to_have_text("Live", timeout=LONG)
    job_id = card.locator("code").first.get_attribute("title")
    loads = []
    page.on("request", lambda it: f"/cts/jobs/{job_id}" in it.url and loads.append(it.url))
    # What the state and the opened stream asked for comes to an end.
    before = -1
    while before != len(loads):
        before = len(loads)
        page.wait_for_timeout(1_000)
    page.wait_for_timeout(2_000)
    assert len(loads) == before
    with lab.client() as client:
        client.cancel(job_id)
    expect_state(card, "Cancelled")


def test_open_sections_stay_open_over_updates(open_notebook, page):
    notebook = open_notebook(submit("open", seconds=4))
    card = notebook.card()
    expect_state(card, "Running")
    card.locator(".cts-logs summary").click()
    expect(card.locator(".cts-log")).to_contain_text("has begun")
    expect_state(card, "Done")
    expect_snapshot(page, "Done")
    expect(card.locator(".cts-log")).to_contain_text("has begun")


@pytest.mark.usefixtures("own_kernel")
def test_kernel_updates_the_card_of_another_service(open_notebook, lab, page):
    lab_client = lab.client()
    token = lab_client._transport._token()
    notebook = open_notebook(
        f"import os\nos.environ |= {{'CDM_TASK_SERVICE_URL': '{lab_client.url}', 'KBASE_AUTH_TOKEN': '{token}'}}",
        submit("elsewhere", seconds=3),
    )
    output = card_output(page)
    expect(output).to_contain_text("1 running", timeout=LONG)
    expect(output).to_contain_text("1 of 1 container done", timeout=LONG)
    expect(output).to_contain_text(lab_client.url.split("/")[2])
    expect(page.locator(".cts-card")).to_have_count(0)
    notebook.shot("elsewhere", output)


def narrow(page: Page, width: int) -> None:
    page.evaluate(
        "width => document.querySelectorAll('.cts-output > *').forEach(e => e.style.width = `${width}px`)",
        width,
    )


def has_overflow(card) -> bool:
    return card.evaluate("e => e.scrollWidth > e.clientWidth + 1")


@pytest.fixture(scope="module")
def many(lab):
    """A folder of a thousand files."""
    source = lab.folder / "one.txt"
    source.write_text("x")
    objects = Directory(str(lab.folder / "home" / "objects"))
    for n in range(1000):
        objects.store(str(source), f"data/thousand/{n:04}.txt")
    return "data/thousand/"


def test_a_thousand_containers(open_notebook, page, many):
    notebook = open_notebook(submit("thousand", seconds=0.01, containers=1000, inputs=many))
    card = notebook.card()
    expect(card.locator(".cts-count")).to_contain_text(
        re.compile(r"^[1-9]\d* of 1,000 containers done"), timeout=LONG
    )
    notebook.shot("thousand")
    card.get_by_role("button", name="Cancel", exact=True).click()
    card.get_by_role("button", name="Cancel the job").click()
    expect_state(card, "Cancelled")
    notebook.shot("thousand-cancelled")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_long_names_in_a_narrow_card(open_notebook, lab, page, theme):
    name = f"host/{'a-tool-with-a-very-long-name-' * 4}x"
    with lab.client() as client:
        if name not in {image.name for image in client.images()}:
            client.register_image(name, executable=str(lab.tool))
    key = "a/very/deep/folder/of/outputs/" + "results-of-the-second-half-of-the-experiment" * 2
    kind = theme.split()[-1].lower()
    notebook = open_notebook(
        submit(f"long-{kind}/{key}", image=name, output=f"{'assembly-' * 8}<n>.fna"),
        submit(f"bad-{kind}", mode="fail", containers=6),
        submit(f"slow-{kind}", seconds=100),
    )
    set_theme(page, theme)
    for number, state in enumerate(["Done", "Failed", "Running"]):
        expect_state(notebook.card(number), state)
    background = notebook.card().evaluate("e => getComputedStyle(e).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (kind == "light")
    for width in (640, 280):
        narrow(page, width)
        for number, what in enumerate(["long", "failed", "running"]):
            assert not has_overflow(notebook.card(number))
            notebook.shot(f"{what}-{kind}-{width}", notebook.card(number))
    notebook.card(2).get_by_role("button", name="Cancel", exact=True).click()
    notebook.shot(f"confirm-{kind}-280", notebook.card(2))
    notebook.card(2).get_by_role("button", name="Cancel the job").click()
    expect_state(notebook.card(2), "Cancelled")
