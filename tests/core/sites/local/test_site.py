"""Tests that are specific to the local site: lost workers, broken workers, its own limits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.errors import (
    ConfigError,
    IllegalParameterError,
    ImageFetchError,
    ResourceUnavailableError,
    UnsupportedError,
)
from cts_core.identity.identity import User
from cts_core.sites.local import launcher
from cts_core.sites.local.launcher import Launcher
from cts_core.states import JobState as S
from cts_core.worker.container_folder import CLAIM, ContainerFolder
from cts_core.worker.files import remove_tree
from tests.harness.factories import make_image
from tests.harness.sites import SiteHarness, local_harness, make_local_site, opened
from tests.harness.worker import eventually, is_alive

pytestmark = pytest.mark.slow

ANA = User("ana")
WAIT = 'while [ ! -e "$GATE" ]; do sleep 0.02; done'
linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere leftovers are not found"
)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[SiteHarness]:
    harness = local_harness(tmp_path)
    async with opened(harness):
        yield harness


def _container(tmp_path: Path, job_id: str, number: int = 0) -> ContainerFolder:
    return ContainerFolder(str(tmp_path / "local" / "jobs" / job_id / str(number)))


def _worker(tmp_path: Path, job_id: str, number: int = 0) -> int:
    pid = _container(tmp_path, job_id, number).read_claim()["pid"]
    assert isinstance(pid, int)
    return pid


async def test_killed_worker_is_reported_at_once_and_its_container_never_runs_again(
    harness: SiteHarness, tmp_path: Path
) -> None:
    job = await harness.start(
        f'echo x >> "$RAN"; {WAIT}',
        params={"environment": {"GATE": str(tmp_path / "gate"), "RAN": str(tmp_path / "ran")}},
    )
    await harness.until(job, S.JOB_SUBMITTED)
    # It is reported before the program has come to its first line.
    await asyncio.to_thread(eventually, (tmp_path / "ran").exists)
    harness.changed.clear()
    os.kill(_worker(tmp_path, job.id), signal.SIGKILL)
    async with asyncio.timeout(30):
        await harness.changed.wait()
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.ERROR
    assert report.outcome.error is not None
    assert "worker of this container ended before" in report.outcome.error
    assert "never runs a container twice" in report.outcome.error
    await harness.hand_over(job)
    for _ in range(3):
        await harness.poll()
    assert (tmp_path / "ran").read_text() == "x\n"
    assert await harness.site.cancel(job.id)


async def test_reboot_is_distinguished_from_a_killed_worker(
    harness: SiteHarness, tmp_path: Path
) -> None:
    job = await harness.start(
        f'echo x >> "$RAN"; {WAIT}',
        params={"environment": {"GATE": str(tmp_path / "gate"), "RAN": str(tmp_path / "ran")}},
    )
    await harness.until(job, S.JOB_SUBMITTED)
    # Until then its death would not yet be bound to that of its worker, and nothing looks for it after a reboot.
    await asyncio.to_thread(eventually, (tmp_path / "ran").exists)
    claim = Path(_container(tmp_path, job.id).file(CLAIM))
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "boot_id": "the boot before"}))
    os.kill(_worker(tmp_path, job.id), signal.SIGKILL)
    (report,) = (await harness.until(job)).values()
    assert report.outcome.error is not None
    assert report.outcome.error.startswith("The machine was restarted")


@linux_only
async def test_lost_container_leaves_nothing_behind(harness: SiteHarness, tmp_path: Path) -> None:
    job = await harness.start(
        'setsid sleep 60 & echo $! > "$PIDS.new"; mv "$PIDS.new" "$PIDS"; wait',
        params={"environment": {"PIDS": str(tmp_path / "pids")}},
    )
    async with asyncio.timeout(60):
        while not (tmp_path / "pids").exists():
            await harness.poll()
            await asyncio.sleep(0.02)
    os.kill(_worker(tmp_path, job.id), signal.SIGKILL)
    await harness.until(job)
    pid = int((tmp_path / "pids").read_text())
    container = _container(tmp_path, job.id)
    # The poll that reports it may be the one before that which cleans up.
    async with asyncio.timeout(60):
        while any(Path(container.file(name)).exists() for name in ("in", "out", "tmp")):
            await harness.poll()
            await asyncio.sleep(0.02)
    await asyncio.to_thread(eventually, lambda: not is_alive(pid))


async def test_job_whose_folder_is_gone_is_an_error(harness: SiteHarness, tmp_path: Path) -> None:
    job = await harness.start("true", num_containers=2)
    await harness.until(job)
    remove_tree(str(tmp_path / "local" / "jobs" / job.id))
    answer = await harness.ask({job.id: [S.JOB_SUBMITTED, S.COMPLETE]})
    (report,) = answer[job.id]
    assert report.steps[-1].state is S.ERROR
    assert report.outcome.error is not None
    assert "folder" in report.outcome.error


async def test_worker_that_dies_before_its_claim_is_replaced(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(launcher, "BACKOFF_SECONDS", 0.05)
    monkeypatch.setenv("CTS_FAILPOINTS", "claim:before=kill")
    harness = local_harness(tmp_path)
    await harness.site.open(harness.on_change)
    job = await harness.start("true")
    await harness.poll()
    async with asyncio.timeout(30):
        await harness.changed.wait()
    await harness.site.close()
    monkeypatch.delenv("CTS_FAILPOINTS")
    harness.site = harness.make_site()
    await harness.site.open(harness.on_change)
    await harness.until(job)
    assert harness.states[job.id] == [S.COMPLETE]
    await harness.site.close()


async def test_worker_that_never_claims_is_given_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(launcher, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(launcher, "TRIES", 3)
    monkeypatch.setenv("CTS_FAILPOINTS", "claim:before=kill")
    harness = local_harness(tmp_path)
    await harness.site.open(harness.on_change)
    job = await harness.start("true")
    (report,) = (await harness.until(job)).values()
    assert [step.state for step in report.steps] == [S.ERROR]
    assert report.outcome.error == "CTS could not start its worker for this container."
    assert report.outcome.admin_error is not None
    assert report.outcome.admin_error.startswith("3 workers ended without a claim")
    await harness.site.close()


async def test_killed_fork_server_is_replaced(harness: SiteHarness) -> None:
    first = await harness.start("true")
    await harness.until(first)
    process = harness.site._launcher._server._process  # type: ignore[attr-defined]
    process.kill()
    second = await harness.start("true")
    await harness.until(second)
    assert harness.states[second.id] == [S.COMPLETE]


async def test_close_stops_the_fork_server_but_no_worker(tmp_path: Path) -> None:
    harness = local_harness(tmp_path)
    await harness.site.open(harness.on_change)
    job = await harness.start(WAIT, params={"environment": {"GATE": str(tmp_path / "gate")}})
    await harness.until(job, S.JOB_SUBMITTED)
    process = harness.site._launcher._server._process  # type: ignore[attr-defined]
    await harness.site.close()
    assert process.returncode == 0
    assert not _container(tmp_path, job.id).is_lost()
    (tmp_path / "gate").touch()
    await asyncio.to_thread(eventually, _container(tmp_path, job.id).is_ended)


async def test_no_secret_of_the_server_reaches_worker_or_program(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", "s3cret")
    harness = local_harness(tmp_path)
    await harness.site.open(harness.on_change)
    job = await harness.start(
        f'env > "$OUT"; {WAIT}',
        params={"environment": {"OUT": str(tmp_path / "env"), "GATE": str(tmp_path / "gate")}},
    )
    await harness.until(job, S.JOB_SUBMITTED)
    if sys.platform.startswith("linux"):
        environ = Path(f"/proc/{_worker(tmp_path, job.id)}/environ").read_bytes()
        assert b"s3cret" not in environ
    (tmp_path / "gate").touch()
    await harness.until(job)
    assert "s3cret" not in (tmp_path / "env").read_text()
    await harness.site.close()


async def test_next_container_starts_without_a_poll(harness: SiteHarness, tmp_path: Path) -> None:
    job = await harness.start("true", num_containers=6)
    await harness.poll()
    containers = [_container(tmp_path, job.id, number) for number in range(6)]
    await asyncio.to_thread(eventually, lambda: all(c.is_ended() for c in containers))
    await harness.until(job)
    assert harness.states[job.id] == [S.COMPLETE] * 6


async def test_requested_cpus_bound_how_many_run(tmp_path: Path) -> None:
    harness = local_harness(tmp_path, cpus=3)
    await harness.site.open(harness.on_change)
    lines = tmp_path / "lines"
    job = await harness.start(
        # The first wait until three have run at once, so that a busy machine changes nothing.
        'echo + >> "$LINES"; while [ "$(grep -c + "$LINES")" -lt 3 ]; do sleep 0.02; done; '
        'sleep 0.1; echo - >> "$LINES"',
        params={"environment": {"LINES": str(lines)}},
        num_containers=8,
        cpus=1,
    )
    await harness.until(job)
    most = now = 0
    for line in lines.read_text().split():
        now += 1 if line == "+" else -1
        most = max(most, now)
    assert most == 3
    await harness.site.close()


async def test_home_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "local").touch()
    site = make_local_site(tmp_path)
    with pytest.raises(ConfigError, match="cannot be used"):
        await site.open(lambda _: None)
    await site.close()


async def test_folder_that_cannot_be_written(harness: SiteHarness, tmp_path: Path) -> None:
    job = harness.job("true")
    (tmp_path / "local" / "jobs" / job.id).touch()
    with pytest.raises(ResourceUnavailableError, match="cannot be written"):
        await harness.hand_over(job)


async def test_preflight_refuses(harness: SiteHarness) -> None:
    job = harness.job("true")
    preflight = harness.site.preflight
    with pytest.raises(UnsupportedError, match="host/<name>"):
        await preflight(ANA, job.job_input, make_image(name="docker.io/a/b").for_job())
    changed = job.image.model_copy(update={"digest": "sha256:" + "0" * 64})
    with pytest.raises(ImageFetchError, match="changed"):
        await preflight(ANA, job.job_input, changed)
    big = job.job_input.model_copy(update={"memory": 3_000_000_000})
    with pytest.raises(IllegalParameterError, match="memory"):
        await preflight(ANA, big, job.image)


async def test_warns_that_programs_are_not_isolated(harness: SiteHarness) -> None:
    job = harness.job("true")
    warnings = await harness.site.preflight(ANA, job.job_input, job.image)
    assert "isolates nothing" in warnings[0]
    assert "isolates nothing" in (await harness.site.describe()).notes[0]


async def test_notes_limits_that_are_not_enforced_on_other_systems(
    harness: SiteHarness, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "own group only" in (await harness.site.describe()).notes[1]


def test_attempts_are_forgotten_once_claimed(tmp_path: Path) -> None:
    starter = Launcher(tmp_path)
    folder = tmp_path / "0"
    folder.mkdir()
    container = ContainerFolder(str(folder))
    starter._attempts["job", 0] = launcher._Attempt(container)
    starter.forget_claimed()
    assert starter._attempts
    container.claim()
    starter.forget_claimed()
    assert not starter._attempts
    starter.close()


async def test_output_that_was_not_stored_is_a_warning(harness: SiteHarness) -> None:
    job = await harness.start("echo x > made; ln -s made link")
    (report,) = (await harness.until(job)).values()
    assert report.outcome.warnings == ["Not stored, for they are links or no regular files: link"]
