"""Whole jobs at both sites of JAWS: what is submitted at NERSC is run, and its outputs are on a real object store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cts_core.engine.outcome import NON_ZERO_EXIT
from cts_core.model.site import SiteName
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from cts_jupyter.examples import fasta_stats
from cts_jupyter.examples.example import DATA, examples_folder
from tests.harness.factories import make_image, packed
from tests.harness.jaws_site import LAWRENCIUM, PERLMUTTER, JAWSServer, JAWSWorld
from tests.harness.paths import ROOT
from tests.services.s3 import S3Server
from tests.simulators.cromwell import Bind, Sandbox
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
PYTHON = str(Path(sys.executable).resolve())
GENOMES = {path.name: path.read_bytes() for path in (examples_folder() / DATA).iterdir()}


@pytest.fixture
def world(
    jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> JAWSWorld:
    world = JAWSWorld.hurried(jaws_sites, minio, tmp_path, monkeypatch)
    minio.put({f"data/in/{name}": name.encode() for name in NAMES})
    minio.put({f"data/in/{name}": content for name, content in GENOMES.items()})
    minio.put({"data/ref/db.tar.gz": packed(**{"db.txt": REFERENCE})})
    return world


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


async def _submit_quickstart(server: JAWSServer, cluster: SiteName) -> str:
    """Submit the job of the quickstart, whose tool is an image here."""
    image = make_image(name="ghcr.io/kbase/fasta-stats", entrypoint=[PYTHON, fasta_stats.__file__])
    await server.harness.engine._store.add_image(image)
    table = {
        "type": "container_number",
        "container_num_prefix": "/output_files/stats_",
        "container_num_suffix": ".tsv",
    }
    files = {"type": "input_files", "input_files_format": "space_separated_list"}
    return await server.submit(
        sorted(GENOMES),
        cluster=cluster.value,
        image=f"{image.name}:latest",
        num_containers=3,
        params={"args": [table, files]},
        output_dir="data/out/stats",
    )


@pytest.mark.parametrize("cluster", [PERLMUTTER, LAWRENCIUM], ids=str)
async def test_quickstart_and_jobs_of_fifty_containers(world: JAWSWorld, cluster: SiteName):
    programs = [Bind(Path(folder), folder) for folder in (sys.base_prefix, str(ROOT))]
    world.sites.containers = Sandbox(folders=programs)
    async with world.server(PERLMUTTER, LAWRENCIUM) as server:
        engine, user = server.harness.engine, server.harness.user
        await server.wait_until_available()
        path = "data/ref/db.tar.gz"
        refdata = (await engine.refdata.register(user, path, crc64nvme=None, unpack=True)).id
        await server.wait_until_staged(refdata)
        await server.register(SCRIPT, refdata_id=refdata, default_refdata_mount_point="/ref")
        succeeds = await _submit(server, cluster, "none", "data/out/all")
        fails = await _submit(server, cluster, "7", "data/out/some")
        quickstart = await _submit_quickstart(server, cluster)
        stats = await server.harness.wait_until_ended(quickstart)
        complete = await server.harness.wait_until_ended(succeeds)
        failed = await server.harness.wait_until_ended(fails)
        codes = await engine.jobs.exit_codes(user, fails)
    assert stats.state is JobState.COMPLETE, stats.error
    tables = [world.minio.read(f"data/out/stats/stats_{n}.tsv").decode() for n in range(3)]
    assert sorted(line.split("\t")[0] for table in tables for line in table.splitlines()[1:]) == (
        sorted(GENOMES)
    )
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
    assert len(world.sites.jaws.runs) == 3
