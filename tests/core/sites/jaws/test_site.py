"""Jobs at a site of JAWS, from submission to checksummed outputs, on simulators that run them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from cts_core.engine.outcome import NON_ZERO_EXIT
from cts_core.errors import ResourceUnavailableError, UnavailableError, UnsupportedError
from cts_core.identity.identity import User
from cts_core.model.job import Job
from cts_core.model.record import JobRecord
from cts_core.model.refdata import ReferenceDataState
from cts_core.sites.jaws import commands, look, steps
from cts_core.sites.jaws.central import JAWSError
from cts_core.sites.jaws.layout import Attempt, Kind, Machine, Step
from cts_core.sites.jaws.look import SeenFolder
from cts_core.sites.jaws.outages import Availability
from cts_core.sites.jaws.results import StepEnd
from cts_core.sites.jaws.sfapi import SFAPI, CommandError, SFAPIError
from cts_core.sites.jaws.site import MAX_TASKS, WAITS_AT_JAWS, JAWSSite
from cts_core.sites.jaws.steps import Decision, Next, SeenAttempt
from cts_core.states import TERMINAL, JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.engine import TIMEOUT_SECONDS
from tests.harness.factories import make_image, make_job_record, packed
from tests.harness.jaws_site import COPY, LAWRENCIUM, PERLMUTTER, JAWSWorld
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
    world = JAWSWorld.hurried(jaws_sites, minio, tmp_path, monkeypatch)
    minio.put({f"data/in/{name}": name.encode() for name in "abcd"})
    return world


@pytest.fixture(params=["usual", "other"])
def either(
    world: JAWSWorld, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> JAWSWorld:
    """A world as it is usually, and one that is otherwise in all that nobody could verify (docs/reference/contract-jaws.md §17)."""
    if request.param == "other":
        sites, nersc = world.sites, world.sites.nersc
        sites.tells_successes, sites.makes_folders = True, False
        sites.localization, sites.notice = "soft link", "stderr"
        sites.jaws.has_search = False
        nersc.max_command, nersc.max_output, nersc.max_upload = 4096, 1200, 1 << 20
        nersc.task_seconds = 20.0
        monkeypatch.setattr(look, "MAX_TOLD", 300)
    return world


async def test_job_ends_with_checksummed_outputs(either: JAWSWorld):
    world = either
    async with world.server() as server:
        await server.register(COPY)
        job_id = await server.submit(["a", "b", "c"], num_containers=2)
        # Both are looked at at once, where there is room for it.
        other_id = await server.submit(["d"], output_dir="data/other")
        job = await server.harness.wait_until_ended(job_id)
        other = await server.harness.wait_until_ended(other_id)
        record = await server.record(job_id)
        assert record.jaws_details is not None
        (run_id,) = record.jaws_details.run_id
        assert record.nersc_details is not None
        assert len(record.nersc_details.download_task_id) == 1
        assert len(record.nersc_details.upload_task_id or ()) == 1
        (site,) = server.sites
        told = await server.harness.engine.admin.runner_status(job_id, 0)
        assert (told["id"], told["status"]) == (int(run_id), "done")
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
    assert other.state is JobState.COMPLETE, other.error


def _check_copies(job: Job, names: str) -> None:
    assert job.state is JobState.COMPLETE, job.error
    assert {(o.file, o.crc64nvme) for o in job.outputs or ()} == {
        (f"data/out/{name}", crc64nvme_text(name.encode())) for name in names
    }


async def test_failed_containers_have_their_codes_and_logs(either: JAWSWorld):
    world = either
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
    assert codes.exit_codes == [0 if world.sites.tells_successes else None, 1, 2]
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


def _fail_helpers(monkeypatch: pytest.MonkeyPatch, fails: Mapping[str, str]) -> None:
    """Have helpers make these attempts with these failpoints; the claims of those that are killed are old then."""
    make_command = commands.helper

    def fail(machine: Machine, code: str, words: Sequence[str], **kwargs: Any) -> str:
        command = make_command(machine, code, words, **kwargs)
        attempt = "-".join(words[2:4])
        if words[0] != "attempt" or attempt not in fails:
            return command
        failing = f"export CTS_FAILPOINTS={fails[attempt]}\n{command}\n"
        if fails[attempt].endswith("=stop"):
            return failing
        # Its claim is as old then as one that no helper touches any more.
        old = f"touch -d '{2 * steps.LOST_AFTER.total_seconds()} seconds ago' {words[1]}/{attempt}.claim"
        return f"(\n{failing})\n{old}\n"

    monkeypatch.setattr(commands, "helper", fail)


async def test_helpers_that_are_killed_lose_and_double_nothing(
    world: JAWSWorld, monkeypatch: pytest.MonkeyPatch
):
    kills = {
        "download-1": "download:claimed=kill",
        "submit-1": "submit:before=kill",
        "submit-2": "submit:after=kill",
        "checksums-1": "checksums:done=kill",
        "upload-1": "upload:claimed=kill",
    }
    _fail_helpers(monkeypatch, kills)
    async with world.server() as server:
        await server.register(COPY)
        job_id = await server.submit(["a", "b"])
        job = await server.harness.wait_until_ended(job_id)
    _check_copies(job, "ab")
    assert len(world.sites.jaws.runs) == 1
    names = {path.name for path in world.sites.nersc.place(LAYOUT.job(job_id)).iterdir()}
    assert {f"{attempt}.claim" for attempt in kills} <= names
    assert not {f"{attempt}.json" for attempt in kills} & names


async def test_job_goes_on_after_a_command_that_took_too_long_and_without_a_search(
    world: JAWSWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    nersc, jaws = world.sites.nersc, world.sites.jaws
    jaws.has_search = False
    fails = {"download-1": "download:claimed=stop", "submit-1": "submit:after=kill"}
    _fail_helpers(monkeypatch, fails)
    async with world.server() as server:
        await server.register(COPY)
        job_id = await server.submit(["a", "b"])
        await server.wait_until_state(job_id, JobState.DOWNLOAD_SUBMITTED)
        claim = nersc.place(LAYOUT.job(job_id)) / Attempt(Step.DOWNLOAD, 1).file(Kind.CLAIM)
        details = (await server.record(job_id)).nersc_details
        assert details is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not claim.exists():
                await asyncio.sleep(0.02)
            # Of the commands that run now, NERSC kills all.
            nersc.task_seconds = 0.0
            while not (await server.facility.sfapi.task(details.download_task_id[0])).is_over:
                await asyncio.sleep(0.02)
            nersc.task_seconds = 60.0
        os.utime(claim, (0, 0))
        job = await server.harness.wait_until_ended(job_id)
    _check_copies(job, "ab")
    # The one that nobody can find is not known to anybody.
    assert "JAWS has no search" in caplog.text
    assert len(jaws.runs) == 2


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
        # It is asked how it is, and for commands under way; none begins.
        assert {call.partition(" /api/v1.2/")[2].split("/")[0] for call in nersc.calls[calls:]} <= {
            "status",
            "tasks",
        }
        nersc.override = jaws.override = None
        job = await server.harness.wait_until_ended(job_id)
    _check_copies(job, "a")
    assert len(jaws.runs) == 1


def _purge(world: JAWSWorld) -> None:
    """Remove all inputs from the staging area, as JAWS does after ten days."""
    shutil.rmtree(world.sites.nersc.place(LAYOUT.cache(Machine.DTNS)))


async def test_inputs_that_are_purged_before_the_submission_are_fetched_again(world: JAWSWorld):
    jaws = world.sites.jaws
    async with world.server() as server:
        await server.register(COPY)
        await server.wait_until_available()
        jaws.override = PreparedResponse(500, b"{}")
        await server.wait_until_away()
        job_id = await server.submit(["a", "b"])
        await server.wait_until_state(job_id, JobState.JOB_SUBMITTING)
        _purge(world)
        jaws.override = None
        job = await server.harness.wait_until_ended(job_id)
    _check_copies(job, "ab")
    assert len(jaws.runs) == 1
    folder = world.sites.nersc.place(LAYOUT.job(job_id))
    assert {path.name for path in folder.glob("*.claim")} >= {
        *("download-1.claim", "download-2.claim", "submit-1.claim", "submit-2.claim")
    }


async def test_run_whose_inputs_are_purged_while_it_waits_at_jaws_fails(world: JAWSWorld):
    world.sites.is_held = True
    async with world.server() as server:
        await server.register(COPY)
        job_id = await server.submit(["a"])
        await server.wait_until_state(job_id, JobState.JOB_SUBMITTED)
        await server.wait_for_reason(job_id, WAITS_AT_JAWS)
        _purge(world)
        world.sites.is_held = False
        job = await server.harness.wait_until_ended(job_id)
        record = await server.record(job_id)
    assert job.state is JobState.ERROR
    assert "Could not localize" in (record.admin_error or ""), record


class Alone(JAWSSite):
    """A site whose steps are carried out as a test sets."""

    def __init__(self) -> None:
        self.told: dict[str, SeenFolder] = {}
        self.error: Exception | None = None
        self.stops = 0
        setup = SimpleNamespace(takes_jobs_while_away=True)
        facility: Any = SimpleNamespace(setup=setup, layout=LAYOUT, lookout=self)
        facility.known = lambda _: Availability()
        facility.refusal = lambda: None
        super().__init__(PERLMUTTER, facility, self, SimpleNamespace())  # type: ignore[arg-type]
        runner: Any = self
        self._runner = runner

    def find(self, folder: str) -> SeenFolder | None:
        return self.told.get(folder)

    def waited(self, _folder: str) -> float:
        return 0.0

    async def get_job(self, job_id: str) -> JobRecord:
        return make_job_record(id=job_id)

    async def _act(self) -> bool:
        if self.error is not None:
            raise self.error
        return True

    async def carry_out(self, *_: object) -> None:
        await self._act()

    async def stop(self, _job: JobRecord) -> bool:
        self.stops += 1
        return await self._act()


class Cleaning:
    """What cleans jobs, and fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def clean(self, _job: JobRecord) -> None:
        raise self.error


@pytest.mark.parametrize("error", [SFAPIError("no"), JAWSError("no"), CommandError("no")])
async def test_job_that_cannot_be_cleaned_is_no_site_that_is_away(error: Exception):
    site = Alone()
    runner: Any = Cleaning(error)
    site._runner = runner
    with pytest.raises(ResourceUnavailableError, match=r"job x .*: no"):
        await site.clean("x")
    runner.error = UnavailableError("NERSC is down")
    with pytest.raises(UnavailableError):
        await site.clean("x")


async def test_bug_in_a_step_is_tried_again_later_and_later(caplog: pytest.LogCaptureFixture):
    site = Alone()
    job = make_job_record()
    site.error = KeyError("x")
    decision = Decision((), Next.FOLLOW, run_id="7")
    waits = []
    for _ in range(3):
        await site._carry_out(site._follow(job), decision, SeenFolder())
        waits.append(site._failing.seconds_left(job.id))
    assert site._failing.failures(job.id) == 3
    assert waits[2] > waits[0] > 0
    assert "KeyError" in (site._failing.reason(job.id) or "")
    assert "Traceback" in caplog.text
    site.error = None
    await site._carry_out(site._follow(job), decision, SeenFolder())
    assert site._failing.is_due(job.id)


async def test_thousands_of_jobs_that_fail_at_once_all_wait():
    site = Alone()
    for number in range(5000):
        site._failing.fail(str(number), "NERSC gives no token")
        site._stop_failing.fail(str(number), "NERSC gives no token")
    assert site._failing.failures("0") == site._stop_failing.failures("0") == 1


async def test_owner_is_told_before_what_jaws_does_with_many_containers():
    site = Alone()
    facility: Any = site.facility
    facility.current = AsyncMock(return_value=(Availability(), ["NERSC is down on Tuesday"]))
    image = make_image(name="ghcr.io/kbase/tool").for_job()
    for count, told in ((MAX_TASKS, []), (MAX_TASKS + 1, ["at most 300 containers"])):
        job = make_job_record(files=count, num_containers=count).job_input
        *limits, outage = await site.preflight(User("ana"), job, image)
        assert outage == "NERSC is down on Tuesday"
        assert len(limits) == len(told)
        assert all(part in line for part, line in zip(told, limits, strict=True))


async def test_program_that_jaws_cannot_run_is_refused_before():
    image = make_image(name="ghcr.io/kbase/tool", entrypoint=["a=b"]).for_job()
    with pytest.raises(UnsupportedError, match="Give the program another path"):
        await Alone().preflight(User("ana"), make_job_record().job_input, image)


async def _end_stop(site: Alone) -> None:
    task = site._stops.find("x")
    assert task is not None
    await task


async def test_stop_is_told_once_and_then_made_again():
    site = Alone()
    site.error = KeyError("x")
    assert not await site.cancel("x")
    await _end_stop(site)
    # It is not due yet.
    assert not await site.cancel("x")
    assert site._stops.find("x") is None
    site.error = None
    site._stop_failing.reset("x")
    for stops in (2, 3):
        assert not await site.cancel("x")
        await _end_stop(site)
        assert await site.cancel("x")
        assert site.stops == stops


async def test_attempts_that_fail_are_told():
    site = Alone()
    job = make_job_record()
    failed = SeenAttempt(StepEnd(is_done=False, reason="JAWS's client says: no site"))
    site.told[site._follow(job).folder] = SeenFolder({Step.SUBMIT: [failed] * 2})
    assert site.waits_for(job) is None
    assert await site.explain(job) == [
        "Attempt 2 at the step submit failed: JAWS's client says: no site"
    ]
    site.told[site._follow(job).folder] = SeenFolder({Step.SUBMIT: [failed] * 3})
    assert site.waits_for(job) == (
        "The step submit of the job has not succeeded in 3 attempts yet. It is tried again by itself"
    )


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
