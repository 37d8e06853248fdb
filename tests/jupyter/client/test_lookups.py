"""Lookups at services that lack what newer ones have."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

from cts_jupyter.client.lookups import find_why
from cts_jupyter.client.models import Container, Fix, JobDetails, S3File
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
