"""Every screen in its main states: where there are 320 pixels, by keys alone, and as axe sees it in light, dark and forced colours."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.test_form import fill
from tests.browser.test_sidebar import submit
from tests.harness.browser import (
    DARK,
    LIGHT,
    LONG,
    LabHarness,
    expect_state,
    find_inaccessible,
    open_sidebar_for_keys,
    set_theme,
)
from tests.harness.paths import FAIL_SOME, WRITE_LINES
from tests.harness.screens import find_unreached, find_wide

LABELS = {"screen": "any", "of": "a-label-that-is-much-longer-than-what-holds-it" * 2}


@dataclass(frozen=True)
class Jobs:
    """A job of each kind."""

    running: str
    failed: str
    done: str


@pytest.fixture(scope="module")
def jobs(lab: LabHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    release = tmp_path_factory.mktemp("screens") / "release"
    with lab.client() as client:
        client.register_image("host/screens-fail", executable=str(FAIL_SOME))
        client.register_image("host/screens-lines", executable=str(WRITE_LINES))
        failed = client.submit(
            {
                "image": "host/screens-fail", "cluster": "local", "cpus": 1, "memory": 50_000_000, "runtime": "PT5M",
                "num_containers": 6, "input_files": [f"data/in/{n}.txt" for n in range(6)],
                "output_dir": "data/out/screens-failed/", "labels": LABELS,
                "params": {
                    "args": [
                        {"type": "container_number"},
                        {
                            "type": "container_number", "container_num_prefix": "/output_files/a-table-with-a-long-name-",
                            "container_num_suffix": ".tsv",
                        },
                    ]
                },
            }
        )  # fmt: skip
        done = submit(lab, "screens-done", labels=LABELS)
        for job_id, state in ((failed, "error"), (done, "complete")):
            while client.status(job_id).state != state:
                time.sleep(0.1)
        running = client.submit(
            {
                "image": "host/screens-lines", "cluster": "local", "cpus": 1, "memory": 50_000_000, "runtime": "PT1H",
                "num_containers": 2, "input_files": ["data/in/0.txt", "data/in/1.txt"],
                "output_dir": "data/out/screens-running/", "labels": LABELS,
                "params": {
                    "args": [
                        "300", str(release),
                        {
                            "type": "container_number", "container_num_prefix": "/output_files/o",
                            "container_num_suffix": ".txt",
                        },
                    ]
                },
            }
        )  # fmt: skip
    yield Jobs(running, failed, done)
    release.touch()


@dataclass
class World:
    """JupyterLab with the sidebar, jobs, a form and cards."""

    lab: LabHarness
    page: Page
    jobs: Jobs

    def execute(self, command: str, **args: str) -> None:
        self.page.evaluate(
            "([command, args]) => window.jupyterapp.commands.execute(command, args).then(() => null)",
            [command, args],
        )

    @property
    def sidebar(self) -> Locator:
        return self.page.locator(".cts-sidebar")

    def list_(self, *keys: str, search: str = "") -> None:
        """Close what is open in the sidebar, and press keys at the first job that is found."""
        opened = self.sidebar.locator("form input, [role=alertdialog] button, .cts-peek > button")
        while opened.count():
            opened.first.press("Escape")
        self.sidebar.get_by_role("searchbox").fill(search)
        rows = self.sidebar.locator(".cts-option")
        if search:
            expect(rows).to_have_count(1, timeout=LONG)
        expect(rows.first).to_contain_text(search, timeout=LONG)
        listed = self.sidebar.get_by_role("listbox")
        listed.focus()
        for key in ("Home", *keys):
            self.page.keyboard.press(key)

    def job(self, job_id: str, state: str, *, unfolded: bool = True) -> Locator:
        """A job in the main area, with all that can be unfolded."""
        self.execute("cts:open-job", id=job_id)
        view = self.page.locator(".cts-view:visible")
        card = view.locator(f".cts-card[data-job='{job_id}']")
        expect_state(card, state)
        if unfolded:
            for _ in range(2):
                view.evaluate(UNFOLD)
            expect(view.locator(".cts-log")).to_be_visible(timeout=LONG)
        return view

    def panel(self, key: str) -> Locator:
        """A panel of its own, in the main area."""
        widget = self.page.locator(f"#cts-form-{key}")
        if widget.count():
            self.page.evaluate("id => window.jupyterapp.shell.activateById(id)", f"cts-form-{key}")
        else:
            self.execute("cts:new-job", key=key)
        return widget.locator(".cts-panel")

    def form(self, key: str) -> Locator:
        """A panel in which a job is put together."""
        panel = self.panel(key)
        expect(panel.get_by_role("form")).to_be_visible(timeout=LONG)
        return panel


UNFOLD = """shown => {
    for (const summary of shown.querySelectorAll("details:not([open]) > summary")) summary.click();
}"""


def show_sidebar(world: World) -> Locator:
    world.list_()
    world.page.keyboard.press("Escape")
    return world.sidebar


def show_filters(world: World) -> Locator:
    world.list_("f")
    expect(world.sidebar.get_by_role("form", name="Filters")).to_be_visible()
    return world.sidebar


def show_question(world: World) -> Locator:
    world.list_("c", search="screens-lines")
    expect(world.sidebar.get_by_role("alertdialog")).to_be_visible()
    return world.sidebar


def show_peek(world: World) -> Locator:
    world.list_(" ", search="screens-fail")
    expect(world.sidebar.locator(".cts-peek .cts-card")).to_be_visible(timeout=LONG)
    return world.sidebar


def show_none(world: World) -> Locator:
    world.sidebar.get_by_role("searchbox").fill("nothing is called so")
    expect(world.sidebar).to_contain_text("No job matches.", timeout=LONG)
    return world.sidebar


def show_failed(world: World) -> Locator:
    view = world.job(world.jobs.failed, "Failed")
    strip = view.get_by_role("slider", name="Container")
    strip.press("n")
    expect(view.locator(".cts-detail")).to_be_visible(timeout=LONG)
    return view


def show_menu(world: World) -> Locator:
    view = world.job(world.jobs.failed, "Failed", unfolded=False)
    if not view.get_by_role("menu").count():
        view.get_by_role("button", name="Resubmit", exact=True).click()
    return view


def show_request(world: World) -> Locator:
    view = world.job(world.jobs.failed, "Failed", unfolded=False)
    view.get_by_role("button", name="More").click()
    view.get_by_role("menuitem", name="Command lines").click()
    expect(view.get_by_role("region", name="Command lines")).to_be_visible(timeout=LONG)
    return view


def show_running(world: World) -> Locator:
    view = world.job(world.jobs.running, "Running")
    if not view.get_by_role("alertdialog").count():
        view.get_by_role("button", name="Cancel", exact=True).click()
    view.get_by_label("Find in the log").fill("contigs")
    return view


def show_done(world: World) -> Locator:
    view = world.job(world.jobs.done, "Done")
    view.get_by_role("button", name="Look at").click()
    expect(view.get_by_role("group", name="Preview of")).to_be_visible(timeout=LONG)
    return view


def show_gone(world: World) -> Locator:
    world.execute("cts:open-job", id="00000000-0000-4000-8000-000000000000")
    view = world.page.locator(".cts-view:visible")
    expect(view).to_contain_text("does not know this job", timeout=LONG)
    return view


def show_empty_form(world: World) -> Locator:
    panel = world.form("empty")
    expect(panel.get_by_role("tree")).to_be_visible(timeout=LONG)
    return panel


def show_problems(world: World) -> Locator:
    panel = world.form("problems")
    form = panel.get_by_role("form")
    if not form.get_by_label("Argument 1, text").count():
        fill(form, "data/out/screens/")
        form.get_by_label("Paths of files, one a line").fill("data/in/0.txt\ndata/in/nope.txt")
        for kind in ("Files", "Manifest file", "Container number"):
            form.get_by_role("button", name=f"+ {kind}").click()
        form.get_by_role("button", name="+ Variable").click()
        form.get_by_role("button", name="+ Label").click()
        panel.evaluate(UNFOLD)
        form.get_by_label("Show as code").select_option("python")
    check = form.locator(".cts-check[data-phase=done]")
    expect(check).to_contain_text("was not found", timeout=LONG)
    return panel


def show_files(world: World) -> Locator:
    panel = world.form("files")
    tree = panel.get_by_role("tree")
    if not tree.get_by_role("treeitem", name="0.txt").count():
        tree.get_by_role("treeitem", name="data/").click(timeout=LONG)
        tree.get_by_role("treeitem", name="in/").click(timeout=LONG)
        tree.get_by_role("treeitem", name="3.txt").click(timeout=LONG)
    if not panel.get_by_role("group", name="Preview of").count():
        tree.get_by_role("treeitem", name="0.txt").press("Enter")
    expect(panel.get_by_role("group", name="Preview of")).to_be_visible(timeout=LONG)
    return panel


def show_submitted(world: World) -> Locator:
    panel = world.panel("submitted")
    if not panel.locator(".cts-card").count():
        form = world.form("submitted").get_by_role("form")
        fill(form, "data/out/screens-submitted/")
        form.get_by_role("button", name="Submit 2 containers").click(timeout=LONG)
    # The one that runs has all cpus.
    expect_state(panel.locator(".cts-card"), "Waiting for its turn")
    return panel


def card(world: World, number: int, state: str) -> Locator:
    world.execute("docmanager:open", path="screens.ipynb")
    output = world.page.locator(".jp-Notebook .cts-output").nth(number)
    expect_state(output.locator(".cts-card"), state)
    return output


def show_card_of_failed(world: World) -> Locator:
    return card(world, 0, "Failed")


def show_card_of_running(world: World) -> Locator:
    return card(world, 1, "Running")


def show_saved_card(world: World) -> Locator:
    world.execute("docmanager:open", path="screens.ipynb")
    output = world.page.locator(".jp-Notebook .cts-output").nth(2)
    expect(output).to_contain_text("This is what was saved", timeout=LONG)
    return output


SCREENS: tuple[Callable[[World], Locator], ...] = (
    show_sidebar,
    show_filters,
    show_question,
    show_peek,
    show_none,
    show_failed,
    show_menu,
    show_request,
    show_running,
    show_done,
    show_gone,
    show_empty_form,
    show_problems,
    show_files,
    show_submitted,
    show_card_of_failed,
    show_card_of_running,
    show_saved_card,
)


def write_cards(lab: LabHarness, *job_ids: str) -> None:
    """Write a notebook with the outputs of jobs, as a kernel leaves them."""
    cells = []
    for job_id in job_ids:
        data = {
            "application/vnd.cts.job+json": {"job": job_id, "service": "here"},
            "text/html": "<p>Saved</p>",
        }
        cells.append(new_code_cell("job", outputs=[new_output("display_data", data)]))
    # Of another kernel JupyterLab would ask, by a dialog over it all.
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, lab.folder / "work" / "screens.ipynb")


@pytest.fixture
def world(lab: LabHarness, page: Page, jobs: Jobs) -> World:
    write_cards(lab, jobs.failed, jobs.running, "00000000-0000-4000-8000-000000000000")
    open_sidebar_for_keys(lab, page)
    return World(lab, page, jobs)


@pytest.fixture
def look(page: Page) -> Iterator[Callable[[str], None]]:
    """Show the page in a look."""

    def look_(name: str) -> None:
        set_theme(page, DARK if name == "dark" else LIGHT)
        page.emulate_media(forced_colors="active" if name == "forced" else "none")

    yield look_
    page.emulate_media(forced_colors="none")


LOOKS = ("light", "dark", "forced")
WIDEN = "e => { e.style.width = e.style.maxWidth = ''; }"


def find_faults(
    world: World, name: str, show: Callable[[World], Locator], look: str, shot
) -> list[str]:
    """Show a screen in a look and take its picture; in light, also where there are 320 pixels, and by keys."""
    root = show(world)
    root.evaluate("(e, mark) => e.classList.add(mark)", f"screen-{name}")
    shot(f"screen-{name}-{look}")
    found = find_inaccessible(world.page, f".screen-{name}")
    if look == "light":
        found += find_wide(root)
        found += find_unreached(root)
        root = show(world)
        shot(f"screen-{name}-320")
        found += find_inaccessible(world.page, f".screen-{name}")
        root.evaluate(WIDEN)
    return found


# Of a job that there is not.
@pytest.mark.usefixtures("unanswered")
@pytest.mark.timeout(480)
def test_every_screen_is_for_everybody(world: World, look, shot):
    faults: dict[str, list[str]] = {}
    for name in LOOKS:
        look(name)
        for show in SCREENS:
            screen = show.__name__.removeprefix("show_")
            if found := find_faults(world, screen, show, name, shot):
                faults[f"{screen}-{name}"] = found
    assert faults == {}


ALL = re.compile(r"/cts/")
ANSWERS = re.compile(r"/cts/(jobs|images|sites|refdata|files|whoami)")
COMPUTED = "11111111-1111-4111-8111-111111111111"
OPEN_STREAM_ANEW = "() => ['pagehide', 'pageshow'].forEach(name => dispatchEvent(new Event(name)))"


def reopen(world: World) -> None:
    open_sidebar_for_keys(world.lab, world.page)


def be_offline(world: World) -> None:
    show_any_form(world)
    expect_state(show_any_job(world).locator(".cts-card"), "Running")
    world.page.route(ALL, lambda route: route.abort("internetdisconnected"))
    world.page.evaluate(OPEN_STREAM_ANEW)
    world.page.evaluate("dispatchEvent(new Event('offline'))")


def be_signed_out(world: World) -> None:
    world.page.route(ALL, lambda route: route.fulfill(status=401, json={"message": "Log in"}))
    world.page.evaluate(OPEN_STREAM_ANEW)


def be_absent(world: World) -> None:
    world.page.route(ALL, lambda route: route.fulfill(status=404, body="Not Found"))
    reopen(world)


def be_empty(world: World) -> None:
    world.page.route(
        re.compile(r"/cts/jobs\?"), lambda route: route.fulfill(json={"jobs": [], "is_cut": False})
    )
    reopen(world)


def be_slow(world: World) -> None:
    # They have no answer as long as the page is there.
    world.page.route(ANSWERS, lambda _: None)
    reopen(world)


def be_broken(world: World) -> None:
    error = {"error": {"message": "The records cannot be read: the disk is full"}}
    world.page.route(ANSWERS, lambda route: route.fulfill(status=500, json=error))
    reopen(world)


def lose_answer(world: World) -> None:
    def lose(route: Route) -> None:
        if route.request.method == "POST":
            route.abort()
        else:
            route.fallback()

    world.page.route(re.compile(r"/cts/jobs$"), lose)
    fill_and_submit(world, "lost")


def fill_and_submit(world: World, name: str) -> None:
    form = show_any_form(world).get_by_role("form")
    fill(form, f"data/out/screens-{name}/")
    expect(form.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    form.get_by_role("button", name="Submit 2 containers").click()


def compute_checksums(world: World) -> None:
    """As if the service took long to compute some."""
    files = [
        {"file": f"data/in/{n}.txt", "state": "done" if n < 3 else "waiting"} for n in range(6)
    ]
    task = {"id": COMPUTED, "user": "ana", "state": "running", "created": "2026-01-01T00:00:00Z"}
    page = world.page
    page.route(re.compile(r"/cts/checksums$"), lambda it: it.fulfill(json={"tasks": [task]}))
    page.route(
        re.compile(f"/cts/checksums/{COMPUTED}"),
        lambda it: it.fulfill(json={**task, "files": files}),
    )
    panel = show_any_form(world)
    tree = panel.get_by_role("tree")
    tree.get_by_role("treeitem", name="data/").click(timeout=LONG)
    tree.get_by_role("treeitem", name="in/").click(timeout=LONG)
    tree.get_by_role("treeitem", name="0.txt").click(timeout=LONG)
    tree.get_by_role("treeitem", name="5.txt").click(modifiers=["Shift"])
    expect(panel).to_contain_text("6 files chosen")


def show_any_sidebar(world: World) -> Locator:
    return world.sidebar


def show_any_job(world: World) -> Locator:
    world.execute("cts:open-job", id=world.jobs.running)
    return world.page.locator(".cts-view:visible")


def show_any_form(world: World) -> Locator:
    return world.form("any")


@dataclass(frozen=True)
class State:
    """What the seat may be in, and what each of its parts says then."""

    begin: Callable[[World], None]
    sidebar: str = ""
    job: str = ""
    form: str = ""

    @property
    def name(self) -> str:
        return self.begin.__name__


STATES = (
    State(
        be_offline,
        "The Jupyter server cannot be reached. What you see is from",
        "Offline since",
        "Offline: nothing is lost. Trying again.",
    ),
    State(
        be_signed_out,
        "You are signed out of Jupyter. Sign in again",
        "You are signed out of Jupyter. Sign in again",
        "You are signed out of Jupyter: sign in again in another tab.",
    ),
    State(
        be_absent,
        "This Jupyter server has no CTS.",
        "This Jupyter server has no CTS.",
        "This Jupyter server has no CTS",
    ),
    State(be_empty, "No jobs yet. New job opens a form"),
    State(be_slow, "Loading your jobs …", "Loading …", "Not complete yet"),
    State(
        be_broken,
        "The records cannot be read: the disk is full.",
        "The records cannot be read: the disk is full.",
        "The records cannot be read: the disk is full.",
    ),
    State(lose_answer, form="No answer: The Jupyter server cannot be reached. The job may have"),
    State(compute_checksums, form="Computing 6 checksums: 3 done"),
)


@pytest.mark.usefixtures("own_page", "unanswered")
@pytest.mark.timeout(480)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_every_state_says_so_to_everybody(state: State, world: World, look, shot):
    state.begin(world)
    faults: dict[str, list[str]] = {}
    parts = (
        (show_any_sidebar, state.sidebar),
        (show_any_job, state.job),
        (show_any_form, state.form),
    )
    for show, said in parts:
        if said:
            expect(show(world)).to_contain_text(said, timeout=LONG)
            for name in LOOKS:
                look(name)
                screen = f"{state.name}-{show.__name__.removeprefix('show_any_')}"
                if found := find_faults(world, screen, show, name, shot):
                    faults[f"{screen}-{name}"] = found
    assert faults == {}


LIST = ".cts-list"
ASKED = "[role=alertdialog]"
LOG_NAME = "[aria-label='Log of the container']"
STRIP, LOG = ".cts-strip", ".cts-log"
RESUBMIT, MORE, ENTRY = "button[title=Resubmit]", "button[title=More]", "[role=menuitem]"
LOOK = ".cts-outputs button[aria-label^=Look]"
TREE = "[role=tree] [tabindex='0']"
PATTERN = "[aria-label=Pattern]"
ARGUMENT = ".cts-lines > li:nth-child({}) input"
KEYS: tuple[tuple[Callable[[World], Locator], str, str, str, str], ...] = (
    # Where the focus is, keys, where it is then, and what is shown then, or with "!" no longer.
    (show_sidebar, LIST, "/", "[type=search]", ""),
    (show_sidebar, LIST, "f", ".cts-filter-menu input >> nth=0", ""),
    (show_filters, ".cts-filter-menu select", "Escape", "[aria-controls]", "!.cts-filter-menu"),
    (show_question, f"{ASKED} button >> nth=0", "Escape", LIST, f"!{ASKED}"),
    (show_question, f"{ASKED} button >> nth=1", "Enter", LIST, f"!{ASKED}"),
    (show_sidebar, LIST, "Home Space", LIST, ".cts-peek .cts-card"),
    (show_peek, LIST, "Escape", LIST, "!.cts-peek"),
    (show_peek, f".cts-peek {MORE}", "Escape", LIST, "!.cts-peek"),
    (show_none, ".cts-empty button", "Enter", "[type=search]", LIST),
    (show_failed, RESUBMIT, "Enter", f"{ENTRY} >> nth=0", ""),
    (show_menu, f"{ENTRY} >> nth=0", "ArrowDown", f"{ENTRY} >> nth=1", ""),
    (show_menu, f"{ENTRY} >> nth=1", "End", f"{ENTRY} >> nth=2", ""),
    (show_menu, f"{ENTRY} >> nth=2", "Escape", RESUBMIT, f"!{ENTRY}"),
    (show_request, ".cts-request input", "Escape", MORE, "!.cts-request"),
    (show_failed, STRIP, "Home ArrowRight", STRIP, f"{STRIP}[aria-valuenow='1']"),
    (show_failed, STRIP, "End n", STRIP, f"{STRIP}[aria-valuenow='1']"),
    (show_failed, STRIP, "End", STRIP, f"{STRIP}[aria-valuenow='5']"),
    (show_failed, LOG, "w", LOG, f"{LOG}[data-wrapped=false]"),
    (show_failed, LOG, "/", ".cts-log-view .cts-find", ""),
    (show_failed, ".cts-log-view .cts-find", "Escape", LOG, ""),
    (show_failed, LOOK, "Enter", LOOK, "[aria-label^='Preview of']"),
    (show_failed, "[aria-label^='Preview of'] button", "Enter", LOOK, "![aria-label^='Preview of']"),
    (show_running, f"{ASKED} .cts-danger", "Escape", "footer button", f"!{ASKED}"),
    (show_running, LOG, "o", LOG_NAME, f"{LOG_NAME} option[value=stderr]:checked"),
    (show_files, TREE, "/", PATTERN, ""),
    (show_files, TREE, "Escape", TREE, "![aria-label^='Preview of']"),
    (show_files, "[aria-label^='Preview of'] button", "Escape", TREE, "![aria-label^='Preview of']"),
    (show_problems, ARGUMENT.format(1), "Enter", ARGUMENT.format(2), ""),
    (show_problems, ARGUMENT.format(2), "Delete", ARGUMENT.format(2), ""),
    (show_problems, ARGUMENT.format(2), "Alt+ArrowUp", ARGUMENT.format(1), ""),
    (show_problems, ARGUMENT.format(1), "Control+Enter", "[aria-label='Variable 1: name']", ".cts-check"),
)  # fmt: skip


def test_keys_go_where_they_should(world: World):
    for show, start, keys, end, shown in KEYS:
        root = show(world)
        root.locator(start).first.focus()
        for key in keys.split():
            world.page.keyboard.press(key)
        case = f"{show.__name__}: {keys} at {start}"
        expect(root.locator(end).first, case).to_be_focused(timeout=LONG)
        if shown:
            count = 0 if shown.startswith("!") else 1
            found = root.locator(shown.removeprefix("!"))
            expect(found, f"{case} shows {shown}").to_have_count(count, timeout=LONG)
