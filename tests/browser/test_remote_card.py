"""The live card in a hub user's JupyterLab, which has no engine: the jobs are a service's elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.harness.browser import LONG, LabHarness, NotebookPage, expect_state, submit
from tests.services.server import free_port

RETRY = 90_000
"""Milliseconds within which a card that was offline for long reconnects."""


@pytest.fixture(scope="module")
def hub(lab: LabHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHarness]:
    """A user's server, which forwards to the CTS of the other server."""
    folder = tmp_path_factory.mktemp("hub")
    with lab.client() as client:
        url = client.url
    hub = LabHarness(
        folder,
        free_port(),
        environ={
            "CDM_TASK_SERVICE_URL": url,
            "CTS_REMOTE__TOKEN_FILE": str(folder / "session"),
            "CTS_REMOTE__TIMEOUT_S": "5",
            "KBASE_AUTH_TOKEN": "expired-long-ago",
        },
    )
    log_in(hub, lab)
    hub.start()
    yield hub
    hub.close()


def log_in(hub: LabHarness, lab: LabHarness) -> str:
    """Give the user a token that the service accepts now."""
    with lab.client() as client:
        token = client._transport._token()
    (hub.folder / "session").write_text(token)
    return token


@pytest.fixture
def open_there(hub: LabHarness, page: Page):
    def open_(*cells: str) -> NotebookPage:
        notebook = NotebookPage(hub, page, hub.write_notebook(["%load_ext cts_jupyter", *cells]))
        notebook.show()
        notebook.run_all()
        return notebook

    return open_


def test_remote_job_is_live(open_there, hub, lab, page):
    seen: list[str] = []
    page.on("request", lambda request: seen.append(json.dumps(request.all_headers())))
    page.on("response", lambda response: seen.append(json.dumps(response.headers)))
    token = log_in(hub, lab)
    notebook = open_there("%cts whoami", submit("remote", seconds=4, containers=3))
    card = notebook.card()
    expect_state(card, "Running")
    expect(card.locator(".cts-stream")).to_have_text("Live")
    where = urlsplit(lab.url).netloc
    expect(card).to_contain_text(f"ana · {where}")
    expect(page.locator(".jp-OutputArea-output").first).to_contain_text(
        f"You are ana (full_admin) at {where}"
    )
    notebook.shot("remote-running")
    expect_state(card, "Done")
    expect(card.locator(".cts-outputs tbody tr")).to_have_count(3)
    card.locator(".cts-logs summary").click()
    expect(card.locator(".cts-log")).to_contain_text("has begun")
    notebook.shot("remote-done")
    with page.expect_download() as download:
        card.get_by_role("link", name="o_1.txt").click()
    assert download.value.path().read_text() == "done\n"
    notebook.save()
    # The browser's requests and responses, and the saved notebook.
    assert seen
    assert token not in "".join(seen) + json.dumps(notebook.saved()) + page.content()


def test_cancel_reaches_the_service(open_there):
    notebook = open_there(submit("remote-cancel", seconds=100))
    card = notebook.card()
    expect_state(card, "Running")
    card.get_by_role("button", name="Cancel", exact=True).click()
    card.get_by_role("button", name="Cancel the job").click()
    expect_state(card, "Cancelled")


@pytest.mark.usefixtures("unanswered")
def test_card_shows_the_error_of_the_service(open_there, hub, lab, tmp_path):
    release = tmp_path / "release"
    notebook = open_there(submit("remote-away", mode="until", seconds=release))
    card = notebook.card()
    expect_state(card, "Running")
    line = card.locator(".cts-stream")
    expect(line).to_have_text("Live")
    lab.stop()
    expect(line).to_contain_text(
        re.compile(r"Offline since .*\. The CTS service at http.* cannot be reached"), timeout=LONG
    )
    notebook.shot("remote-away")
    # It is started again, and accepts other tokens than before.
    lab.start()
    expect(line).to_contain_text("does not accept your KBase token", timeout=RETRY)
    notebook.shot("remote-refused")
    log_in(hub, lab)
    expect(line).to_have_text("Live", timeout=RETRY)
    release.touch()
    expect_state(card, "Done", timeout=RETRY)


@pytest.mark.usefixtures("own_page", "unanswered")
def test_service_without_a_stream_is_polled(open_there, page):
    page.route("**/cts/events*", lambda route: route.fulfill(status=404, json={"error": {}}))
    notebook = open_there(submit("remote-deployed", seconds=8))
    card = notebook.card()
    expect_state(card, "Running")
    expect(card.locator(".cts-stream")).to_contain_text("Asked for now and then", timeout=LONG)
    notebook.shot("remote-deployed")
    expect_state(card, "Done", timeout=RETRY)
