"""Jobs at a site of JAWS, from submission to checksummed outputs, on simulators that run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cts_core.engine.outcome import NON_ZERO_EXIT
from cts_core.model.refdata import ReferenceDataState
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import packed
from tests.harness.jaws_site import COPY, LAWRENCIUM, PERLMUTTER, JAWSWorld, hurry
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites

__all__ = ["jaws_sites"]
pytestmark = pytest.mark.slow


@pytest.fixture
def world(
    jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> JAWSWorld:
    hurry(monkeypatch)
    minio.empty()
    minio.put({f"data/in/{name}": name.encode() for name in "abcd"})
    return JAWSWorld(jaws_sites, minio, tmp_path)


async def test_job_ends_with_checksummed_outputs(world: JAWSWorld):
    async with world.server() as server:
        await server.register(COPY)
        job_id = await server.submit(["a", "b", "c"], num_containers=2)
        job = await server.harness.wait_until_ended(job_id)
    assert job.state is JobState.COMPLETE, job.error
    assert {(o.file, o.crc64nvme) for o in job.outputs or ()} == {
        (f"data/out/{name}", crc64nvme_text(name.encode())) for name in "abc"
    }


async def test_failed_containers_have_their_codes_and_logs(world: JAWSWorld):
    async with world.server() as server:
        await server.register(f'{COPY}; echo "no $N" >&2; exit $N')
        job_id = await server.submit(
            ["a", "b", "c"],
            num_containers=3,
            params={"environment": {"N": {"type": "container_number"}}},
        )
        job = await server.harness.wait_until_ended(job_id)
        codes = await server.harness.engine.jobs.exit_codes(server.harness.user, job_id)
    assert job.state is JobState.ERROR
    assert job.error == NON_ZERO_EXIT
    assert codes.exit_codes == [None, 1, 2]
    assert job.logpath == f"logs/cts/{job_id}"
    assert world.minio.read(f"{job.logpath}/container-2-stderr.txt") == b"no 2\n"


async def test_reference_data_is_staged_at_both_sites(world: JAWSWorld):
    world.minio.put({"data/ref/db.tar.gz": packed(**{"x.txt": b"abc"})})
    async with world.server(PERLMUTTER, LAWRENCIUM) as server:
        engine, user = server.harness.engine, server.harness.user
        await server.wait_until_available()
        path = "data/ref/db.tar.gz"
        refdata = (await engine.refdata.register(user, path, crc64nvme=None, unpack=True)).id
        found = await server.wait_until_staged(refdata)
        complete = ReferenceDataState.COMPLETE
        assert {s.cluster: s.state for s in found.statuses} == {
            PERLMUTTER: complete,
            LAWRENCIUM: complete,
        }, found
        staged = found.at(PERLMUTTER)
        assert staged is not None
        assert len(staged.nersc_download_task_id or ()) == 1
        await server.register(
            "cp /ref/x.txt /output_files/", refdata_id=refdata, default_refdata_mount_point="/ref"
        )
        job_id = await server.submit(["a"], cluster=LAWRENCIUM.value)
        job = await server.harness.wait_until_ended(job_id)
    assert job.state is JobState.COMPLETE, job.error
    assert world.minio.read("data/out/x.txt") == b"abc"
