"""Whole jobs at both sites of JAWS: what is submitted at NERSC is run, and its outputs are on a real object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from cts_core.engine.outcome import NON_ZERO_EXIT
from cts_core.model.site import SiteName
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import packed
from tests.harness.jaws_hurry import hurry
from tests.harness.jaws_site import LAWRENCIUM, PERLMUTTER, JAWSServer, JAWSWorld
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites

__all__ = ["jaws_sites"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONTAINERS = 50
NAMES = [f"{number % 7}/f {number}.txt" for number in range(2 * CONTAINERS)]
SCRIPT = """
while read -r file; do cat "$file" /ref/db.txt; done < "$1" > "/output_files/sum of $N.txt"
[ "$N" != "$FAILS" ] || { echo "no $N" >&2; exit 3; }
"""
REFERENCE = b"reference\n"


@pytest.fixture
def world(
    jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> JAWSWorld:
    hurry(monkeypatch)
    minio.empty()
    minio.put({f"data/in/{name}": name.encode() for name in NAMES})
    minio.put({"data/ref/db.tar.gz": packed(**{"db.txt": REFERENCE})})
    return JAWSWorld(jaws_sites, minio, tmp_path)


async def _submit(server: JAWSServer, cluster: SiteName, fails: str, output_dir: str) -> str:
    params = {
        "args": [{"type": "manifest_file", "manifest_file_format": "files"}],
        "environment": {"N": {"type": "container_number"}, "FAILS": fails},
        "declobber": True,
    }
    return await server.submit(
        NAMES,
        cluster=cluster.value,
        num_containers=CONTAINERS,
        params=params,
        input_roots=["data/in"],
        output_dir=output_dir,
    )


@pytest.mark.parametrize("cluster", [PERLMUTTER, LAWRENCIUM], ids=str)
async def test_job_of_fifty_containers(world: JAWSWorld, cluster: SiteName):
    async with world.server(PERLMUTTER, LAWRENCIUM) as server:
        engine, user = server.harness.engine, server.harness.user
        await server.wait_until_available()
        path = "data/ref/db.tar.gz"
        refdata = (await engine.refdata.register(user, path, crc64nvme=None, unpack=True)).id
        await server.wait_until_staged(refdata)
        await server.register(SCRIPT, refdata_id=refdata, default_refdata_mount_point="/ref")
        succeeds = await _submit(server, cluster, "none", "data/out/all")
        fails = await _submit(server, cluster, "7", "data/out/some")
        complete = await server.harness.wait_until_ended(succeeds)
        failed = await server.harness.wait_until_ended(fails)
        codes = await engine.jobs.exit_codes(user, fails)
    assert complete.state is JobState.COMPLETE, complete.error
    expected = {}
    for number in range(CONTAINERS):
        names = [name for index, name in enumerate(NAMES) if index // 2 == number]
        text = b"".join(name.encode() + REFERENCE for name in names)
        expected[f"data/out/all/{number}/sum of {number}.txt"] = text
    assert {output.file: output.crc64nvme for output in complete.outputs or ()} == {
        path: crc64nvme_text(text) for path, text in expected.items()
    }
    some = f"data/out/all/{CONTAINERS - 1}/sum of {CONTAINERS - 1}.txt"
    assert world.minio.read(some) == expected[some]
    assert (failed.state, failed.error) == (JobState.ERROR, NON_ZERO_EXIT)
    assert codes.exit_codes == [3 if number == 7 else None for number in range(CONTAINERS)]
    assert world.minio.read(f"{failed.logpath}/container-7-stderr.txt") == b"no 7\n"
    assert {run.site for run in world.sites.jaws.runs.values()} == {
        {PERLMUTTER: "kbase", LAWRENCIUM: "jgi"}[cluster]
    }
    assert len(world.sites.jaws.runs) == 2
