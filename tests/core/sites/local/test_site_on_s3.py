"""The local site with its objects on S3: where the keys are, and what happens while the server is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.states import JobState
from cts_core.worker.s3.credentials import S3Keys
from tests.harness.sites import Ground, local_ground, local_site, opened
from tests.services.server import free_port

S = JobState
SECRET = "a-secret-for-workers-alone"


def _ground(folder: Path, *, secret: str = SECRET) -> Ground:
    keys = S3Keys(f"http://127.0.0.1:{free_port()}", "us-east-1", "key", secret)
    ground = local_ground(folder)
    ground.make_site = lambda: local_site(folder, keys=keys)
    ground.site = ground.make_site()
    return ground


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    """A site whose S3 server is not there."""
    ground = _ground(tmp_path)
    async with opened(ground):
        yield ground


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
    ground: Ground, tmp_path: Path
) -> None:
    job = await ground.start("true")
    async with asyncio.timeout(60):
        while not (claims := list((tmp_path / "local").glob("jobs/*/0/claim.json"))):
            await ground.poll()
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
    await ground.canceled(job)


async def test_a_job_that_waits_for_its_server_can_be_canceled(ground: Ground) -> None:
    job = await ground.start("true")
    await ground.poll()
    await ground.canceled(job)
    (report,) = (await ground.until(job)).values()
    assert report.steps[-1].state is S.CANCELED


async def test_a_server_that_has_no_keys_says_so(tmp_path: Path) -> None:
    ground = _ground(tmp_path)
    await ground.site.open(ground.on_change)
    job = ground.job("true")
    # As when objects were moved from S3 to a folder, and the server started again, while it waited.
    ground.site._spawner._server._keys = None
    await ground.hand_over(job)
    (report,) = (await ground.until(job)).values()
    assert report.steps[-1].state is S.ERROR
    assert "to which this server has no keys" in (report.outcome.error or "")
    await ground.site.close()
