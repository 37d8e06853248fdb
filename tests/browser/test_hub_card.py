"""The live card in the JupyterLab of a real hub's user, whose server is stopped and started again."""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewContext
from tests.harness.browser import LONG, expect_state
from tests.harness.hub_jobs import client_of, register, submit
from tests.harness.labextension import built_labextension
from tests.services.jupyterhub import LAB, JupyterHub, UserServer
from tests.services.server import or_skip

HURRY = """() => {
    const now = Date.now;
    let ahead = 0;
    Date.now = () => now() + ahead;
    const timer = setInterval(() => {
        ahead += 9_000;
        if (ahead > 60_000) clearInterval(timer);
    }, 1_000);
}"""
"""Has a minute pass in a page within seconds."""


@pytest.fixture
def users_page(new_context: NewContext) -> Iterator[Page]:
    context = new_context(viewport={"width": 1100, "height": 900})
    yield context.new_page()
    context.close()


def write_notebook(hub: JupyterHub, server: UserServer, job: str) -> None:
    """Write a notebook that was saved with a job, and for which there is no kernel."""
    output = {"application/vnd.cts.job+json": {"job": job, "service": ""}, "text/html": "saved"}
    cells = [new_code_cell("job", outputs=[new_output("display_data", output)])]
    kernel = {"kernelspec": {"name": "none", "display_name": "None"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), hub.home(server) / "n.ipynb")


# A hub and two starts of a user's server take minutes on a busy machine.
@pytest.mark.timeout(480)
@pytest.mark.usefixtures("unanswered")
def test_card_outlives_the_users_server(jupyterhub: JupyterHub, users_page: Page, tmp_path):
    with or_skip():
        built_labextension()
    page = users_page
    server = jupyterhub.start_server("eve", CTS_PRESET="embedded", **LAB)
    register(server)
    with client_of(server) as client:
        write_notebook(jupyterhub, server, submit(client, tmp_path))
    # Lab asks for it with a notebook, and no server ends while it imports that.
    page.route("**/api/nbconvert*", lambda route: route.abort())
    # It also says itself, sooner or later, that the server is away.
    page.add_locator_handler(page.get_by_role("dialog"), lambda _: page.keyboard.press("Escape"))
    page.goto(f"{server.url}/lab/tree/n.ipynb")
    page.get_by_label("Username").fill("eve")
    page.get_by_label("Password").fill("any")
    page.get_by_role("button", name="Sign in").click()
    card = page.locator(".cts-card")
    expect_state(card, "Running")
    line = card.locator(".cts-stream")
    expect(line).to_have_text("Live", timeout=LONG)

    # The proxy does not close the browser's stream.
    jupyterhub.stop_server("eve")
    page.evaluate(HURRY)
    not_running = r"Offline since .*\. The Jupyter server is not running, or you are signed out: open it in another tab\."
    expect(line).to_contain_text(re.compile(not_running), timeout=LONG)
    expect_state(card, "Running")
    jupyterhub.start_server("eve", CTS_PRESET="embedded", **LAB)
    # Any page of the server signs its user in anew; the open one still has the token of the server before.
    page.context.new_page().goto(f"{server.url}/files/none")
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(line).to_have_text("Live", timeout=LONG)
    card.get_by_role("button", name="Cancel", exact=True).click()
    card.get_by_role("button", name="Cancel the job").click()
    expect_state(card, "Cancelled")
