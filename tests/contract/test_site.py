"""What every site does. A further adapter joins with a fixture parameter and a Ground of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.errors import CTSError
from cts_core.identity.identity import User
from cts_core.model.job import S3File
from cts_core.model.refdata import ReferenceDataState
from cts_core.sites.site import LogStream, RefdataReport
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import make_image, make_refdata
from tests.harness.sites import Ground, local_ground, opened

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


@pytest.fixture(
    params=[
        "local",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("minio", "versitygw")),
    ]
)
async def ground(request, tmp_path: Path) -> AsyncIterator[Ground]:
    on_s3 = None if request.param == "local" else request.getfixturevalue(request.param)
    ground = local_ground(tmp_path, server=on_s3)
    async with opened(ground):
        yield ground


def _gated(tmp_path: Path) -> dict[str, object]:
    return {"environment": {"GATE": str(tmp_path / "gate")}}


async def test_container_completes(ground: Ground) -> None:
    job = await ground.start('cat "$2" > "$1/copy"; echo out; echo err >&2', params=COPY)
    (report,) = (await ground.until(job)).values()
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


async def test_container_fails(ground: Ground) -> None:
    job = await ground.start("echo why >&2; exit 7")
    (report,) = (await ground.until(job)).values()
    assert [step.state for step in report.steps] == FAILURE
    assert report.outcome.exit_code == 7
    assert report.outcome.outputs is None
    assert await ground.log(job, stream=LogStream.STDERR) == (b"why\n", True)


async def test_container_that_never_started_goes_straight_to_error(ground: Ground) -> None:
    job = ground.job("true")
    ground.objects.delete("data/in/0.txt")
    await ground.hand_over(job)
    (report,) = (await ground.until(job)).values()
    assert [step.state for step in report.steps] == [S.ERROR]
    assert report.outcome.exit_code is None
    assert report.outcome.error is not None
    assert "data/in/0.txt" in report.outcome.error


async def test_each_container_gets_its_own(ground: Ground) -> None:
    params = {**COPY, "environment": {"N": {"type": "container_number"}}, "declobber": True}
    job = await ground.start(
        'out=$1; shift; cat "$@" > "$out/all"; echo "$N"; exit $N',
        params=params,
        num_containers=3,
        files=7,
    )
    reports = await ground.until(job)
    assert {n: report.outcome.exit_code for n, report in reports.items()} == {0: 0, 1: 1, 2: 2}
    assert ground.objects.read("data/out/0/all") == (b"data/in/0.txtdata/in/1.txtdata/in/2.txt")
    assert [await ground.log(job, n) for n in range(3)] == [
        (f"{n}\n".encode(), True) for n in range(3)
    ]


async def test_reports_are_for_live_containers_alone(ground: Ground) -> None:
    job = await ground.start("true", num_containers=2)
    await ground.until(job)
    answer = await ground.site.poll({job.id: [S.COMPLETE, S.JOB_SUBMITTED]})
    assert [report.number for report in answer[job.id]] == [1]
    answer = await ground.site.poll({job.id: [S.COMPLETE, S.COMPLETE]})
    assert not answer.get(job.id)


async def test_reports_tell_everything_again(ground: Ground) -> None:
    # A server that starts anew knows nothing of what was said before.
    job = await ground.start("true")
    await ground.until(job)
    (report,) = (await ground.site.poll({job.id: [S.DOWNLOAD_SUBMITTED]}))[job.id]
    assert [step.state for step in report.steps] == SUCCESS


async def test_start_again_is_harmless(ground: Ground, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    params = {"environment": {"RAN": str(ran)}}
    job = ground.job('echo x >> "$RAN"', params=params, num_containers=2)
    await asyncio.gather(ground.hand_over(job), ground.hand_over(job))
    await ground.poll()
    await ground.hand_over(job)
    await ground.until(job)
    await ground.hand_over(job)
    await ground.poll()
    await ground.poll()
    assert ran.read_text() == "x\n" * 2


async def test_hints_tell_of_every_change(ground: Ground) -> None:
    job = await ground.start("true")
    await ground.poll()
    async with asyncio.timeout(60):
        # No polling but when told to.
        while ground.states[job.id] != [S.COMPLETE]:
            await ground.changed.wait()
            ground.changed.clear()
            await ground.poll()
    assert set(ground.hinted) == {job.id}


async def test_cancel_while_it_runs(ground: Ground, tmp_path: Path) -> None:
    job = await ground.start(f"echo begun; {WAIT}", params=_gated(tmp_path), num_containers=4)
    async with asyncio.timeout(60):
        while await ground.log(job) != (b"begun\n", False):
            await ground.poll()
            await asyncio.sleep(0.02)
    await ground.canceled(job)
    reports = await ground.until(job)
    assert {n: report.steps[-1].state for n, report in reports.items()} == dict.fromkeys(
        range(4), S.CANCELED
    )
    assert [step.state for step in reports[3].steps] == [S.CANCELING, S.CANCELED]
    assert await ground.site.cancel(job.id)
    assert await ground.log(job) == (b"begun\n", True)


async def test_cancel_before_it_is_started(ground: Ground, tmp_path: Path) -> None:
    job = ground.job('touch "$GATE"', params=_gated(tmp_path))
    assert await ground.site.cancel(job.id)
    await ground.hand_over(job)
    await ground.until(job)
    assert ground.states[job.id] == [S.CANCELED]
    assert not (tmp_path / "gate").exists()


async def test_cancel_after_the_end_changes_nothing(ground: Ground) -> None:
    job = await ground.start("true")
    await ground.until(job)
    assert await ground.site.cancel(job.id)
    (report,) = (await ground.site.poll({job.id: [S.DOWNLOAD_SUBMITTED]}))[job.id]
    assert report.steps[-1].state is S.COMPLETE


async def test_what_runs_or_waits_is_told_by_any_server(ground: Ground, tmp_path: Path) -> None:
    over = await ground.start("true")
    await ground.until(over)
    runs = await ground.start(WAIT, params=_gated(tmp_path))
    await ground.until(runs, S.JOB_SUBMITTED)
    waits = await ground.start("true", cpus=2, num_containers=3)
    stopped = await ground.start(WAIT, params=_gated(tmp_path))
    await ground.canceled(stopped)
    other = ground.make_site()
    await other.open(lambda _: None)
    for site in (ground.site, other):
        assert set(await site.unended_jobs()) == {runs.id, waits.id}
    await other.close()
    (tmp_path / "gate").touch()
    await ground.until(runs)
    await ground.until(waits)
    assert not await ground.site.unended_jobs()


async def test_log_while_it_grows(ground: Ground, tmp_path: Path) -> None:
    job = await ground.start(f"echo one; {WAIT}; echo two", params=_gated(tmp_path))
    async with asyncio.timeout(60):
        while await ground.log(job) != (b"one\n", False):
            await ground.poll()
            await asyncio.sleep(0.02)
    assert await ground.log(job, seek=4) == (b"", False)
    (tmp_path / "gate").touch()
    await ground.until(job)
    assert await ground.log(job) == (b"one\ntwo\n", True)
    assert await ground.log(job, seek=2, length=3) == (b"e\nt", True)
    assert await ground.log(job, seek=6, length=100) == (b"o\n", True)
    assert await ground.log(job, seek=100) == (b"", True)


async def test_no_log_before_the_start(ground: Ground) -> None:
    assert await ground.log(ground.job("true")) is None


async def test_clean(ground: Ground) -> None:
    job = await ground.start("echo x")
    await ground.until(job)
    await ground.site.clean(job.id)
    assert await ground.log(job) is None
    await ground.site.clean(job.id)
    ground.states.clear()


async def test_containers_go_on_without_us(ground: Ground, tmp_path: Path) -> None:
    job = await ground.start(WAIT, params=_gated(tmp_path))
    await ground.until(job, S.JOB_SUBMITTED)
    await ground.site.close()
    (tmp_path / "gate").touch()
    ground.site = ground.make_site()
    await ground.site.open(ground.on_change)
    (report,) = (await ground.until(job)).values()
    assert [step.state for step in report.steps] == SUCCESS


async def test_describe(ground: Ground) -> None:
    described = await ground.site.describe()
    assert described.cluster is ground.site.cluster
    assert described.available
    assert described.cpus_per_node >= 1
    assert described.memory_per_node_gb >= 1
    assert described.max_runtime_min >= 1


async def test_preflight(ground: Ground) -> None:
    ana = User("ana")
    job = ground.job("true")
    warnings = await ground.site.preflight(ana, job.job_input, job.image)
    assert all(isinstance(warning, str) for warning in warnings)
    elsewhere = make_image(name="docker.io/fake/image").for_job()
    with pytest.raises(CTSError):
        await ground.site.preflight(ana, job.job_input, elsewhere)


async def test_what_the_site_says_of_its_containers(ground: Ground, tmp_path: Path) -> None:
    job = ground.job(WAIT + "; exit 3", params=_gated(tmp_path))
    assert await ground.site.runner_status(job, 0) == {}
    await ground.hand_over(job)
    await ground.until(job, S.JOB_SUBMITTED)
    running = await ground.site.runner_status(job, 0)
    (tmp_path / "gate").touch()
    await ground.until(job)
    ended = await ground.site.runner_status(job, 0)
    for said in (running, ended):
        assert said
        json.dumps(said)
    assert running != ended
    await ground.site.clean(job.id)
    assert await ground.site.runner_status(job, 0) == {}


@pytest.fixture
async def staging(ground: Ground) -> AsyncIterator[Ground]:
    """A site that can read what it stages."""
    await ground.store.open()
    yield ground
    await ground.site.close()
    await ground.store.close()
    ground.site = ground.make_site()
    await ground.site.open(ground.on_change)


async def test_reference_data(staging: Ground) -> None:
    ground = staging
    assert not ground.site.takes_updates
    crc = ground.objects.put("data/ref/x", b"reference")
    refdata = make_refdata(file="data/ref/x", crc64nvme=crc, unpack=False)
    async with asyncio.timeout(60):
        while (await ground.site.stage_refdata(refdata)).state is not ReferenceDataState.COMPLETE:
            await asyncio.sleep(0.02)
    for _ in range(2):
        await ground.site.clean_refdata(refdata.id)
        report = await ground.site.stage_refdata(refdata)
        assert report == RefdataReport(ReferenceDataState.COMPLETE)


async def test_reference_data_that_cannot_be_had(staging: Ground) -> None:
    ground = staging
    refdata = make_refdata(file="data/ref/none", unpack=False)
    async with asyncio.timeout(60):
        while (report := await ground.site.stage_refdata(refdata)).state is not (
            ReferenceDataState.ERROR
        ):
            await asyncio.sleep(0.02)
    assert "data/ref/none" in (report.error or "")
    await ground.site.clean_refdata(refdata.id)
