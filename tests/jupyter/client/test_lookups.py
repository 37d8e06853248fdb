"""Lookups of many files, and those at services that lack what newer ones have."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cts_jupyter.client.lookups import find_family, find_files, find_why
from cts_jupyter.client.models import (
    Container,
    Fix,
    JobDetails,
    ObjectPage,
    S3File,
    StoredObject,
)
from cts_jupyter.client.transport import CTSRequestError

STREAMED = {"stdout": b"out", "stderr": b"first line\nb.txt is damaged\n"}


class OldClient:
    """A client of a service that knows containers, and not why a job failed."""

    def why(self, job_id):
        raise CTSRequestError("Not Found", status=404, appcode=40000)

    def supports(self, method, path, parameter=None):
        return False

    def stream_log(self, job_id, number, stream, **where):
        assert (job_id, number) == ("j", 1)
        yield STREAMED[stream]


def test_client_finds_out_why_a_job_failed_where_the_service_does_not_say():
    job_input = SimpleNamespace(
        memory=1_000_000_000, runtime=timedelta(hours=1), cpus=1, params={"args": ["x"], "new": 1}
    )
    job = JobDetails.model_construct(id="j", state="error", error="e", job_input=job_input)
    files = {
        n: [S3File(file=f"data/in/{name}") for name in names]
        for n, names in enumerate((["c.txt"], ["a.txt", "b.txt"]))
    }
    containers = [
        Container.model_construct(number=0, state="complete", exit_code=0, error=None, inputs=files[0]),
        Container.model_construct(number=1, state="error", exit_code=4, error=None, inputs=files[1]),
    ]  # fmt: skip
    found = find_why(OldClient(), job, containers)
    (reason,) = found.reasons
    assert (reason.containers, reason.exit_code) == ([1], 4)
    assert reason.inputs == ["data/in/b.txt", "data/in/a.txt"]
    assert reason.stderr == "first line\nb.txt is damaged"
    assert found.fix == Fix(failed=True, refresh_inputs=True)


class Refusing:
    """A client whose service refuses to tell the outputs of a family."""

    def __init__(self, status, appcode=None):
        self.error = CTSRequestError("no", status=status, appcode=appcode)

    def outputs(self, job_id, *, family, limit):
        raise self.error


def test_family_is_unknown_where_the_service_cannot_tell():
    assert find_family(Refusing(404, 40000), "j") is None, "an older service"
    assert find_family(Refusing(400, 30001), "j") is None, "too many jobs"
    with pytest.raises(CTSRequestError):
        find_family(Refusing(500), "j")


class Folder:
    """A client that lists the objects of one folder, a page at a time."""

    def __init__(self, names, page=1000):
        self.paths = sorted(f"data/f/{name}" for name in names)
        self.page = page
        self.requests = 0

    def files(self, prefix, *, after="", limit=1000, folders=False):
        self.requests += 1
        size = min(limit, self.page)
        listed = [path for path in self.paths if path.startswith(prefix) and path > after]
        return ObjectPage.model_construct(
            objects=[StoredObject.model_construct(path=path) for path in listed[:size]],
            next=listed[size - 1] if len(listed) > size else None,
        )


NAMES = st.sets(st.text("a0.", min_size=1, max_size=3), max_size=12)


@given(there=NAMES, wanted=NAMES, page=st.integers(1, 5))
@example(there={"a", "b", "ba", "bb", "bc"}, wanted={"bc"}, page=2)
def test_files_are_found_wherever_pages_end(there, wanted, page):
    paths = {f"data/f/{name}" for name in wanted}
    folder = Folder(there, page)
    found = find_files(folder, "data/f/", paths)
    assert {path: file.path for path, file in found.items()} == {
        path: path for path in paths.intersection(folder.paths)
    }
    assert folder.requests <= 2 * len(paths)


def test_files_beside_each_other_are_found_by_pages():
    names = [f"genome_{number:04d}.fna" for number in range(2000)]
    folder = Folder([*names, *(f"z{number}" for number in range(5000))])
    assert len(find_files(folder, "data/f/", [f"data/f/{name}" for name in names])) == 2000
    assert folder.requests == 2
