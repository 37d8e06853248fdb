"""The form and its files in a real JupyterLab: browsed, chosen, and as a widget, also by the kernel alone."""

from __future__ import annotations

import json
from functools import partial

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.harness.browser import (
    LAB_PAGE,
    LAB_TOKEN,
    LONG,
    LabHarness,
    expect_state,
    find_inaccessible,
    open_lab,
    serve_lab,
    submit,
)

PANEL = (
    "p = cts_jupyter.panel({options}image='host/tool:latest', files=['data/in/0.txt'], memory='50MB', runtime='5m', "
    "output_dir='data/out/{name}/', params=dict(args=['work', '0.1', dict(type='container_number', "
    "container_num_prefix='/output_files/o_', container_num_suffix='.txt')])); p"
)


def show(name: str, options: str = "") -> str:
    return "import cts_jupyter\n" + PANEL.format(name=name, options=options)


def execute(page: Page, code: str) -> str:
    """Run code in the notebook's kernel, and return what it prints."""
    return page.evaluate(
        """async code => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const future = kernel.requestExecute({code});
            let text = '';
            future.onIOPub = ({content}) => { text += content.text ?? content.traceback?.join('\\n') ?? ''; };
            await future.done;
            return text;
        }""",
        code,
    )


def expect_printed(page: Page, expression: str, value: object) -> None:
    """Expect the value of an expression in the kernel, once the page has told it."""
    for _ in range(100):
        printed = execute(page, f"import json; print(json.dumps({expression}))")
        if printed.strip() == json.dumps(value):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{expression} is {printed}, not {value!r}")


def item(panel: Locator, name: str) -> Locator:
    return panel.get_by_role("treeitem", name=name)


def test_files_are_browsed_and_chosen(lab: LabHarness, page, shot):
    open_lab(lab, page)
    page.evaluate("window.jupyterapp.commands.execute('cts:new-job')")
    form = page.get_by_role("form", name="New job")
    tree = form.get_by_role("tree")
    item(tree, "data/").click(timeout=LONG)
    item(tree, "in/").click(timeout=LONG)
    item(tree, "0.txt").click(timeout=LONG)
    item(tree, "3.txt").click(modifiers=["Shift"])
    expect(form.get_by_text("4 files chosen")).to_be_visible()
    form.get_by_role("searchbox", name="Pattern").fill("[45].txt")
    expect(item(tree, "0.txt")).to_have_count(0, timeout=LONG)
    form.get_by_role("button", name="Choose all that match").click()
    expect(form.get_by_text("6 files chosen")).to_be_visible(timeout=LONG)
    shot("files", form.locator(".cts-chooser"))


@pytest.mark.parametrize("options", ["", "by_kernel=True, "])
def test_a_widgets_form_is_the_notebooks_data(open_notebook, page, shot, options):
    name = "by-kernel" if options else "by-page"
    notebook = open_notebook(show(name, options))
    panel = page.locator(".cts-widget")
    form = panel.get_by_role("form", name="New job")
    expect(form.get_by_text("1 file chosen")).to_be_visible(timeout=LONG)
    expect(panel.get_by_text("By the kernel,")).to_have_count(1 if options else 0)
    expect_printed(page, "p.checked", value=True)
    # From Python to the form, and back.
    execute(page, "p.files = [*p.files, 'data/in/1.txt']; p.spec = {**p.spec, 'num_containers': 2}")
    expect(form.get_by_text("2 files chosen")).to_be_visible(timeout=LONG)
    expect(form.get_by_label("Containers", exact=True)).to_have_value("2")
    execute(page, "seen = []; p.observe(lambda change: seen.append(change['new']), 'files')")
    tree = form.get_by_role("tree")
    item(tree, "data/").click(timeout=LONG)
    item(tree, "in/").click(timeout=LONG)
    item(tree, "2.txt").click(timeout=LONG)
    expect_printed(page, "p.files", [f"data/in/{n}.txt" for n in range(3)])
    expect_printed(page, "seen[-1]", [f"data/in/{n}.txt" for n in range(3)])
    expect(form.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    shot(f"panel-{name}", panel)
    form.get_by_role("button", name="Submit 2 containers").click()
    card = panel.locator(".cts-card")
    expect_state(card, "Done")
    expect_printed(page, "p.job.wait().state", "complete")
    shot(f"panel-{name}-done", panel)
    # No notebook grows by the component, nor by the files.
    notebook.save()
    assert len(json.dumps(notebook.saved().metadata)) < 6_000


@pytest.mark.usefixtures("own_page")
def test_a_page_without_the_extension_has_it_all_by_the_kernel(open_notebook, page, shot):
    asked: list[str] = []
    page.on("request", lambda request: "/cts/" in request.url and asked.append(request.url))
    # To Chromium a page that a test answers is not of this machine, as the kernel's socket is.
    page.context.grant_permissions(["local-network-access"])
    page.route(LAB_PAGE, partial(serve_lab, with_cts=False))
    open_notebook(submit("bare-card"), show("bare-panel"))
    assert not page.evaluate("window.jupyterapp.hasPlugin('cts-jupyter:service')")
    # Without the extension a card is its snapshot, which the kernel keeps up to date.
    snapshot = page.locator(".jp-OutputArea-output.jp-RenderedHTML")
    expect(snapshot.filter(has_text="data/out/bare-card/")).to_contain_text("Done", timeout=LONG)
    panel = page.locator(".cts-widget")
    form = panel.get_by_role("form", name="New job")
    expect(panel.get_by_text("By the kernel,")).to_have_count(1, timeout=LONG)
    item(form.get_by_role("tree"), "data/").click(timeout=LONG)
    expect(item(form.get_by_role("tree"), "in/")).to_be_visible(timeout=LONG)
    expect(form.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    shot("panel-bare", panel)
    assert find_inaccessible(page, ".cts-widget") == []
    form.get_by_role("button", name="Submit 1 container").click()
    expect_state(panel.locator(".cts-card"), "Done")
    expect(panel.locator(".cts-outputs tbody tr")).to_have_count(1)
    expect_printed(page, "p.job.wait().state", "complete")
    assert asked == []


@pytest.mark.usefixtures("own_kernel", "own_page")
def test_a_panel_says_that_its_kernel_is_gone(open_notebook, lab, page, shot):
    notebook = open_notebook(show("gone-page"), show("gone-kernel", "by_kernel=True, "))
    by_page, by_kernel = (page.locator(".cts-widget").nth(n) for n in range(2))
    for panel in (by_page, by_kernel):
        expect(panel.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    gone = "The kernel was restarted or ended"
    expect(by_page.get_by_role("alert")).to_contain_text(gone, timeout=LONG)
    expect(by_kernel.get_by_role("alert")).to_contain_text(gone, timeout=LONG)
    expect(by_kernel.get_by_text("By the kernel,")).to_have_count(0)
    # What asks by the kernel says that it cannot; the other one goes on.
    by_kernel.get_by_role("button", name="Check again").click()
    expect(by_kernel.locator(".cts-check")).to_contain_text("could not be checked", timeout=LONG)
    shot("panel-gone", by_kernel)
    item(by_page.get_by_role("tree"), "data/").click()
    item(by_page.get_by_role("tree"), "in/").click(timeout=LONG)
    item(by_page.get_by_role("tree"), "1.txt").click(timeout=LONG)
    expect(by_page.get_by_text("2 files chosen")).to_be_visible()
    shot("panel-gone-page", by_page)
    by_page.get_by_role("button", name="Submit 1 container").click(timeout=LONG)
    expect_state(by_page.locator(".cts-card"), "Done")
    # In a notebook that is not trusted, or has no kernel, there is no widget at all.
    notebook.save()
    notebook.open_foreign()
    outputs = page.locator(".jp-OutputArea-output")
    expect(outputs).to_have_count(2, timeout=LONG)
    said = "The form for a new job of host/tool:latest: run this cell in a notebook to show it"
    expect(outputs.first).to_have_text(said)


@pytest.mark.usefixtures("own_page")
def test_a_widgets_form_in_two_tabs_is_one(open_notebook, lab, page):
    notebook = open_notebook(show("two-tabs"))
    first = page.locator(".cts-widget")
    expect(first.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    notebook.save()
    other = page.context.new_page()
    other.goto(f"{lab.url}/lab/workspaces/two/tree/{notebook.name}?token={LAB_TOKEN}&reset")
    second = other.locator(".cts-widget")
    expect(second.get_by_text("1 file chosen")).to_be_visible(timeout=LONG)
    second.get_by_label("Memory each").fill("60")
    expect(first.get_by_label("Memory each")).to_have_value("60", timeout=LONG)
    for panel in (first, second):
        expect(panel.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    first.get_by_role("button", name="Submit 1 container").click()
    for panel in (first, second):
        expect_state(panel.locator(".cts-card"), "Done")
    with lab.client() as client:
        folders = [job.job_input.output_dir for job in client.jobs()]
    assert folders.count("data/out/two-tabs/") == 1
