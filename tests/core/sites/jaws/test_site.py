"""Jobs at a site of JAWS, from submission to checksummed outputs, on simulators that run them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cts_core.engine.outcome import NON_ZERO_EXIT
from cts_core.model.job import Job
from cts_core.model.refdata import ReferenceDataState
from cts_core.sites.jaws import commands, steps
from cts_core.sites.jaws.layout import Machine
from cts_core.sites.jaws.sfapi import SFAPI
from cts_core.sites.jaws.site import WAITS_AT_JAWS
from cts_core.states import TERMINAL, JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.engine import TIMEOUT_SECONDS
from tests.harness.factories import packed
from tests.harness.jaws_site import COPY, LAWRENCIUM, PERLMUTTER, JAWSWorld, hurry
from tests.harness.jaws_vectors import LAYOUT
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites
from tests.simulators.server import PreparedResponse

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
        record = await server.record(job_id)
        assert record.jaws_details is not None
        (run_id,) = record.jaws_details.run_id
        assert record.nersc_details is not None
        assert len(record.nersc_details.download_task_id) == 1
        assert len(record.nersc_details.upload_task_id or ()) == 1
        (site,) = server.sites
        assert (await site.runner_status(record, 0))["status"] == "done"
        nersc = world.sites.nersc
        folders = [
            nersc.place(LAYOUT.job(job_id)),
            nersc.place(world.sites.jaws.runs[int(run_id)].output_dir or "").parent,
        ]
        assert all(folder.is_dir() for folder in folders)
        assert not list(nersc.place(LAYOUT.plans()).iterdir())
        await site.clean(job_id)
        assert not any(folder.exists() for folder in folders)
    _check_copies(job, "abc")


def _check_copies(job: Job, names: str) -> None:
    assert job.state is JobState.COMPLETE, job.error
    assert {(o.file, o.crc64nvme) for o in job.outputs or ()} == {
        (f"data/out/{name}", crc64nvme_text(name.encode())) for name in names
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


async def test_helpers_that_are_killed_lose_and_double_nothing(
    world: JAWSWorld, monkeypatch: pytest.MonkeyPatch
):
    kills = {
        "download-1": "download:claimed",
        "submit-1": "submit:before",
        "submit-2": "submit:after",
        "checksums-1": "checksums:done",
        "upload-1": "upload:claimed",
    }
    make_command = commands.helper

    def kill(machine: Machine, code: str, words: Sequence[str], **kwargs: Any) -> str:
        point = kills.get("-".join(words[2:4])) if words[0] == "attempt" else None
        export = f"export CTS_FAILPOINTS={point}=kill\n" if point else ""
        return export + make_command(machine, code, words, **kwargs)

    monkeypatch.setattr(commands, "helper", kill)
    monkeypatch.setattr(steps, "LOST_AFTER", timedelta(seconds=10))
    async with world.server() as server:
        await server.register(COPY)
        job_id = await server.submit(["a", "b"])
        job = await server.harness.wait_until_ended(job_id)
    _check_copies(job, "ab")
    assert len(world.sites.jaws.runs) == 1
    names = {path.name for path in world.sites.nersc.place(LAYOUT.job(job_id)).iterdir()}
    assert {f"{attempt}.claim" for attempt in kills} <= names
    assert not {f"{attempt}.json" for attempt in kills} & names


async def test_restart_after_each_step_repeats_nothing(world: JAWSWorld):
    async with world.server() as server:
        await server.register(COPY)
        job_id = await server.submit(["a", "b", "c"], num_containers=2)
    seen, job = [JobState.CREATED], None
    while job is None:
        async with world.server() as server:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while (state := (await server.record(job_id)).state) is seen[-1]:
                    await asyncio.sleep(0.01)
            seen.append(state)
            if state in TERMINAL:
                job = await server.harness.wait_until_ended(job_id)
    _check_copies(job, "abc")
    assert len(world.sites.jaws.runs) == 1
    assert len(world.sites.executions) == 1
    _check_attempts(world, job_id)


def _check_attempts(world: JAWSWorld, job_id: str) -> None:
    """Check that each step was attempted once."""
    folder = world.sites.nersc.place(LAYOUT.job(job_id))
    assert {path.name for path in folder.glob("*.claim")} == {
        f"{step}-1.claim" for step in ("download", "submit", "checksums", "upload")
    }


async def test_two_servers_and_doubled_commands_make_one_run(
    world: JAWSWorld, monkeypatch: pytest.MonkeyPatch
):
    run = SFAPI.run

    async def run_twice(sfapi: SFAPI, machine: Machine, command: str) -> str:
        if " attempt " in command:
            await run(sfapi, machine, command)
        return await run(sfapi, machine, command)

    monkeypatch.setattr(SFAPI, "run", run_twice)
    async with AsyncExitStack() as stays:
        async with world.server() as leaves:
            other = await stays.enter_async_context(world.server())
            await leaves.register(COPY)
            job_id = await leaves.submit(["a", "b", "c"], num_containers=2)
            await other.wait_until_state(job_id, JobState.JOB_SUBMITTED)
        job = await other.harness.wait_until_ended(job_id)
    _check_copies(job, "abc")
    assert len(world.sites.jaws.runs) == 1
    _check_attempts(world, job_id)


async def test_outages_make_jobs_wait_and_say_until_when(world: JAWSWorld):
    nersc, jaws = world.sites.nersc, world.sites.jaws
    now = datetime.now(UTC)
    outage = {
        "name": "all",
        "start_at": (now - timedelta(hours=1)).isoformat(),
        "end_at": (now + timedelta(days=2)).isoformat(),
        "description": "Maintenance of the file systems",
        "notes": "",
        "status": "Active",
    }
    nersc.statuses["dtns"] = "unavailable"
    nersc.outages["dtns"] = [outage]
    async with world.server() as server:
        await server.register(COPY)
        (described,) = (await server.harness.engine.sites.list()).sites
        until = f"{now + timedelta(days=2):%Y-%m-%d %H:%M} UTC"
        reason = f"NERSC is down until {until}: Maintenance of the file systems"
        assert (described.available, described.unavailable_reason) == (False, reason)
        job_id = await server.submit(["a"])
        await server.wait_for_reason(job_id, f"{reason}. Your job waits and goes on by itself")
        assert (await server.record(job_id)).state is JobState.CREATED
        world.sites.is_held = True
        nersc.statuses["dtns"], nersc.outages["dtns"] = "active", []
        await server.wait_until_state(job_id, JobState.JOB_SUBMITTED)
        # Now both are down, each in its own way.
        nersc.override = PreparedResponse(503, b"<html>busy</html>", "text/html")
        jaws.override = PreparedResponse(500, b"{}")
        world.sites.is_held = False
        await server.wait_for_reason(job_id, "NERSC does not say whether it is up")
        calls = len(nersc.calls)
        await asyncio.sleep(1)
        # It is asked how it is, and for nothing else.
        assert {call.partition(" /api/v1.2/")[2].split("/")[0] for call in nersc.calls[calls:]} <= {
            "status"
        }
        nersc.override = jaws.override = None
        job = await server.harness.wait_until_ended(job_id)
    _check_copies(job, "a")
    assert len(jaws.runs) == 1


async def test_cancel(world: JAWSWorld):
    nersc, jaws = world.sites.nersc, world.sites.jaws
    async with world.server() as server:
        engine, user = server.harness.engine, server.harness.user
        await server.register(COPY)
        await server.wait_until_available()
        # While its inputs wait to be fetched: it is never submitted.
        nersc.is_stuck = True
        job_id = await server.submit(["a"])
        await server.wait_until_state(job_id, JobState.DOWNLOAD_SUBMITTED)
        await engine.jobs.cancel(user, job_id)
        nersc.is_stuck = False
        assert (await server.harness.wait_until_ended(job_id)).state is JobState.CANCELED
        assert not jaws.runs
        # While its run waits: the run is cancelled.
        world.sites.is_held = True
        job_id = await server.submit(["a"])
        await server.wait_until_state(job_id, JobState.JOB_SUBMITTED)
        await server.wait_for_reason(job_id, WAITS_AT_JAWS)
        await engine.jobs.cancel(user, job_id)
        assert (await server.harness.wait_until_ended(job_id)).state is JobState.CANCELED
        ((run_id, run),) = jaws.runs.items()
        assert "cancelled" in run.log
        # By somebody else, at JAWS.
        job_id = await server.submit(["a"])
        await server.wait_until_state(job_id, JobState.JOB_SUBMITTED)
        other = max(jaws.runs)
        assert other != run_id
        await server.facility.central.cancel(str(other))
        job = await server.harness.wait_until_ended(job_id)
        assert (job.state, job.error) == (JobState.ERROR, "The job was unexpectedly canceled")
        # What is over at JAWS needs no cancel, and nothing is left that goes on.
        assert await server.sites[0].unended_jobs() == set()
