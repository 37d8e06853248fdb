"""A home folder that an earlier version left goes on under today's: its records, objects, logs and queued jobs."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cts_core.identity.identity import User
from cts_core.identity.jupyter import OWNER_ROLES
from cts_core.objects.store import ChecksumState
from cts_core.sites.site import LogStream
from cts_core.states import JobState
from tests.harness.engine import running_engine
from tests.harness.paths import VECTORS

JOBS = {
    "complete": "4194c901-344b-4f54-b217-bf7b5adcde9c",
    "failed": "204c8e9e-7826-49d2-b452-de238544198c",
    "running": "e75f6f54-b2d1-46de-9f1e-3563ca62a0dd",
    "queued": "5ac9d9eb-eb19-4f30-9e3e-339e3b45b710",
}
"""The jobs in the folder, by what they were doing when their server was killed."""
MADE_IN = "/tmp/gen"
GOOD = "RguJ5chLHDM="
"""The checksum of the bytes ``good``."""
pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the folder, unpacked here as if it had always been here."""
    # Checksums are bound to times in nanoseconds, which tarfile rounds.
    archive = VECTORS / "earlier" / "home.tar.gz"
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    for plan in (tmp_path / "home" / "local").rglob("*.json"):
        plan.write_text(plan.read_text().replace(MADE_IN, str(tmp_path)))
    with closing(sqlite3.connect(tmp_path / "home" / "records.sqlite")) as records, records:
        for table, column in (("images", "image"), ("jobs", "image")):
            records.execute(
                f"update {table} set {column} = replace({column}, ?, ?)", (MADE_IN, str(tmp_path))
            )
    return tmp_path / "home"


async def test_an_earlier_home_goes_on(home: Path):
    async with running_engine(home, {}) as harness:
        harness.user = User("root", OWNER_ROLES)
        jobs = {name: await harness.wait_until_ended(job_id) for name, job_id in JOBS.items()}

        assert jobs["complete"].state is JobState.COMPLETE
        assert [output.crc64nvme for output in jobs["complete"].outputs or []] == [GOOD]
        assert jobs["failed"].state is JobState.ERROR
        assert jobs["running"].state is JobState.ERROR, "its worker is gone"
        assert jobs["queued"].state is JobState.COMPLETE, jobs["queued"].error
        assert await harness.read("data/out/queued/later.txt.out") == b"later"
        assert {job.user for job in jobs.values()} == {"root"}
        page = await harness.engine.files.list(harness.user, "data/out/done/")
        stored = page.objects
        assert [(one.crc64nvme, one.checksum) for one in stored] == [(GOOD, ChecksumState.STORED)]
        log = await harness.engine.logs.open(harness.user, JOBS["failed"], 0, LogStream.STDOUT)
        assert b"working on" in b"".join([piece async for piece in log.body])
