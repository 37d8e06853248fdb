"""A browser that loses its network and gets it back: what is in its page says so, and has missed nothing afterwards."""

from __future__ import annotations

import contextlib

import pytest
from playwright.sync_api import Error, Locator, expect

from tests.browser.test_panel import show
from tests.browser.test_sidebar import row, rows, submit
from tests.harness import browser
from tests.harness.browser import LONG, expect_state, show_sidebar


def close(dialogs: Locator) -> None:
    """Close JupyterLab's dialogs, which lie one over the other, and have it ask no more."""
    # One may have gone by itself.
    with contextlib.suppress(Error):
        while dialogs.count():
            dialogs.locator(".jp-Dialog-checkbox input").last.check(timeout=2000)
            dialogs.locator(".jp-mod-accept").last.click(timeout=2000)


@pytest.mark.usefixtures("own_page", "unanswered")
def test_sidebar_card_and_panel_outlive_the_network(open_notebook, lab, page, shot, tmp_path):
    # After a while JupyterLab says above everything, too, that its server is away.
    page.add_locator_handler(page.locator(".jp-Dialog"), close, no_wait_after=True)
    release = tmp_path / "release"
    notebook = open_notebook(
        browser.submit(tmp_path.name, mode="until", seconds=release), show("network-panel")
    )
    sidebar = show_sidebar(page)
    expect(sidebar.locator(".cts-stream")).to_have_text("live", timeout=LONG)
    card = notebook.card()
    expect_state(card, "Running")
    panel = page.locator(".cts-widget")
    expect(panel.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    button = panel.get_by_role("button", name="Submit 1 container")
    expect(button).to_be_enabled(timeout=LONG)

    page.context.set_offline(True)
    expect(card.locator(".cts-stream")).to_contain_text("Offline since", timeout=LONG)
    expect(sidebar.locator(".cts-banner")).to_contain_text("What you see is from", timeout=LONG)
    expect(panel.locator(".cts-submit")).to_contain_text("Offline: nothing is lost", timeout=LONG)
    expect(button).to_be_disabled(timeout=LONG)
    expect_state(card, "Running")
    expect(rows(sidebar).first).to_be_visible(timeout=LONG)
    shot("network-lost")
    release.touch()
    ended = submit(lab, "network-meanwhile", "fail", labels={"meanwhile": "failed"})
    with lab.client() as client:
        while client.status(ended).state != "error":
            page.wait_for_timeout(100)
        client.cancel(submit(lab, "network-long", seconds="300", labels={"meanwhile": "long"}))
        source = lab.folder / "in.txt"
        client.upload(source, "data/meanwhile/new.txt")
    assert row(sidebar, "meanwhile=").count() == 0

    page.context.set_offline(False)
    expect_state(card, "Done")
    expect(card.locator(".cts-outputs tbody tr")).to_have_count(1, timeout=LONG)
    expect(sidebar.locator(".cts-stream")).to_have_text("live", timeout=LONG)
    expect(row(sidebar, "meanwhile=failed")).to_contain_text("exit code 3", timeout=LONG)
    expect(row(sidebar, "meanwhile=long")).to_contain_text("Cancel", timeout=LONG)
    expect(sidebar.locator(".cts-banner")).to_have_count(0, timeout=LONG)
    expect(panel.locator(".cts-submit")).not_to_contain_text("Offline", timeout=LONG)
    panel.get_by_role("treeitem", name="data/").click(timeout=LONG)
    expect(panel.get_by_role("treeitem", name="meanwhile/")).to_be_visible(timeout=LONG)
    button.click()
    expect_state(panel.locator(".cts-card"), "Done")
