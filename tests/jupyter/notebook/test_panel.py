from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import traitlets

from cts_jupyter.client import CTSConnectionError
from cts_jupyter.notebook import panel as panel_module
from cts_jupyter.notebook.panel import Panel, PanelError, digest_of, key_of
from cts_jupyter.notebook.session import Session
from tests.harness.paths import ROOT


class Client:
    def root(self):
        return SimpleNamespace(instance="records-1")


class FakeSession(Session):
    where = name = "cts.test"

    def __init__(self) -> None:
        self.client = Client()


@pytest.fixture
def session():
    return FakeSession()


@pytest.fixture
def make(session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "loader.js").write_text("export default {}")
    (tmp_path / "panel.js").write_text("export const mount = 1")
    monkeypatch.setattr(panel_module, "_STATIC", tmp_path)
    made: list[Panel] = []

    def make_(**fields) -> Panel:
        made.append(Panel(session, fields, by_kernel=False))
        return made[-1]

    yield make_
    for each in made:
        each.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list:
    messages: list = []
    monkeypatch.setattr(
        Panel, "send", lambda self, content, buffers=None: messages.append((content, buffers))
    )
    return messages


def test_without_a_kernel_it_says_how_to_show_it(make):
    for image, of in (("", ""), ("host/tool:1", " of host/tool:1"), ("x" * 200, " of " + "x" * 40)):
        shown = make(image=image)._repr_mimebundle_()
        data = shown[0] if isinstance(shown, tuple) else shown
        said = f"The form for a new job{of}: run this cell in a notebook to show it"
        assert data["text/plain"] == said


def from_page(panel: Panel, **state) -> None:
    """Change traits as a page does."""
    panel.set_state(state)


def test_fields_are_filled_in_and_read_back_in_every_form(make):
    p = make(
        image="host/tool",
        input_files=["s3://b/1", "b/2"],
        memory="40GB",
        runtime="1h30m",
        output_dir="b/out/",
        params={"args": ["x"]},
    )
    assert p.files == ["b/1", "b/2"]
    assert p.spec["memory"] == 40_000_000_000
    assert p.spec["runtime"] == "PT1H30M"
    assert p._spec == {k: v for k, v in p.spec.items() if k != "input_files"}
    assert p.yaml.startswith("%%cts submit\nimage: host/tool\n")
    assert "input_files=['b/1', 'b/2']" in p.code
    assert "b/1" not in json.dumps(p.get_state())


@pytest.mark.parametrize("form", ["yaml", "code"])
def test_a_form_sets_what_it_shows(make, form):
    first = make(
        image="host/tool",
        input_files=[{"file": "b/1", "data_id": "one"}],
        memory=5,
        runtime="PT1H",
        output_dir="b/out/",
        params={"args": ["ab", {"type": "input_files", "input_files_format": "repeat_parameter"}]},
        labels={"ana": "c2"},
    )
    second = make()
    setattr(second, form, getattr(first, form))
    assert second.files == ["b/1"]
    assert second.spec["input_files"] == [{"file": "b/1", "data_id": "one"}]
    for key in ("image", "runtime", "output_dir", "labels"):
        assert second.spec[key] == first.spec[key]
    assert second.spec["params"]["args"] == first.spec["params"]["args"]


def test_a_draft_is_shown_in_every_form_however_far_it_is(make):
    p = make(params={"args": ["not allowed"], "environment": {"X": "y z"}}, memory=None)
    assert "not allowed" in p.yaml
    assert "not allowed" in p.code
    assert make().yaml.startswith("%%cts submit")


def test_one_path_is_a_list_of_it(make):
    p = make()
    p.files = "b/1"
    assert p.files == ["b/1"]
    p.spec = {**p.spec, "input_files": "s3://b/2"}
    assert p.files == ["b/2"]


def test_code_is_read_and_not_run(make):
    p = make(image="a")
    for code in ("import os; submit(image=os.getcwd())", "submit(image='a'); submit()", "nothing("):
        with pytest.raises(PanelError, match="one call of submit"):
            p.code = code
    assert p.spec["image"] == "a"


def test_what_cannot_be_read_changes_nothing(make):
    p = make(image="a", input_files=["b/1"], memory=5)
    with pytest.raises(PanelError, match="40GB"):
        p.spec = {"memory": "much"}
    with pytest.raises(PanelError, match="no path"):
        p.files = [1]
    with pytest.raises(traitlets.TraitError):
        p.spec = 5
    assert (p.files, p.spec["memory"]) == (["b/1"], 5)


def test_observers_are_told_of_what_the_page_changes(make):
    p = make(input_files=["b/1"])
    seen: list[tuple[str, object]] = []
    for name in ("files", "spec", "yaml", "checked"):
        p.observe(lambda change: seen.append((change["name"], change["new"])), name)
    from_page(p, _spec={"image": "host/tool", "params": {}}, checked=True)
    assert p.spec == {"image": "host/tool", "params": {}, "input_files": ["b/1"]}
    assert ("checked", True) in seen
    assert ("spec", p.spec) in seen
    assert ("yaml", p.yaml) in seen
    assert "files" not in {name for name, _ in seen}


def message(p: Panel, **content) -> None:
    p._on_message(p, content, [])


def test_the_page_tells_which_files_were_added_and_removed(make, sent):
    p = make(input_files=["b/1", "b/2"])
    seen: list[object] = []
    p.observe(lambda change: seen.append(change["new"]), "files")
    added = [{"file": "b/3", "data_id": "three"}]
    new = ["b/2", *added]
    message(
        p,
        cts="files",
        base=digest_of(["b/1", "b/2"]),
        digest=digest_of(new),
        removed=[key_of("b/1")],
        added=added,
    )
    assert seen == [["b/2", "b/3"]]
    assert p.spec["input_files"] == new
    assert p._digest == digest_of(new)
    assert sent == []


def test_all_files_are_asked_for_where_a_change_does_not_fit(make, sent):
    p = make(input_files=["b/1"])
    new = ["b/8", "b/9"]
    message(
        p, cts="files", base=digest_of(["b/8"]), digest=digest_of(new), removed=[], added=["b/9"]
    )
    assert p.files == ["b/1"]
    assert sent == [({"cts": "files?"}, None)]
    message(p, cts="files", base=digest_of([]), digest=digest_of(new), removed=[], added=new)
    assert p.files == new


def test_ten_thousand_files_are_a_digest_until_they_are_asked_for(make, sent):
    paths = [f"b/{n}" for n in range(10_000)]
    p = make()
    p.files = paths
    assert p._digest.startswith("10000:")
    assert len(json.dumps(p.get_state())) < 3_000
    message(p, cts="files?")
    assert sent == [({"cts": "files", "files": paths}, None)]


def test_digests_are_those_of_the_page():
    table = json.loads((ROOT / "labextension" / "tests" / "digests.json").read_text())
    assert [digest_of(entries) for entries, _ in table] == [digest for _, digest in table]


def test_a_job_of_the_page_is_the_notebooks_and_the_other_way(make, session, monkeypatch):
    accepted = SimpleNamespace(id="job-1")
    monkeypatch.setattr(panel_module.Job, "accepted", lambda given, job_id: accepted)
    p = make()
    from_page(p, _job_id="job-1")
    assert p.job is accepted
    p.job = None
    assert p._job_id == ""
    p.job = SimpleNamespace(id="job-2")
    assert p._job_id == "job-2"


def test_keys_of_pages_are_others_once_there_is_a_job(make, monkeypatch):
    monkeypatch.setattr(panel_module.Job, "accepted", lambda _, job_id: SimpleNamespace(id=job_id))
    p, other = make(), make()
    seeds = {p._seed, other._seed}
    from_page(p, _job_id="job-1")
    assert len({*seeds, p._seed, ""}) == 4


def test_the_component_is_sent_when_a_page_has_none(make, sent):
    p = make()
    message(p, cts="module?")
    assert sent == [({"cts": "module"}, [b"export const mount = 1"])]


def test_what_travels_with_each_widget_is_small(make):
    static = ROOT / "cts_jupyter" / "widgets" / "static" / "loader.js"
    if static.exists():
        assert static.stat().st_size <= 1_500
    assert make()._instance == "records-1"


def test_an_installation_without_the_panel_says_so(session, tmp_path, monkeypatch):
    monkeypatch.setattr(panel_module, "_STATIC", tmp_path)
    with pytest.raises(PanelError, match="make labextension"):
        Panel(session, {}, by_kernel=False)


def test_a_panel_is_shown_while_the_service_is_away(make, session, monkeypatch):
    def fail(_):
        raise CTSConnectionError("away")

    monkeypatch.setattr(Client, "root", fail)
    assert make()._instance == ""


def test_requests_of_the_page_end_with_the_panel(make, session):
    began, release = threading.Event(), threading.Event()

    def request(*_, **__):
        began.set()
        release.wait(10)

    session.client = SimpleNamespace(request=request, root=Client().root)
    p = make()
    message(p, cts="ask", id="1", method="GET", path="sites")
    assert began.wait(10)
    p.close()
    release.set()
    for thread in threading.enumerate():
        if thread.name == "cts-relay":
            thread.join(10)
    assert p._relay._stops == {}
