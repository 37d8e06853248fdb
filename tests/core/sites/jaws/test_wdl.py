"""The workflow of a job: what it has programs see, and that it is legal for every job."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sprocket_bio.grammar import SupportedVersion
from sprocket_bio.grammar.grammar import document
from sprocket_bio.grammar.version import V1

from cts_core.errors import UnsupportedError
from cts_core.images.names import parse_image_name
from cts_core.model.image import JobImage
from cts_core.model.job import JobInput
from cts_core.object_paths import ObjectPath
from cts_core.plan import plan_job
from cts_core.sites.jaws.results import read_outputs
from cts_core.sites.jaws.wdl import NOT_PLACED, RunFiles, make_run, quote, workflow_name
from tests.harness.factories import NOON, make_image
from tests.harness.jaws_vectors import RUNS
from tests.harness.paths import PROGRAMS
from tests.simulators.cromwell import Bind, Cromwell, Execution, Sandbox, bind_inputs, load

by_case = pytest.mark.parametrize("case", RUNS["cases"], ids=lambda case: case["name"])


def _parts(case: dict[str, Any]) -> tuple[JobInput, JobImage]:
    image = JobImage.model_validate({"registered_on": NOON, **case["image"]})
    return JobInput.model_validate(case["job_input"]), image


def _make(case: dict[str, Any]) -> RunFiles:
    job, image = _parts(case)
    plans = plan_job(job, image)
    return make_run(job, image, plans, cache=case["cache_dir"], refdata=case["refdata_relative"])


def _write(run: RunFiles, folder: Path) -> Path:
    path = folder / "input.wdl"
    path.write_text(run.wdl)
    return path


def _check_with_miniwdl(run: RunFiles, folder: Path) -> None:
    bind_inputs(load(_write(run, folder)), json.loads(run.inputs))


def _parse_with_sprocket(run: RunFiles) -> None:
    _, diagnostics = document(run.wdl, fallback_version=SupportedVersion.V1(V1.ZERO))
    assert not diagnostics


@by_case
def test_manifests_and_files_are_those_of_the_vectors(case: dict[str, Any], tmp_path: Path):
    run = _make(case)
    assert run == _make(case)
    assert run.manifests == case["manifests"]
    (files,) = (value for key, value in json.loads(run.inputs).items() if key.endswith(".files"))
    named = {path for paths in files for path in paths}
    assert named == {*case["files"].values(), *case["manifests"]}
    _check_with_miniwdl(run, tmp_path)
    _parse_with_sprocket(run)


def _execute(
    run: RunFiles,
    folder: Path,
    contents: dict[str, str],
    *,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Execution:
    """Run the workflow; ``contents`` are those of its inputs by path, and ``environment`` is what the image has besides."""

    def find_input(path: str) -> Path:
        place = folder / "staged" / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(contents[path])
        return place

    (folder / "staged/pscratch").mkdir(parents=True, exist_ok=True)
    probe = {"/cts/probe": PROGRAMS / "jaws_probe.py"}
    sandbox = Sandbox(probe, {"SEEN": "seen.json", **(environment or {})})
    cromwell = Cromwell(folder / "executions", sandbox, find_input, **options)
    return cromwell.run(_write(run, folder), json.loads(run.inputs))


@pytest.mark.slow
@by_case
def test_each_container_sees_what_it_has_to(case: dict[str, Any], tmp_path: Path):
    _check_containers(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "habit",
    [{"makes_folders": False}, {"localization": "soft link"}, {"localization": "copy"}],
    ids=str,
)
def test_containers_see_the_same_whatever_habits_jaws_has(habit: dict[str, Any], tmp_path: Path):
    (case,) = (case for case in RUNS["cases"] if case["name"] == "declobber one container")
    _check_containers(case, tmp_path, **habit)


def _check_containers(case: dict[str, Any], tmp_path: Path, **habit: Any) -> None:
    run, runtime = _make(case), case["runtime"]
    cached = {path: f"content {path.rpartition('/')[2]}" for path in case["files"].values()}
    refdata, mounts = runtime["refdata"], [runtime["input_mount"], runtime["output_mount"]]
    if refdata is not None:
        folder = tmp_path / "refdata" / refdata[0]
        folder.mkdir(parents=True)
        (folder / "db.txt").write_text("reference")
        mounts.append(refdata[1])
    execution = _execute(
        run,
        tmp_path,
        cached | case["manifests"],
        environment={"MOUNTS": ":".join(mounts)},
        refdata=tmp_path / "refdata",
        shared=[Bind(tmp_path / "staged/pscratch", "/pscratch")],
        **habit,
    )
    assert execution.outputs is not None, [shard.read("stderr") for shard in execution.shards]
    names = {key.rpartition(".")[2]: value for key, value in execution.outputs.items()}
    for shard, expected in zip(execution.shards, case["containers"], strict=True):
        paths = names["output_files"][shard.number]
        outputs = sorted(path.rpartition("__output__/")[2] for path in paths)
        seen = json.loads(shard.read("seen.json"))
        assert {**seen, "outputs": outputs} == {**expected, "stdin": ""}
        assert shard.read("stdout") == "probe says hello\nEntrypoint exit code: 0\n"
        declobber = f"/{shard.number}" if case["job_input"]["params"].get("declobber") else ""
        dynamic = {"dynamic_refdata": ":".join(refdata)} if refdata else {}
        assert shard.runtime == {
            "docker": runtime["docker"],
            "runtime_minutes": runtime["runtime_minutes"],
            "memory": f"{runtime['memory_bytes']} B",
            "cpu": runtime["cpu"],
            "dynamic_input": f"__input__:{runtime['input_mount']}",
            "dynamic_output": f"__output__{declobber}:{runtime['output_mount']}",
            **dynamic,
        }


def _simple(tmp_path: Path, **changes: Any) -> tuple[RunFiles, dict[str, str]]:
    case = RUNS["cases"][0]
    job, image = _parts(case)
    image = image.model_copy(update=changes)
    run = make_run(job, image, plan_job(job, image), cache=case["cache_dir"], refdata=None)
    return run, dict.fromkeys(case["files"].values(), "x")


@pytest.mark.slow
def test_exit_code_is_that_of_the_program(tmp_path: Path):
    run, contents = _simple(tmp_path, entrypoint=["/bin/sh", "-c", "echo a\necho b >&2; exit 7"])
    (shard,) = _execute(run, tmp_path, contents).shards
    assert (shard.code, shard.outputs) == (7, None)
    assert (shard.read("stdout"), shard.read("stderr")) == ("a\nEntrypoint exit code: 7\n", "b\n")


_BASHS = [
    *("BASH", "BASHOPTS", "BASHPID", "BASH_ARGC", "BASH_ARGV", "BASH_ENV", "BASH_LINENO", "BASH_VERSINFO", "CDPATH", "COLUMNS"),
    *("DIRSTACK", "ENV", "EPOCHSECONDS", "EUID", "FUNCNAME", "GLOBIGNORE", "GROUPS", "HOME", "HOSTNAME", "IFS", "LANG"),
    *("LD_LIBRARY_PATH", "LINENO", "OLDPWD", "OPTIND", "PATH", "PIPESTATUS", "POSIXLY_CORRECT", "PPID", "PWD", "RANDOM"),
    *("REPLY", "SECONDS", "SHELL", "SHELLOPTS", "SHLVL", "SRANDOM", "TMPDIR", "UID", "_"),
]  # fmt: skip
"""Variables that bash sets, counts up, keeps from being set, or does as they say."""
_SCRIPTS = ("code", "file", "files", "folder", "i", "place", "places", "words", "environment")
"""Variables that the script of the task may have."""


@pytest.mark.slow
def test_environment_reaches_the_program_as_it_is_and_the_script_not_at_all(tmp_path: Path):
    case = RUNS["cases"][0]
    job, image = _parts(case)
    given = {name: f"/opt/{name}" for name in _BASHS}
    of_image = {name: f"image's {name}" for name in _SCRIPTS}
    image = image.model_copy(update={"entrypoint": ["/usr/bin/env", "-0"]})
    params = job.params.model_copy(update={"environment": given, "args": None})
    job = job.model_copy(update={"params": params})
    run = make_run(job, image, plan_job(job, image), cache=case["cache_dir"], refdata=None)
    contents = dict.fromkeys(case["files"].values(), "x")
    (shard,) = _execute(run, tmp_path, contents, environment=of_image).shards
    assert (shard.code, shard.read("stderr"), shard.message) == (0, "", None)
    told, _, rest = shard.read("stdout").rpartition("\0")
    assert rest == "Entrypoint exit code: 0\n"
    seen = dict(variable.split("=", 1) for variable in told.split("\0"))
    assert seen == {"SEEN": "seen.json", **of_image, **given}


@pytest.mark.slow
def test_program_is_found_by_the_path_of_the_job(tmp_path: Path):
    case = RUNS["cases"][0]
    job, image = _parts(case)
    image = image.model_copy(update={"entrypoint": ["probe"]})
    params = job.params.model_copy(update={"environment": {"PATH": "/cts"}, "args": None})
    job = job.model_copy(update={"params": params})
    run = make_run(job, image, plan_job(job, image), cache=case["cache_dir"], refdata=None)
    contents = dict.fromkeys(case["files"].values(), "x")
    mounts = f"{job.params.input_mount_point}:{job.params.output_mount_point}"
    execution = _execute(run, tmp_path, contents, environment={"MOUNTS": mounts})
    (shard,) = execution.shards
    assert (shard.code, shard.read("stderr")) == (0, "")
    assert len(shard.read("output_files.txt").splitlines()) == 3


def test_program_that_would_be_taken_for_a_variable_is_refused(tmp_path: Path):
    with pytest.raises(UnsupportedError, match="'/opt/a=b/tool': JAWS cannot run a program with ="):
        _simple(tmp_path, entrypoint=["/opt/a=b/tool", "x"])
    _simple(tmp_path, entrypoint=["/opt/tool", "a=b"])


@pytest.mark.slow
def test_outputs_whose_names_have_control_characters_are_told(tmp_path: Path):
    script = "cd __output__; mkdir sub; touch ok 'a b' $'a\\tb' $'sub/x\\ny' $'\\x7f'"
    run, contents = _simple(tmp_path, entrypoint=["/bin/bash", "-c", script])
    execution = _execute(run, tmp_path, contents)
    (shard,) = execution.shards
    assert (shard.code, shard.read("stderr"), shard.message) == (0, "", None)
    assert execution.outputs is not None
    outputs = read_outputs(json.dumps(execution.outputs))
    assert sorted(outputs.files[0]) == ["a b", "ok"]
    (listed,) = outputs.unstored
    names = (execution.folder / listed).read_text().split("\0")[:-1]
    assert {n.removeprefix("./__output__/") for n in names} == {"a\tb", "sub/x\ny", "\x7f"}


@pytest.mark.slow
def test_input_that_cannot_be_placed_fails_the_container_before_its_program(tmp_path: Path):
    run, contents = _simple(tmp_path)
    inputs = json.loads(run.inputs)
    # The script of the task, a file, is in the place of a folder.
    inputs["ghcr_io_kbase_tool.places"] = [["../script/x"]]
    run = RunFiles(run.wdl, json.dumps(inputs), run.manifests, run.key)
    (shard,) = _execute(run, tmp_path, contents).shards
    assert (shard.code, shard.read("seen.json"), shard.outputs) == (NOT_PLACED, "", None)
    assert "the program was not run" in shard.read("stderr")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("ghcr.io/kbase/tool", "ghcr_io_kbase_tool"),
        ("registry.example.org:5000/a-b/c.d", "registry_example_org_5000_a_b_c_d"),
        ("127.0.0.1:5000/x", "image_127_0_0_1_5000_x"),
    ],
)
def test_workflow_has_the_name_of_its_image(image: str, name: str):
    assert workflow_name(image) == name


def test_long_names_of_images_stay_apart_and_fit_a_folder():
    names = {workflow_name(f"ghcr.io/{'x' * 300}/{end}") for end in "ab"}
    assert len(names) == 2
    assert max(map(len, names)) < 200


def test_names_that_only_look_alike_run_by_the_same_name_with_their_own_image():
    # The name is for people and for the cache of calls; the runtime says what runs.
    assert workflow_name("a.b/c-d") == workflow_name("a-b/c.d")


@given(st.lists(st.text(st.characters(min_codepoint=1, codec="utf-8")), max_size=5))
@settings(max_examples=30, deadline=None)
def test_quoted_words_are_words_of_bash(words: list[str]):
    quoted = " ".join(map(quote, words))
    assert "\n" not in quoted
    script = f'words=({quoted}); [ ${{#words[@]}} -eq 0 ] || printf "%s\\0" "${{words[@]}}"'
    answer = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert answer.decode().split("\0")[:-1] == words


_KEYS = st.text(st.characters(codec="utf-8", exclude_characters="';,"), min_size=1, max_size=40)
_MOUNTS = st.from_regex(
    r"/([a-z.-][a-zA-Z0-9é_.-]{1,9}/){0,2}[a-z][a-zA-Z0-9é_.-]{0,9}", fullmatch=True
).filter(lambda mount: ".." not in mount.split("/"))
_IMAGES = st.from_regex(
    # What is before the first slash is a registry if there is a dot in it.
    r"([a-z0-9]{1,9}\.[a-z]{1,5}(:[1-9][0-9]{0,3})?/)?([a-z0-9]{1,9}[_/-]){0,3}[a-z0-9]{1,9}(\.[a-z0-9]{1,9})?", fullmatch=True
)  # fmt: skip


@st.composite
def _jobs(draw: st.DrawFn) -> tuple[JobInput, JobImage]:
    keys = draw(st.lists(_KEYS, min_size=1, max_size=4, unique=True))
    files = []
    for key in keys:
        try:
            files.append({"file": ObjectPath(f"bucket/{key}"), "crc64nvme": "AAECAwQFBgc="})
        except ValueError:
            continue
    image = make_image(
        name=parse_image_name(draw(_IMAGES)).name,
        entrypoint=draw(
            st.lists(st.text(st.characters(min_codepoint=1, codec="utf-8")), min_size=1).filter(
                lambda words: "=" not in words[0]
            )
        ),
    )
    job = JobInput.model_validate(
        {
            "cluster": "perlmutter-jaws",
            "image": "x",
            "params": {
                "input_mount_point": f"/in{draw(_MOUNTS)}",
                "output_mount_point": f"/out{draw(_MOUNTS)}",
                "declobber": draw(st.booleans()),
                "args": [{"type": "input_files", "input_files_format": "space_separated_list"}],
                "environment": {"N": {"type": "container_number"}},
            },
            "num_containers": draw(st.integers(1, len(files) or 1)),
            "cpus": draw(st.integers(1, 256)),
            "memory": draw(st.integers(1_000_000, 990_000_000_000)),
            "runtime": timedelta(seconds=draw(st.integers(1, 100_000))),
            "input_roots": [""],
            "output_dir": "bucket/out",
            "input_files": files or [{"file": "bucket/x", "crc64nvme": "AAECAwQFBgc="}],
        }
    )
    return job, image.for_job()


@pytest.mark.slow
@given(_jobs())
@settings(max_examples=60, deadline=None)
def test_workflow_of_any_job_is_legal(tmp_path_factory, made: tuple[JobInput, JobImage]):
    job, image = made
    run = make_run(job, image, plan_job(job, image), cache="/cache", refdata=None)
    _check_with_miniwdl(run, tmp_path_factory.mktemp("wdl"))
    _parse_with_sprocket(run)


def test_workflow_does_not_grow_with_the_files():
    case = RUNS["cases"][0]
    job, image = _parts(case)
    files = [{"file": f"cts-data/in/{n}.fa", "crc64nvme": "AAECAwQFBgc="} for n in range(10_000)]
    many = {"type": "input_files", "input_files_format": "space_separated_list"}
    params = {**case["job_input"]["params"], "args": [many]}
    changed = {**case["job_input"], "input_files": files, "num_containers": 1000, "params": params}
    job = JobInput.model_validate(changed)
    run = make_run(job, image, plan_job(job, image), cache=case["cache_dir"], refdata=None)
    assert run.wdl == _make(case).wdl
    (words,) = (value for key, value in json.loads(run.inputs).items() if key.endswith(".words"))
    assert (len(words), len(words[0])) == (1000, 11)
