"""The generated pages of the reference name all that there is."""

import re

import pytest

import cts_jupyter
import cts_reference
from cts_core.config.load import describe_settings
from cts_core.config.settings import PRESETS
from cts_core.errors import ErrorKind
from cts_core.observability.metrics import Metrics
from cts_core.states import TERMINAL, JobState, may_follow
from cts_jupyter.cli.main import build_parser
from cts_jupyter.cli.output import Status
from cts_jupyter.client import models
from cts_jupyter.client.api.admin import AdminEndpoints
from cts_jupyter.client.async_calls import AsyncStream
from cts_jupyter.client.event_stream import EventStream
from cts_jupyter.notebook.magics.magic import COMMANDS
from cts_jupyter.server.http.route import Access
from cts_jupyter.server.routes import refdata_service
from cts_jupyter.server.routes.table import ROUTES
from cts_reference import (
    GENERATORS,
    json_schema,
    markdown,
    metrics,
    python_api,
    replace_blocks,
    root_pages,
)
from tests.harness.paths import DOCS, ROOT

PAGES = [page for page in DOCS.rglob("*.md") if "_build" not in page.parts]


def page(name):
    """The page as it is built."""
    return replace_blocks((DOCS / "reference" / f"{name}.md").read_text())


def test_each_generator_is_used_by_one_page():
    used = [
        name
        for p in PAGES
        for name in re.findall(r"^```\{generated\} (\S+)$", p.read_text(), re.MULTILINE)
    ]
    assert sorted(used) == sorted(GENERATORS)


def test_text_around_a_block_stays(monkeypatch):
    monkeypatch.setattr(cts_reference, "GENERATORS", {"one": lambda: "# A\n"})
    text = "before\n\n```{generated} one\nhow\n\nlines\n```\n\nbetween\n\n```python\nx\n```\n"
    assert replace_blocks(text) == "before\n\n# A\n\nbetween\n\n```python\nx\n```\n"


def test_an_unknown_generator_is_an_error():
    with pytest.raises(KeyError, match="no-such-thing"):
        replace_blocks("```{generated} no-such-thing\n```\n")


def test_settings_names_every_setting_with_its_default_variable_and_meaning():
    sections = dict(
        re.findall(r":::\{confval\} (\S+)\n(.*?)\n:::$", page("settings"), re.DOTALL | re.MULTILINE)
    )
    settings = list(describe_settings())
    assert list(sections) == sorted(sections, key=[name for name, _, _ in settings].index)
    assert len(sections) == len(settings)
    for name, default, meaning in settings:
        spelled = default.lower() if default in ("True", "False") else default
        assert re.search(rf"^:default: `?{re.escape(spelled)}`?(;|$)", sections[name], re.MULTILINE)
        assert re.search(r"^:type: \S", sections[name], re.MULTILINE)
        assert f"Environment variable: `CTS_{name.upper().replace('.', '__')}`" in sections[name]
        assert markdown.escape(meaning)[1:] in sections[name]


def test_settings_has_what_each_preset_changes():
    rows = {
        cells[0]: cells
        for line in GENERATORS["presets"]().splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    header = rows["setting"]
    for preset, changes in PRESETS.items():
        for name, value in changes.items():
            cell = rows[f"{{confval}}`{name}`"][header.index(f"with `{preset.value}`")]
            assert cell == (f"`{value}`" if value else "none")


def test_cli_has_every_command_and_option():
    text = page("cli")
    for words in (
        ["config", "import"],
        ["jobs", "why"],
        ["jobs", "fail"],
        ["adopt"],
        ["sites", "check"],
        ["openapi"],
    ):
        assert f"`cts {' '.join(words)}`" in text
    for line in (
        "--older-than TIME",
        "--secrets FILE",
        "--json",
        "--version",
        "--port=VALUE",
        "--preset=VALUE",
    ):
        assert f":::{{option}} {line}\n" in text
    assert build_parser().epilog[:40] in text


def test_magics_has_every_command_and_option():
    text = page("magics")
    for name, command in COMMANDS.items():
        section = (
            text.partition(f"(magic-{name})=")[2].partition("\n## ")[2].partition("\n(magic-")[0]
        )
        assert section
        for option in re.findall(r"--[a-z][\w-]+", command.parser().format_usage()):
            assert option in section


@pytest.mark.parametrize(
    ("name", "routes"), [("rest-api", ROUTES), ("rest-api-refdata", refdata_service.ROUTES)]
)
def test_rest_api_has_every_route_and_each_model_that_it_links_to(name, routes):
    text = page(name)
    for route in routes:
        assert f"### `{route.method} {route.path}`\n" in text
    linked = set(re.findall(r"\]\(#([\w-]+-model-\w+)\)", text))
    assert linked <= set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


def test_rest_api_says_who_may_use_a_route():
    text = page("rest-api")
    access = dict(re.findall(r"^### `(\S+ \S+)`\n\n[^\n]*\n\nFor (.*)\.$", text, re.MULTILINE))
    assert access["GET /health"] == "anyone"
    assert access["POST /jobs"] == "any user"
    assert access["GET /admin/jobs"] == "users with the role `CTS admin`"
    assert len(access) == len(ROUTES)
    workers = {f"{r.method} {r.path}" for r in ROUTES if r.access is Access.WORKER}
    assert workers == {name for name, who in access.items() if "worker of the container" in who}


@pytest.mark.parametrize("name", ["rest-api", "rest-api-refdata"])
def test_each_role_of_a_route_is_explained(name):
    used = {
        name
        for who in re.findall(r"^For .*$", page(name), re.MULTILINE)
        for name in re.findall("`(.+?)`", who)
    }
    assert used <= set(
        re.findall(r"^\| `(.+?)` \|", page("rest-api").partition("## Errors")[0], re.MULTILINE)
    )


def test_cli_has_every_exit_status():
    statuses = set(re.findall(r"^\| (\d) \|", page("cli"), re.MULTILINE))
    assert statuses == {str(status.value) for status in Status} | {"2"}


def test_errors_has_every_kind_with_its_meaning():
    rows = GENERATORS["errors"]().splitlines()[2:]
    assert len(rows) == len(ErrorKind)
    for row, kind in zip(rows, ErrorKind, strict=True):
        appcode, apperror, status, meaning = (cell.strip() for cell in row.strip("|").split(" | "))
        assert appcode == (f"`{kind.appcode}`" if kind.appcode is not None else "none")
        assert apperror == (kind.apperror or "none")
        assert status == str(kind.status)
        assert meaning


async def test_metrics_has_all_that_are_scraped_and_all_that_alerts_watch():
    described = {m.name: m for m in metrics.find_metrics()}
    scraped = (await Metrics(preset="embedded", group="").text(None, {})).decode()
    types = dict(re.findall(r"^# TYPE (cts_\w+) (\w+)$", scraped, re.MULTILINE))
    for name, kind in types.items():
        assert described[name].type == ("info" if name == "cts_info" else kind)
    assert 'cts_info{group="",preset="embedded",version="' in scraped
    assert set(described["cts_info"].labels) == {"group", "preset", "version"}
    assert described["cts_jobs"].labels == ("site", "state")
    assert described["cts_call_errors_total"].labels == ("port", "method", "kind")
    watched = re.findall(r"\bcts_\w+", (ROOT / "deploy" / "alerts.yml").read_text())
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in watched} <= set(described)


def test_states_has_every_state_and_transition():
    rows = GENERATORS["states"]().splitlines()[2:]
    for row, state in zip(rows, JobState, strict=True):
        name, _, after = (cell.strip() for cell in row.strip("|").split("|"))
        assert name == f"`{state.value}`"
        expected = [s.value for s in JobState if may_follow(state, s)]
        assert re.findall(r"`(\w+)`", after) == expected
        assert bool(expected) == (state not in TERMINAL)


def test_the_drawing_of_states_has_a_box_each_and_every_step():
    drawing = GENERATORS["state-diagram"]()
    assert drawing.count("<rect") == len(JobState)
    drawn = [
        (a, b)
        for a in JobState
        for b in JobState
        if may_follow(a, b) and b not in (JobState.ERROR, JobState.CANCELING)
    ]
    assert drawing.count('class="arrow"') == len(drawn) + 1


def test_python_api_has_every_public_name():
    text = page("python-api")
    documented = re.findall(r"^\.\. auto\w+:: (\S+)$", text, re.MULTILINE)
    public = [f"cts_jupyter.{name}" for name in cts_jupyter.__all__ if name != "__version__"]
    assert set(public) <= set(documented)
    assert len(documented) == len(set(documented))
    kinds = dict(re.findall(r"^\.\. auto(\w+):: cts_jupyter\.(\w+)$", text, re.MULTILINE))
    assert set(kinds) == {"function", "class", "exception"}


def test_python_api_has_what_the_client_returns_and_takes():
    expected = {models.JobDetails, AdminEndpoints, AsyncStream, EventStream}
    assert expected <= set(python_api.find_client_types())


def test_a_constructor_is_shown_of_the_clients_alone():
    def shown(name):
        return python_api.hide_constructor(None, "class", name, None, None, "(x)", "") is None

    assert shown("cts_jupyter.CTSClient")
    assert shown("cts_jupyter.AsyncClient")
    assert not shown("cts_jupyter.Job")


def test_pages_of_notebooks_are_the_notebooks():
    text = GENERATORS["quickstart"]()
    assert "```ipython\n%load_ext cts_jupyter\n%cts whoami\n```" in text
    assert not text.startswith("# ")


def test_pages_of_the_root_lead_to_the_same_places(monkeypatch, tmp_path):
    (tmp_path / "A.md").write_text(
        "# A\n\n[b](docs/how-to/b.md#c) [c](CHANGELOG.md) [d](deploy/d.yml) [e](https://e.org/f) [g](#h)\n"
    )
    monkeypatch.setattr(root_pages, "ROOT", tmp_path)
    assert root_pages.describe("A.md").strip() == (
        "[b](../how-to/b.md#c) [c](changelog.md) [d](../../deploy/d.yml) [e](https://e.org/f) [g](#h)"
    )


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 1000}, "integer, at least 1, at most 1,000"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, above 0"),
        ({"enum": ["a", "b"]}, "`a` or `b`"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Job"}}, "list of `Job`"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
        ({"type": "string", "format": "path"}, "path"),
        (
            {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]},
            "date and time",
        ),
        ({"type": "string", "pattern": "a|b"}, "text, matching `a|b`"),
        ({}, "any JSON"),
    ],
)
def test_type_name(schema, text):
    assert json_schema.type_name(schema) == text


def test_markdown_escapes_what_is_no_code():
    assert markdown.escape("a <b> *c* `d*` {e}\nf_g") == r"a \<b\> \*c\* `d*` \{e\} f\_g"
    assert markdown.code("a`b") == "``a`b``"


def test_a_table_keeps_its_columns_whatever_its_cells_hold():
    assert markdown.table(["a", "b"], [["x|y", "`p|q`"]]).splitlines()[-1] == r"| x\|y | `p\|q` |"
