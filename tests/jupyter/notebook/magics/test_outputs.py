"""The objects of a job's outputs, at a store that leaves out of listings what lies below another object."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from cts_jupyter.client.models import JobOutput, JobOutputs, ObjectPage, StoredObject
from cts_jupyter.notebook.magics.outputs import as_stored, family_notes, has_family


class HidingClient:
    """A client of a service whose store lists nothing below an object, and finds it by its key."""

    def __init__(self, *paths: str) -> None:
        self._paths = paths
        self.asked: list[str] = []

    def job(self, job_id: str) -> Any:
        return SimpleNamespace(job_input=SimpleNamespace(output_dir="data/out/"))

    def _is_hidden(self, path: str) -> bool:
        return any(path.startswith(f"{other}/") for other in self._paths)

    def iter_files(self, prefix: str) -> Iterator[StoredObject]:
        listed = (path for path in self._paths if path.startswith(prefix))
        return (_object(path) for path in listed if not self._is_hidden(path))

    def files(self, prefix: str, *, limit: int) -> ObjectPage:
        self.asked.append(prefix)
        listed = [*self.iter_files(prefix)]
        if not listed and prefix in self._paths:
            listed = [_object(prefix)]
        return ObjectPage(objects=listed[:limit])


def _object(path: str) -> StoredObject:
    return StoredObject(
        path=path,
        size=1,
        etag="e",
        content_type="text/plain",
        modified=datetime(2026, 3, 4, tzinfo=UTC),
        checksum="stored",
    )


def _stored(client: HidingClient, *names: str) -> tuple[list[str], list[str]]:
    outputs = [JobOutput(file=f"data/out/{name}", job_id="j") for name in names]
    context: Any = SimpleNamespace(client=client)
    there, gone = as_stored(context, outputs)
    return [file.path for file in there], gone


def test_an_output_that_no_listing_has_is_not_gone():
    client = HidingClient("data/out/a", "data/out/x", "data/out/x/deep/y")
    assert _stored(client, "a", "x/deep/y", "x/deep/z", "b") == (
        ["data/out/a", "data/out/x/deep/y"],
        ["data/out/x/deep/z", "data/out/b"],
    )


def test_outputs_that_are_gone_cost_a_question_for_each_folder():
    client = HidingClient("data/in/a")
    names = [f"f/{number}" for number in range(100)]
    assert _stored(client, *names) == ([], [f"data/out/{name}" for name in names])
    assert sorted(client.asked) == ["data/out", "data/out/f"]


@pytest.mark.slow
def test_outputs_of_one_name_of_several_jobs_get_a_folder_a_job(shell, inputs, place):
    asked = "--memory 50MB --runtime 1m"
    jobs = [
        shell(
            f"%cts submit host/tool -i {inputs} --output-dir {place}{out}/ {asked} -- ok /output_files/o"
        ).wait(60)
        for out in ("one", "two")
    ]
    shell.names["jobs"] = jobs
    for count in ("2 files downloaded", "0 files downloaded, 2 there already"):
        ran = shell.run("%cts get $jobs got/")
        assert [path.as_posix() for path in ran.value] == [f"got/{j.id[:8]}/o" for j in jobs]
        assert "each job's are in a folder with its id" in ran.out
        assert count in ran.out
    assert [path.as_posix() for path in shell(f"%cts get {jobs[0].id} one/")] == ["one/o"]


@pytest.mark.slow
def test_outputs_of_a_resubmission_are_kept_apart_from_those_of_other_inputs(
    shell, inputs, place, tmp_path
):
    first = shell(
        f"%cts submit host/tool -i {inputs} -n 3 --env NUMBER=<n> --output-dir {place}out/ --memory 50MB --runtime 1m "
        "-- fail o_<n>.txt <files>"
    ).wait(60)
    short, out = first.id[:8], f"{place}out/"
    said = shell.refusal(f"%cts resubmit {short} --failed --output-dir {out}")
    assert "leave --output-dir out for a fresh folder" in said
    assert "--overwrite" not in said
    said = shell.refusal(f"%cts resubmit {short} --failed --output-dir {out} --overwrite")
    assert "would replace outputs that job" in said
    said = shell.refusal(first.as_yaml())
    assert "You submitted the same" in said
    assert "choose another output_dir, or add --overwrite to the first line" in said
    # Container 0 of it has number 0, which does not fail.
    again = shell(f"%cts resubmit {short} --failed").wait(60)
    ran = shell.run(f"%cts files {short} --family")
    assert f"Of job {short}: 2 outputs in {out}" in repr(ran.value)
    assert f"Of job {again.id[:8]}: 1 output in {place}out-2/" in repr(ran.value)
    shell(f"%cts get {short} got/")
    said = shell.refusal(f"%cts get {again.id[:8]} got/")
    assert "--overwrite" not in said
    remedies = re.findall(r"%cts get \S+ (?:--family )?\S+/(?= has)", said)
    assert len(remedies) == 2
    for remedy in remedies:
        shell(remedy)
    found = {
        path.relative_to(tmp_path / "got").as_posix()
        for path in (tmp_path / "got").rglob("*")
        if path.is_file()
    }
    ids = (
        f"{again.id[:8]}/o_0.txt",
        "o_0.txt",
        "o_2.txt",
        "out/o_0.txt",
        "out/o_2.txt",
        "out-2/o_0.txt",
    )
    assert found == set(ids)


class FamilyClient(HidingClient):
    """The service of a family of jobs."""

    def __init__(self, **family: Any) -> None:
        super().__init__()
        self.family = family

    def outputs(self, job_id: str, *, family: bool, limit: int) -> JobOutputs:
        return JobOutputs(outputs=[], **self.family)


@pytest.mark.parametrize(
    ("jobs", "inputs", "said"),
    [
        (1, 1, ["1 input is still to be done: this job has not completed it"]),
        (2, 1, ["1 input is still to be done: none of these jobs has completed it"]),
        (2, 2000, ["2,000 inputs are still to be done: none of these jobs has completed them"]),
        (2, 0, []),
    ],
)
def test_inputs_that_a_family_has_not_completed_are_counted(jobs, inputs, said):
    client = FamilyClient(jobs=[f"job{n}" for n in range(jobs)], open_inputs=inputs)
    job: Any = SimpleNamespace(id="job0")
    assert list(family_notes(SimpleNamespace(client=client), job, [])) == said


def test_lost_outputs_of_a_family_are_named():
    lost = [JobOutput(file="data/out/o0", job_id="first", container=0)]
    client = FamilyClient(jobs=["first", "again"], open_inputs=2, replaced=lost)
    context: Any = SimpleNamespace(client=client)
    job: Any = SimpleNamespace(id="again")
    outputs = [JobOutput(file=f"data/out/o{n}", job_id="again") for n in range(2)]
    assert list(family_notes(context, job, outputs)) == [
        "Of job again: 2 outputs in data/out/",
        "2 inputs are still to be done: none of these jobs has completed them",
        "Replaced by outputs that a later job has of other inputs, and lost: data/out/o0 (container 0 of job first)",
    ]
    assert has_family(context, "again")
