"""Tests of the local site with its objects on S3: where the keys are, and what happens while S3 is unavailable."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.states import JobState
from cts_core.worker.s3.credentials import S3Keys
from tests.harness.sites import SiteHarness, local_harness, make_local_site, opened
from tests.services.server import free_port

S = JobState
SECRET = "a-secret-for-workers-alone"


def _harness(folder: Path, *, keys: S3Keys | None = None) -> SiteHarness:
    keys = keys or S3Keys(f"http://127.0.0.1:{free_port()}", "us-east-1", "key", SECRET)
    harness = local_harness(folder)
    harness.make_site = lambda: make_local_site(folder, keys=keys)
    harness.site = harness.make_site()
    return harness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[SiteHarness]:
    """A site whose S3 server is not running."""
    harness = _harness(tmp_path)
    async with opened(harness):
        yield harness


def _processes_of(home: Path) -> list[Path]:
    """Return the ``/proc`` folders of the fork server and the workers on this home."""
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(home).encode() in (process / "environ").read_bytes() or any(
                str(fd.readlink()).startswith(str(home)) for fd in (process / "fd").iterdir()
            ):
                processes.append(process)
        except OSError:
            continue
    return [
        process for process in processes if b"__main__.py" in (process / "cmdline").read_bytes()
    ]


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
    exposed = [
        (process / name).read_bytes() for process in processes for name in ("environ", "cmdline")
    ]
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"data/in/0.txt" in text for text in written), "the plan is among them"
    assert not any(SECRET.encode() in text for text in (*exposed, *written))
    await harness.cancel_and_wait(job)


async def test_job_can_be_canceled_while_s3_is_unavailable(harness: SiteHarness) -> None:
    job = await harness.start("true")
    await harness.poll()
    await harness.cancel_and_wait(job)
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.CANCELED


async def test_job_can_be_canceled_while_s3_is_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        harness = _harness(tmp_path, keys=S3Keys(url, "us-east-1", "key", SECRET, timeout=600))
        async with opened(harness):
            job = await harness.start("true")
            await harness.poll()
            # The worker waits for its input.
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                await harness.cancel_and_wait(job)
                (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.CANCELED


async def test_container_fails_when_the_server_has_no_keys(tmp_path: Path) -> None:
    harness = _harness(tmp_path)
    await harness.site.open(harness.on_change)
    job = harness.job("true")
    # As when objects were moved from S3 to a folder, and the server was restarted, while the job waited.
    harness.site._launcher._server._keys = None
    await harness.hand_over(job)
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.ERROR
    assert "to which this server has no keys" in (report.outcome.error or "")
    await harness.site.close()
