"""The local site with its objects on S3: where the keys are, and what happens while the server is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.states import JobState
from cts_core.worker.s3.credentials import S3Keys
from tests.harness.sites import SiteHarness, local_harness, make_local_site, opened
from tests.services.server import free_port

S = JobState
SECRET = "a-secret-for-workers-alone"


def _ground(folder: Path, *, secret: str = SECRET) -> SiteHarness:
    keys = S3Keys(f"http://127.0.0.1:{free_port()}", "us-east-1", "key", secret)
    harness = local_harness(folder)
    harness.make_site = lambda: make_local_site(folder, keys=keys)
    harness.site = harness.make_site()
    return harness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[SiteHarness]:
    """A site whose S3 server is not there."""
    harness = _ground(tmp_path)
    async with opened(harness):
        yield harness


def _processes_of(home: Path) -> list[Path]:
    """The fork server and the workers on this home."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(home).encode() in (process / "environ").read_bytes() or any(
                str(fd.readlink()).startswith(str(home)) for fd in (process / "fd").iterdir()
            ):
                found.append(process)
        except OSError:
            continue
    return [process for process in found if b"__main__.py" in (process / "cmdline").read_bytes()]


async def test_keys_are_in_no_file_no_argument_and_no_environment(
    harness: SiteHarness, tmp_path: Path
) -> None:
    job = await harness.start("true")
    async with asyncio.timeout(60):
        while not (claims := list((tmp_path / "local").glob("jobs/*/0/claim.json"))):
            await harness.poll()
            await asyncio.sleep(0.02)
    assert claims
    processes = _processes_of(tmp_path)
    assert len(processes) == 2, "the fork server and one worker"
    told = [
        (process / name).read_bytes() for process in processes for name in ("environ", "cmdline")
    ]
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"data/in/0.txt" in text for text in written), "the plan is among them"
    assert not any(SECRET.encode() in text for text in (*told, *written))
    await harness.canceled(job)


async def test_a_job_that_waits_for_its_server_can_be_canceled(harness: SiteHarness) -> None:
    job = await harness.start("true")
    await harness.poll()
    await harness.canceled(job)
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.CANCELED


async def test_a_server_that_has_no_keys_says_so(tmp_path: Path) -> None:
    harness = _ground(tmp_path)
    await harness.site.open(harness.on_change)
    job = harness.job("true")
    # As when objects were moved from S3 to a folder, and the server started again, while it waited.
    harness.site._spawner._server._keys = None
    await harness.hand_over(job)
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.ERROR
    assert "to which this server has no keys" in (report.outcome.error or "")
    await harness.site.close()
