"""Contract tests that every site passes. Another adapter joins with a fixture parameter and a SiteHarness of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.errors import CTSError
from cts_core.identity.identity import User
from cts_core.model.job import S3File
from cts_core.model.refdata import RefdataReport, ReferenceDataState
from cts_core.sites.site import LogStream
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import make_image, make_refdata
from tests.harness.jaws_harness import jaws_harness
from tests.harness.jaws_hurry import hurry
from tests.harness.jaws_site import JAWSWorld
from tests.harness.sites import SiteHarness, isolated, local_harness, opened
from tests.simulators.jaws_sites import jaws_sites

__all__ = ["jaws_sites"]
S = JobState
SUCCESS = [S.JOB_SUBMITTING, S.JOB_SUBMITTED, S.UPLOAD_SUBMITTING, S.UPLOAD_SUBMITTED, S.COMPLETE]
FAILURE = [
    S.JOB_SUBMITTING,
    S.JOB_SUBMITTED,
    S.ERROR_PROCESSING_SUBMITTING,
    S.ERROR_PROCESSING_SUBMITTED,
    S.ERROR,
]
COPY = {
    "args": [
        "/output_files",
        {"type": "input_files", "input_files_format": "space_separated_list"},
    ]
}
WAIT = 'while [ ! -e "$GATE" ]; do sleep 0.02; done'


LOCAL = [
    "local",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("bubblewrap", "minio", "versitygw")),
]
EVERYWHERE = [*LOCAL, pytest.param("jaws", marks=pytest.mark.slow)]
everywhere = pytest.mark.parametrize("harness", EVERYWHERE, indirect=True)
"""Also where the containers of a job move together, and logs are there only at the end of a run that failed."""


@pytest.fixture(params=LOCAL)
async def harness(request, tmp_path: Path) -> AsyncIterator[SiteHarness]:
    if request.param == "jaws":
        hurry(request.getfixturevalue("monkeypatch"))
        minio = request.getfixturevalue("minio")
        minio.empty()
        async with jaws_harness(
            JAWSWorld(request.getfixturevalue("jaws_sites"), minio, tmp_path)
        ) as harness:
            yield harness
        return
    server = None if request.param == "local" else request.getfixturevalue(request.param)
    isolation = isolated(tmp_path) if request.param == "bubblewrap" else {}
    harness = local_harness(tmp_path, server=server, **isolation)
    async with opened(harness):
        yield harness


def _gated(tmp_path: Path) -> dict[str, object]:
    return {"environment": {"GATE": str(tmp_path / "gate")}}


async def test_container_completes(harness: SiteHarness) -> None:
    job = await harness.start('cat "$2" > "$1/copy"; echo out; echo err >&2', params=COPY)
    (report,) = (await harness.until(job)).values()
    assert [step.state for step in report.steps] == SUCCESS
    times = [step.time for step in report.steps]
    assert times == sorted(times)
    outcome = report.outcome
    assert outcome.exit_code == 0
    text = b"data/in/0.txt"
    assert outcome.outputs == [S3File(file="data/out/copy", crc64nvme=crc64nvme_text(text))]
    assert outcome.error is None
    assert outcome.cpu_seconds is not None
    assert outcome.wall_seconds is not None
    assert outcome.wall_seconds > 0


@everywhere
async def test_container_fails(harness: SiteHarness) -> None:
    job = await harness.start("echo why >&2; exit 7")
    (report,) = (await harness.until(job)).values()
    assert [step.state for step in report.steps] == FAILURE
    assert report.outcome.exit_code == 7
    assert report.outcome.outputs is None
    assert await harness.log(job, stream=LogStream.STDERR) == (b"why\n", True)


async def test_container_that_never_started_goes_straight_to_error(harness: SiteHarness) -> None:
    job = harness.job("true")
    harness.objects.delete("data/in/0.txt")
    await harness.hand_over(job)
    (report,) = (await harness.until(job)).values()
    assert [step.state for step in report.steps] == [S.ERROR]
    assert report.outcome.exit_code is None
    assert report.outcome.error is not None
    assert "data/in/0.txt" in report.outcome.error


async def test_each_container_gets_its_own_inputs_and_outputs(harness: SiteHarness) -> None:
    params = {**COPY, "environment": {"N": {"type": "container_number"}}, "declobber": True}
    job = await harness.start(
        'out=$1; shift; cat "$@" > "$out/all"; echo "$N"; exit $N',
        params=params,
        num_containers=3,
        files=7,
    )
    reports = await harness.until(job)
    assert {n: report.outcome.exit_code for n, report in reports.items()} == {0: 0, 1: 1, 2: 2}
    assert harness.objects.read("data/out/0/all") == (b"data/in/0.txtdata/in/1.txtdata/in/2.txt")
    assert [await harness.log(job, n) for n in range(3)] == [
        (f"{n}\n".encode(), True) for n in range(3)
    ]


@everywhere
async def test_reports_are_for_live_containers_alone(harness: SiteHarness) -> None:
    job = await harness.start("true", num_containers=2)
    await harness.until(job)
    reports = await harness.ask({job.id: [S.COMPLETE, S.JOB_SUBMITTED]})
    assert [report.number for report in reports[job.id]] == [1]
    reports = await harness.ask({job.id: [S.COMPLETE, S.COMPLETE]})
    assert not reports.get(job.id)


@everywhere
async def test_reports_repeat_every_step(harness: SiteHarness) -> None:
    # A server that was restarted knows nothing of earlier reports.
    job = await harness.start("true")
    await harness.until(job)
    (report,) = (await harness.ask({job.id: [S.DOWNLOAD_SUBMITTED]}))[job.id]
    assert [step.state for step in report.steps] == SUCCESS


@pytest.mark.parametrize(
    "harness",
    [
        "local",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("minio", "versitygw", "jaws")),
    ],
    indirect=True,
)  # where a program can write down that it ran
async def test_start_is_idempotent(harness: SiteHarness, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    params = {"environment": {"RAN": str(ran)}}
    job = harness.job('echo x >> "$RAN"', params=params, num_containers=2)
    await asyncio.gather(harness.hand_over(job), harness.hand_over(job))
    await harness.poll()
    await harness.hand_over(job)
    await harness.until(job)
    await harness.hand_over(job)
    await harness.poll()
    await harness.poll()
    assert ran.read_text() == "x\n" * 2


# A site at another facility learns of changes when it is polled, and wakes the engine for what it is told.
async def test_on_change_is_called_for_every_change(harness: SiteHarness) -> None:
    job = await harness.start("true")
    await harness.poll()
    async with asyncio.timeout(60):
        # Polls only after ``on_change`` was called.
        while harness.states[job.id] != [S.COMPLETE]:
            await harness.changed.wait()
            harness.changed.clear()
            await harness.poll()
    assert set(harness.changed_jobs) == {job.id}


async def test_cancel_while_it_runs(harness: SiteHarness, tmp_path: Path) -> None:
    job = await harness.start(f"echo begun; {WAIT}", params=_gated(tmp_path), num_containers=4)
    async with asyncio.timeout(60):
        while await harness.log(job) != (b"begun\n", False):
            await harness.poll()
            await asyncio.sleep(0.02)
    await harness.cancel_and_wait(job)
    reports = await harness.until(job)
    assert {n: report.steps[-1].state for n, report in reports.items()} == dict.fromkeys(
        range(4), S.CANCELED
    )
    assert [step.state for step in reports[3].steps] == [S.CANCELING, S.CANCELED]
    assert await harness.site.cancel(job.id)
    assert await harness.log(job) == (b"begun\n", True)


async def test_cancel_before_it_is_started(harness: SiteHarness, tmp_path: Path) -> None:
    job = harness.job('touch "$GATE"', params=_gated(tmp_path))
    assert await harness.site.cancel(job.id)
    await harness.hand_over(job)
    await harness.until(job)
    assert harness.states[job.id] == [S.CANCELED]
    assert not (tmp_path / "gate").exists()


async def test_cancel_after_the_end_changes_nothing(harness: SiteHarness) -> None:
    job = await harness.start("true")
    await harness.until(job)
    assert await harness.site.cancel(job.id)
    (report,) = (await harness.ask({job.id: [S.DOWNLOAD_SUBMITTED]}))[job.id]
    assert report.steps[-1].state is S.COMPLETE


@pytest.mark.slow
async def test_unended_jobs_are_the_same_from_any_server(
    harness: SiteHarness, tmp_path: Path
) -> None:
    over = await harness.start("true")
    await harness.until(over)
    runs = await harness.start(WAIT, params=_gated(tmp_path))
    await harness.until(runs, S.JOB_SUBMITTED)
    waits = await harness.start("true", cpus=2, num_containers=3)
    stopped = await harness.start(WAIT, params=_gated(tmp_path))
    await harness.cancel_and_wait(stopped)
    other = harness.make_site()
    await other.open(lambda _: None)
    for site in (harness.site, other):
        assert set(await site.unended_jobs()) == {runs.id, waits.id}
    await other.close()
    (tmp_path / "gate").touch()
    await harness.until(runs)
    await harness.until(waits)
    assert not await harness.site.unended_jobs()


async def test_log_while_it_grows(harness: SiteHarness, tmp_path: Path) -> None:
    job = await harness.start(f"echo one; {WAIT}; echo two", params=_gated(tmp_path))
    async with asyncio.timeout(60):
        while await harness.log(job) != (b"one\n", False):
            await harness.poll()
            await asyncio.sleep(0.02)
    assert await harness.log(job, seek=4) == (b"", False)
    (tmp_path / "gate").touch()
    await harness.until(job)
    assert await harness.log(job) == (b"one\ntwo\n", True)
    assert await harness.log(job, seek=2, length=3) == (b"e\nt", True)
    assert await harness.log(job, seek=6, length=100) == (b"o\n", True)
    assert await harness.log(job, seek=100) == (b"", True)


@everywhere
async def test_no_log_before_the_start(harness: SiteHarness) -> None:
    assert await harness.log(harness.job("true")) is None


async def test_clean(harness: SiteHarness) -> None:
    job = await harness.start("echo x")
    await harness.until(job)
    await harness.site.clean(job.id)
    assert await harness.log(job) is None
    await harness.site.clean(job.id)
    harness.states.clear()


@everywhere
async def test_containers_go_on_without_a_server(harness: SiteHarness, tmp_path: Path) -> None:
    job = await harness.start(WAIT, params=_gated(tmp_path))
    await harness.until(job, S.JOB_SUBMITTED)
    await harness.site.close()
    (tmp_path / "gate").touch()
    harness.site = harness.make_site()
    await harness.site.open(harness.on_change)
    (report,) = (await harness.until(job)).values()
    assert [step.state for step in report.steps] == SUCCESS


@everywhere
async def test_describe(harness: SiteHarness) -> None:
    described = await harness.site.describe()
    assert described.cluster is harness.site.cluster
    assert described.available
    assert described.cpus_per_node >= 1
    assert described.memory_per_node_gb >= 1
    assert described.max_runtime_min >= 1


async def test_preflight(harness: SiteHarness) -> None:
    ana = User("ana")
    job = harness.job("true")
    warnings = await harness.site.preflight(ana, job.job_input, job.image)
    assert all(isinstance(warning, str) for warning in warnings)
    elsewhere = make_image(name="docker.io/fake/image").for_job()
    with pytest.raises(CTSError):
        await harness.site.preflight(ana, job.job_input, elsewhere)


async def test_runner_status(harness: SiteHarness, tmp_path: Path) -> None:
    job = harness.job(WAIT + "; exit 3", params=_gated(tmp_path))
    assert await harness.site.runner_status(job, 0) == {}
    await harness.hand_over(job)
    await harness.until(job, S.JOB_SUBMITTED)
    running = await harness.site.runner_status(job, 0)
    (tmp_path / "gate").touch()
    await harness.until(job)
    ended = await harness.site.runner_status(job, 0)
    for status in (running, ended):
        assert status
        json.dumps(status)
    assert running != ended
    await harness.site.clean(job.id)
    assert await harness.site.runner_status(job, 0) == {}


@pytest.fixture
async def staging(harness: SiteHarness) -> AsyncIterator[SiteHarness]:
    """Open the store from which the site stages reference data."""
    await harness.store.open()
    yield harness
    await harness.site.close()
    await harness.store.close()
    harness.site = harness.make_site()
    await harness.site.open(harness.on_change)


async def test_reference_data(staging: SiteHarness) -> None:
    harness = staging
    assert not harness.site.takes_updates
    crc = harness.objects.put("data/ref/x", b"reference")
    refdata = make_refdata(file="data/ref/x", crc64nvme=crc, unpack=False)
    async with asyncio.timeout(60):
        while (await harness.site.stage_refdata(refdata)).state is not ReferenceDataState.COMPLETE:
            await asyncio.sleep(0.02)
    for _ in range(2):
        await harness.site.clean_refdata(refdata.id)
        report = await harness.site.stage_refdata(refdata)
        assert report == RefdataReport(ReferenceDataState.COMPLETE)


async def test_reference_data_that_does_not_exist(staging: SiteHarness) -> None:
    harness = staging
    refdata = make_refdata(file="data/ref/none", unpack=False)
    async with asyncio.timeout(60):
        while (report := await harness.site.stage_refdata(refdata)).state is not (
            ReferenceDataState.ERROR
        ):
            await asyncio.sleep(0.02)
    assert "data/ref/none" in (report.error or "")
    await harness.site.clean_refdata(refdata.id)
