"""Contract tests that every site passes. Another adapter joins with a row of ``harness`` and a SiteHarness of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from cts_core.errors import CTSError
from cts_core.identity.identity import User
from cts_core.model.job import S3File
from cts_core.model.record import JobRecord
from cts_core.model.refdata import (
    ENDED,
    AdminReferenceData,
    RefdataReport,
    ReferenceDataState,
)
from cts_core.sites.site import LogStream, Site
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import make_refdata
from tests.harness.jaws_harness import jaws_harness
from tests.harness.jaws_site import JAWSWorld
from tests.harness.kbase_harness import KBaseWorld, kbase_harness
from tests.harness.sites import TIMEOUT_SECONDS, SiteHarness, isolated, local_harness, opened
from tests.services.bubblewrap import opening
from tests.services.condor import CondorPool
from tests.services.registry import Registry
from tests.services.s3 import S3Server
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


SITES = ("local", "bubblewrap", "minio", "versitygw", "condor", "jaws")
"""The local site without and with isolation, and on two object stores; the site kbase; a site at JAWS."""


def _rows(**reasons: str) -> list[ParameterSet]:
    """Return the parameters of ``harness``, without the sites for which there is a reason."""
    rows = []
    for name in SITES:
        marks = [] if name == "local" else [pytest.mark.slow]
        if name in reasons:
            marks.append(pytest.mark.skip(reason=f"{name}: {reasons[name]}"))
        rows.append(pytest.param(name, marks=marks))
    return rows


def except_at(**reasons: str) -> pytest.MarkDecorator:
    """Leave out the sites to which a test does not apply, each for its reason."""
    return pytest.mark.parametrize("harness", _rows(**reasons), indirect=True)


@pytest.fixture(scope="module")
def kbase(condor: CondorPool, minio: S3Server, registry: Registry) -> KBaseWorld:
    return KBaseWorld.make(condor, minio, registry)


@pytest.fixture(params=_rows())
async def harness(request, tmp_path: Path) -> AsyncIterator[SiteHarness]:
    make = {"jaws": _at_jaws, "condor": _at_kbase}.get(request.param, _at_local)
    async with make(request, tmp_path) as harness:
        yield harness


def _at_jaws(
    request: pytest.FixtureRequest, folder: Path
) -> AbstractAsyncContextManager[SiteHarness]:
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    sites, minio = map(request.getfixturevalue, ("jaws_sites", "minio"))
    return jaws_harness(JAWSWorld.hurried(sites, minio, folder, patch))


def _at_kbase(request: pytest.FixtureRequest, _: Path) -> AbstractAsyncContextManager[SiteHarness]:
    world, patch, folder = map(request.getfixturevalue, ("kbase", "monkeypatch", "isolated"))
    return kbase_harness(world, folder, patch)


@asynccontextmanager
async def _at_local(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[SiteHarness]:
    server = None if request.param == "local" else request.getfixturevalue(request.param)
    isolation = isolated(folder) if request.param == "bubblewrap" else {}
    harness = local_harness(folder, server=server, **isolation)
    if isolation:
        request.getfixturevalue("monkeypatch").setenv("PATH", opening(harness.shared))
    async with opened(harness):
        yield harness


def _gated(harness: SiteHarness) -> dict[str, object]:
    return {"environment": {"GATE": str(harness.shared / "gate")}}


def _open_gate(harness: SiteHarness) -> None:
    (harness.shared / "gate").touch()


async def test_containers_complete(harness: SiteHarness) -> None:
    job = await harness.start(
        'cat "$2" > "$1/copy"; echo out; echo err >&2',
        params={**COPY, "declobber": True},
        num_containers=2,
    )
    for number, report in (await harness.until(job)).items():
        assert [step.state for step in report.steps] == SUCCESS
        times = [step.time for step in report.steps]
        assert times == sorted(times)
        outcome = report.outcome
        assert outcome.exit_code == 0
        crc = crc64nvme_text(f"data/in/{number}.txt".encode())
        assert outcome.outputs == [S3File(file=f"data/out/{number}/copy", crc64nvme=crc)]
        assert outcome.error is None
    # A server that was restarted knows nothing of earlier reports.
    again = (await harness.ask({job.id: [S.DOWNLOAD_SUBMITTED] * 2}))[job.id]
    assert [[step.state for step in report.steps] for report in again] == [SUCCESS] * 2
    # What has ended in the record is reported no more.
    (report,) = (await harness.ask({job.id: [S.COMPLETE, S.JOB_SUBMITTED]}))[job.id]
    assert report.number == 1
    assert not (await harness.ask({job.id: [S.COMPLETE, S.COMPLETE]})).get(job.id)


async def test_container_fails_and_is_cleaned(harness: SiteHarness) -> None:
    job = await harness.start("echo why >&2; exit 7")
    (report,) = (await harness.until(job)).values()
    assert [step.state for step in report.steps] == FAILURE
    assert report.outcome.exit_code == 7
    assert report.outcome.outputs is None
    assert await harness.log(job, stream=LogStream.STDERR) == (b"why\n", True)
    # A cancel after the end changes nothing.
    await harness.cancel_and_wait(job)
    (report,) = (await harness.ask({job.id: [S.DOWNLOAD_SUBMITTED]}))[job.id]
    assert report.steps[-1].state is S.ERROR
    for _ in range(2):
        await harness.site.clean(job.id)
        assert await harness.site.open_log(job.id, 0, LogStream.STDERR) is None
    harness.states.clear()


@except_at(jaws="the start itself is refused for an input that is missing")
async def test_container_that_never_started_goes_straight_to_error(harness: SiteHarness) -> None:
    job = harness.job("true")
    harness.objects.delete("data/in/0.txt")
    await harness.hand_over(job)
    (report,) = (await harness.until(job)).values()
    assert [step.state for step in report.steps] == [S.ERROR]
    assert report.outcome.exit_code is None
    assert report.outcome.error is not None
    assert "data/in/0.txt" in report.outcome.error


@except_at(
    jaws="nothing is measured there, nor told of a container that succeeds beside one that fails"
)
async def test_each_container_has_its_own_inputs_outputs_logs_and_measures(
    harness: SiteHarness,
) -> None:
    params = {**COPY, "environment": {"N": {"type": "container_number"}}, "declobber": True}
    job = await harness.start(
        'out=$1; shift; cat "$@" > "$out/all"; echo "$N"; exit $N',
        params=params,
        num_containers=3,
        files=7,
    )
    reports = await harness.until(job)
    assert {n: report.outcome.exit_code for n, report in reports.items()} == {0: 0, 1: 1, 2: 2}
    for report in reports.values():
        assert report.outcome.cpu_seconds is not None
        assert (report.outcome.wall_seconds or 0) > 0
    assert harness.objects.read("data/out/0/all") == (b"data/in/0.txtdata/in/1.txtdata/in/2.txt")
    assert [await harness.log(job, n) for n in range(3)] == [
        (f"{n}\n".encode(), True) for n in range(3)
    ]


async def test_start_is_idempotent(harness: SiteHarness) -> None:
    ran = harness.shared / "ran"
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


async def test_on_change_is_called_for_every_change(harness: SiteHarness) -> None:
    job = await harness.start("true")
    await harness.poll()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        # Polls only after ``on_change`` was called.
        while harness.states[job.id] != [S.COMPLETE]:
            await harness.changed.wait()
            harness.changed.clear()
            await harness.poll()
    assert set(harness.changed_jobs) == {job.id}


@except_at(jaws="logs are there only at the end of a run that has failed")
async def test_cancel_while_it_runs(harness: SiteHarness) -> None:
    job = await harness.start(
        f"echo begun; {WAIT}", params=_gated(harness), num_containers=4, cpus=harness.cpus // 2
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
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


@except_at(
    condor="a pool keeps nothing of a job that it was not given: its workers are refused their containers",
    jaws="only a job that the records have is canceled: its steps are not begun any more",
)
async def test_cancel_before_it_is_started(harness: SiteHarness) -> None:
    job = harness.job('touch "$GATE"', params=_gated(harness))
    assert await harness.site.cancel(job.id)
    await harness.hand_over(job)
    await harness.until(job)
    assert harness.states[job.id] == [S.CANCELED]
    assert not (harness.shared / "gate").exists()


async def _until_unended(site: Site, *jobs: JobRecord) -> None:
    """Wait until these jobs are all that the site has: a container may be gone a moment after its end is known."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while set(await site.unended_jobs()) != {job.id for job in jobs}:
            await asyncio.sleep(0.1)


@pytest.mark.slow
@except_at(jaws="its simulator has room for every run, and this needs one that waits")
async def test_unended_jobs_are_the_same_from_any_server(harness: SiteHarness) -> None:
    over = await harness.start("true")
    runs = await harness.start(WAIT, params=_gated(harness))
    await harness.until(over)
    await harness.until(runs, S.JOB_SUBMITTED)
    waits = await harness.start("true", cpus=harness.cpus, num_containers=3)
    stopped = await harness.start(WAIT, params=_gated(harness))
    await harness.cancel_and_wait(stopped)
    other = harness.make_site()
    await other.open(lambda _: None)
    for site in (harness.site, other):
        await _until_unended(site, runs, waits)
    await other.close()
    await harness.cancel_and_wait(waits)
    _open_gate(harness)
    await harness.until(runs)
    await _until_unended(harness.site)


@except_at(jaws="logs are there only at the end of a run that has failed")
async def test_log_while_it_grows(harness: SiteHarness) -> None:
    job = await harness.start(f"echo one; {WAIT}; echo two", params=_gated(harness))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await harness.log(job) != (b"one\n", False):
            await harness.poll()
            await asyncio.sleep(0.02)
    assert await harness.log(job, seek=4) == (b"", False)
    _open_gate(harness)
    await harness.until(job)
    assert await harness.log(job) == (b"one\ntwo\n", True)
    assert await harness.log(job, seek=2, length=3) == (b"e\nt", True)
    assert await harness.log(job, seek=6, length=100) == (b"o\n", True)
    assert await harness.log(job, seek=100) == (b"", True)


async def test_no_log_before_the_start(harness: SiteHarness) -> None:
    assert await harness.log(harness.job("true")) is None


async def test_containers_go_on_without_a_server(harness: SiteHarness) -> None:
    job = await harness.start(f'{WAIT}; touch "$GATE.passed"', params=_gated(harness))
    await harness.until(job, S.JOB_SUBMITTED)
    await harness.stop_server()
    _open_gate(harness)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not (harness.shared / "gate.passed").exists():
            await asyncio.sleep(0.02)
    await harness.start_server()
    (report,) = (await harness.until(job)).values()
    assert [step.state for step in report.steps] == SUCCESS


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
    with pytest.raises(CTSError):
        await harness.site.preflight(ana, job.job_input, harness.refused)


async def test_runner_status(harness: SiteHarness) -> None:
    job = harness.job(WAIT + "; exit 3", params=_gated(harness))
    assert await harness.runner_status(job) == {}
    await harness.hand_over(job)
    await harness.until(job, S.JOB_SUBMITTED)
    running = await harness.runner_status(job)
    _open_gate(harness)
    await harness.until(job)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        # A scheduler may know of the end a moment later.
        while (ended := await harness.runner_status(job)) == running:
            await asyncio.sleep(0.1)
    for status in (running, ended):
        assert status
        json.dumps(status)


@except_at(
    condor="HTCondor's history keeps what has ended", jaws="JAWS keeps the runs that have ended"
)
async def test_runner_status_is_cleaned(harness: SiteHarness) -> None:
    job = await harness.start("true")
    await harness.until(job)
    assert await harness.runner_status(job)
    await harness.site.clean(job.id)
    assert await harness.runner_status(job) == {}


@pytest.fixture
async def staging(harness: SiteHarness) -> AsyncIterator[SiteHarness]:
    """Open the store from which the site stages reference data."""
    await harness.store.open()
    yield harness
    await harness.site.close()
    await harness.store.close()
    harness.site = harness.make_site()
    await harness.site.open(harness.on_change)


async def _staged(site: Site, refdata: AdminReferenceData) -> RefdataReport:
    """Return the report on reference data once it is staged, or cannot be."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (report := await site.stage_refdata(refdata)).state not in ENDED:
            await asyncio.sleep(0.02)
    return report


@except_at(
    condor="a service of its own stages there, and reports by REST (tests/end_to_end/test_refdata_at_kbase.py)"
)
async def test_reference_data(staging: SiteHarness) -> None:
    harness = staging
    assert not harness.site.takes_updates
    crc = harness.objects.put("data/ref/x", b"reference")
    refdata = make_refdata(file="data/ref/x", crc64nvme=crc, unpack=False)
    for _ in range(2):
        report = await _staged(harness.site, refdata)
        assert report.state is ReferenceDataState.COMPLETE, report
        await harness.site.clean_refdata(refdata.id)


@except_at(
    condor="a service of its own stages there, and reports by REST (tests/end_to_end/test_refdata_at_kbase.py)"
)
async def test_reference_data_that_does_not_exist(staging: SiteHarness) -> None:
    harness = staging
    refdata = make_refdata(file="data/ref/none", unpack=False)
    report = await _staged(harness.site, refdata)
    assert report.state is ReferenceDataState.ERROR
    assert "data/ref/none" in (report.error or "")
    await harness.site.clean_refdata(refdata.id)
