"""Paths in literal arguments that a container lacks."""

from __future__ import annotations

from typing import Any

import pytest

from cts_core.literals import literal_warnings, parameter_warnings
from cts_core.model.parameters import Parameters
from cts_core.plan import plan_job
from tests.harness.factories import make_image, make_job_record

FILES = [f"data/in/{name}" for name in ("filter.py", "a.fa", "b.fa")]
MANIFEST = {"type": "manifest_file", "manifest_file_format": "files"}


def _warnings(*args: Any, containers: int = 3, **params: Any) -> list[str]:
    job = make_job_record(
        files=[{"file": path} for path in FILES],
        num_containers=containers,
        params={"args": list(args), **params},
    ).job_input
    return literal_warnings(job.params, plan_job(job, make_image().for_job()))


@pytest.mark.parametrize(
    "arg",
    [
        "--quiet",
        "/input_files",
        "/input_files/",
        "/output_files/x.tsv",
        "/usr/share/db",
        "/tmp/x",
        "s/a/b/",
        "/",
    ],
)
def test_no_warning(arg: str) -> None:
    assert _warnings(arg) == []


def test_what_every_container_has_is_no_warning() -> None:
    assert _warnings("/input_files/filter.py", "/input_files/a.fa", containers=1) == []
    assert _warnings("/input_files/manifest-1", MANIFEST, containers=1) == []


@pytest.mark.parametrize(
    "params",
    [
        {"args": ["/input_files/filter.py"]},
        {"environment": {"SCRIPT": "/input_files/filter.py"}},
    ],
)
def test_input_that_only_one_container_has(params: dict[str, Any]) -> None:
    args = params.pop("args", [])
    (warning,) = _warnings(*args, **params)
    assert warning.startswith(
        "/input_files/filter.py is written out, and container 1, 2 of 3 does not have it"
    )


def test_input_that_no_container_has() -> None:
    (warning,) = _warnings("/input_files/typo.fa", "/input_files/typo.fa")
    assert warning.startswith("/input_files/typo.fa is written out, and no input is placed there")


@pytest.mark.parametrize("arg", ["/out", "/out/x.tsv", "/input_files2/a"])
def test_folder_that_is_no_mount(arg: str) -> None:
    (warning,) = _warnings(arg)
    path = arg.partition("=")[2] or arg
    assert warning.startswith(
        f"{path} is below no mount point of this job: inputs are below /input_files"
    )


def test_folder_of_an_input_root() -> None:
    job = make_job_record(
        files=[{"file": path} for path in FILES],
        input_roots=["data"],
        params={"args": ["/input_files/in", "/input_files/in/a.fa"]},
    ).job_input
    assert literal_warnings(job.params, plan_job(job, make_image().for_job())) == []


def test_warnings_are_bounded() -> None:
    warnings = _warnings(*(f"/input_files/none-{number}" for number in range(50)))
    assert len(warnings) == 21
    assert warnings[-1] == "30 more paths are written out that containers lack"


def _parameter_warnings(**params: Any) -> list[str]:
    return parameter_warnings(Parameters.model_validate(params))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"environment": {"X": "1"}},
        {"args": ["-x", {"type": "input_files", "input_files_format": "space_separated_list"}]},
        {"args": ["-x"], "environment": {"LIST": MANIFEST}},
        {"args": ["--in", "/input_files/a.fa"]},
        {"args": ["-x"], "environment": {"IN": "/input_files"}},
        {"args": ["/data"], "input_mount_point": "/data"},
    ],
)
def test_inputs_that_the_program_may_find(params: dict[str, Any]) -> None:
    assert _parameter_warnings(**params) == []


@pytest.mark.parametrize("args", [["-x"], ["out_", {"type": "container_number"}]])
def test_inputs_that_no_argument_names(args: list[Any]) -> None:
    (warning,) = _parameter_warnings(args=args)
    assert "No argument or variable names the input files" in warning
    assert "<files>" in warning


@pytest.mark.parametrize(
    ("path", "meant"),
    [("/output_file/x", "/output_files"), ("/outputfiles", "/output_files"), ("/input_file/a", "/input_files")],
)  # fmt: skip
def test_nearly_a_mount_point(path: str, meant: str) -> None:
    for args in (["/input_files", path], ["/input_files", "--out", path]):
        (warning,) = _parameter_warnings(args=args)
        assert (
            warning == f"{path} is written out, and {meant} is the mount point: did you mean that?"
        )
