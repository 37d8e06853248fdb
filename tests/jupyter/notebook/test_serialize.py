"""Every serialized job is parsed to the same job."""

from __future__ import annotations

import ast
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cts_core.model.job import MAX_RUNTIME, JobInput, Submission
from cts_core.plan import plan_job
from cts_jupyter.notebook.magics.command import split_arguments
from cts_jupyter.notebook.magics.expansion import Namespace, expand_words, split_words
from cts_jupyter.notebook.magics.inputs import SourceKind, in_one_form, read_tsv
from cts_jupyter.notebook.magics.magic import COMMANDS
from cts_jupyter.notebook.magics.submission import (
    PartialSubmission,
    submission_from_options,
    submission_from_yaml,
)
from cts_jupyter.notebook.magics.yaml_cell import load_cell
from cts_jupyter.notebook.serialize import SerializeError, as_line, as_python, as_yaml
from tests.harness.arguments import argument_lists, text
from tests.harness.factories import make_image
from tests.harness.paths import ROOT

pytestmark = pytest.mark.slow

NOTHING = Namespace({})
MAX_SECONDS = int(MAX_RUNTIME.total_seconds())
printable = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="';/"),
    min_size=1,
    max_size=12,
)
key = st.lists(printable.filter(str.strip), min_size=1, max_size=3).map("/".join)
path = st.builds(lambda key: f"data/{key}", key)
crc = st.none() | st.just("ikLs7sFMNGo=")


@st.composite
def input_files(draw):
    paths = draw(st.lists(path, min_size=1, max_size=6, unique=True))
    if draw(st.booleans()):
        return paths
    ids = draw(st.booleans())
    return [
        {"file": path}
        | {
            k: v
            for k, v in {
                "crc64nvme": draw(crc),
                "data_id": draw(printable) if ids else None,
            }.items()
            if v
        }
        for path in paths
    ]


@st.composite
def submissions(draw):
    files = draw(input_files())
    has_ids = isinstance(files[0], dict) and "data_id" in files[0]
    params = {"args": draw(st.none() | argument_lists())}
    params |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "input_mount_point": st.just("/in"),
                "output_mount_point": st.just("/out/put"),
                "refdata_mount_point": st.just("/ref"),
                "declobber": st.booleans(),
                "environment": st.dictionaries(
                    st.sampled_from(["A", "B_1", "_C"]), text, max_size=3
                ),
            },
        )
    )
    body = {
        "cluster": draw(st.sampled_from(["local", "kbase"])),
        "image": draw(st.sampled_from(["host/tool", "ghcr.io/a/b:1.2@sha256:" + "0" * 64])),
        "input_files": files,
        "output_dir": draw(path),
        "params": params,
        "memory": draw(st.integers(1_000_000, 990_000_000_000) | st.just(40_000_000_000)),
        "runtime": draw(
            st.integers(1, MAX_SECONDS) | st.floats(1, MAX_SECONDS).map(lambda x: round(x, 3))
        ),
        "num_containers": draw(st.integers(1, len(files))),
        "cpus": draw(st.integers(1, 256)),
        "labels": draw(st.dictionaries(st.sampled_from(["a", "b.c"]), printable, max_size=2)),
    }
    roots = draw(st.none() | st.lists(path | st.just(""), max_size=2))
    if roots is not None:
        body["input_roots"] = roots
    manifests = [a for a in params["args"] or [] if isinstance(a, dict)]
    if not has_ids and any(a.get("manifest_file_format") == "data_ids" for a in manifests):
        params["args"] = []
    submission = Submission.model_validate(body)
    return submission.model_dump(mode="json", exclude_none=True)


def read_line(line: str) -> PartialSubmission:
    """Return the body that ``%cts submit`` makes of a line, without looking up files."""
    magic, command, *words = expand_words(split_words(line), NOTHING)
    assert (magic, command) == ("%cts", "submit")
    own, arguments = split_arguments(words)
    options = COMMANDS["submit"].parser().parse(own)
    (source,) = options.sources
    files = read_tsv(Path(source.values[0])) if source.kind is SourceKind.TSV else source.values
    return submission_from_options(options, in_one_form(files), arguments)


def whole(body) -> Submission:
    return Submission.model_validate({"params": {}, **body})


def plans(job: JobInput):
    return plan_job(job, make_image())


@given(submissions())
def test_yaml_round_trips(body):
    cell = as_yaml(body)
    magic, _, text = cell.partition("\n")
    assert magic == "%%cts submit"
    draft = submission_from_yaml(load_cell(text, NOTHING))
    _equal(whole(draft.body), whole(body))
    assert draft.notes == []


@pytest.mark.parametrize(("service", "person"), [("PT1H30M", "1h30m"), ("P1W", "P1W")])
def test_runtime_is_a_brief_duration(service, person):
    body = {"image": "a", "input_files": ["b/c"], "output_dir": "b/o/", "params": {}}
    body |= {"runtime": service}
    assert f"--runtime {person}" in as_line(body)
    assert f"runtime: {person}\n" in as_yaml(body)
    assert f"runtime='{service}'" in as_python(body)


@given(submissions())
def test_python_round_trips(body):
    module = ast.parse(as_python(body))
    call = module.body[-1].value
    fields = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    _equal(whole(fields), whole(body))


def _equal(again: Submission, wanted: Submission) -> None:
    # Files without a checksum or an id may be written as plain paths.
    assert again.model_dump(exclude={"input_files"}) == wanted.model_dump(exclude={"input_files"})
    assert again.files == wanted.files


def _same(read: PartialSubmission, body) -> None:
    again, wanted = whole(read.body), whole(body)
    ignored = {"params", "input_files", "input_roots"}
    assert again.model_dump(exclude=ignored) == wanted.model_dump(exclude=ignored)
    assert again.files == wanted.files
    # A flag before a file parameter becomes a word of its own, which makes no difference to containers.
    assert plans(again) == plans(wanted)
    assert read.notes == []


def _collides(body) -> bool:
    try:
        plans(whole(body))
    except Exception:  # noqa: BLE001 - whatever it is, such a job cannot be
        return True
    return False


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(submissions().filter(lambda body: not _collides(body)))
def test_line_with_tsv_round_trips(body):
    with tempfile.TemporaryDirectory() as folder:
        _same(read_line(as_line(body, tsv=Path(folder) / "in $1 {x}.tsv")), body)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(submissions().filter(lambda body: not _collides(body)))
def test_line_round_trips(body):
    files = [{"file": file} if isinstance(file, str) else file for file in body["input_files"]]
    if any("data_id" in file for file in files):
        with pytest.raises(SerializeError, match="as_yaml"):
            as_line(body)
        return
    # A line names files by their paths; their checksums are looked up again.
    plain = body | {"input_files": [file["file"] for file in files]}
    _same(read_line(as_line(body)), plain)


def test_data_id_with_a_line_break_needs_yaml(tmp_path):
    body = {"image": "a", "params": {}, "output_dir": "data/o"}
    body["input_files"] = [{"file": "data/x", "data_id": "a\nb"}]
    with pytest.raises(SerializeError, match="use as_yaml"):
        as_line(body, tsv=tmp_path / "in.tsv")
    assert not (tmp_path / "in.tsv").exists()


def test_folder_as_input_needs_tsv():
    with pytest.raises(SerializeError):
        as_line({"image": "a", "params": {}, "input_files": ["data/x/"], "output_dir": "data/o"})


@pytest.mark.parametrize(
    "written", json.loads((ROOT / "labextension" / "tests" / "code.json").read_text())
)
def test_code_of_the_form_submits_what_it_was_made_of(written):
    wanted = Submission.model_validate(written["submission"])
    cell = written["yaml"].removeprefix("%%cts submit\n")
    from_cell = submission_from_yaml(load_cell(cell, NOTHING)).body
    assert Submission.model_validate(from_cell) == wanted
    calls: list[dict] = []
    _, _, call = written["python"].partition("from cts_jupyter import submit\n")
    exec(call, {"submit": lambda **fields: calls.append(fields)})
    assert [Submission.model_validate(fields) for fields in calls] == [wanted]
    sent = written["curl"].split("<<'END'\n")[1].removesuffix("END\n")
    assert Submission.model_validate_json(sent) == wanted
