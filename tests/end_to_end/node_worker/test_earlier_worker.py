"""A job in HTCondor's queue runs the worker that it was submitted with, also one of an earlier version."""

from __future__ import annotations

import io
import tarfile

import pytest

from cts_core.sites.htcondor.worker_archive import WorkerArchive
from cts_core.sites.worker_code import library_paths
from tests.harness.node_worker import NodeHarness
from tests.harness.paths import VECTORS

LAUNCHER = "cts_core/sites/htcondor/start_worker.sh"
pytestmark = pytest.mark.slow


@pytest.fixture
def earlier() -> WorkerArchive:
    """Return the earlier worker, packed with today's checksum library."""
    packed = io.BytesIO()
    launcher = b""
    with (
        tarfile.open(VECTORS / "earlier" / "worker.tar.gz") as stored,
        tarfile.open(fileobj=packed, mode="w:gz") as archive,
    ):
        for entry in stored:
            content = stored.extractfile(entry)
            if entry.name == LAUNCHER:
                launcher = content.read() if content else b""
            else:
                archive.addfile(entry, content)
        archive.addfile(tarfile.TarInfo("cts_core/__init__.py"))
        for name, path in library_paths():
            archive.add(path, name)
    return WorkerArchive(launcher, packed.getvalue())


async def test_an_earlier_worker_takes_its_job_to_checksummed_outputs(
    node: NodeHarness, earlier: WorkerArchive
):
    node.archive = earlier
    job_id, (token,) = await node.submit("cat /input_files/* >/output_files/both; echo working")

    code, stderr = await node.run(job_id, token)

    assert code == 0, stderr
    job = await node.until(job_id, "complete", "error")
    assert job["state"] == "complete", job
    (output,) = job["outputs"]
    assert output["file"].endswith("/both")
    assert len(output["crc64nvme"]) == 12
    assert await node.log(job_id) == "working\n"
