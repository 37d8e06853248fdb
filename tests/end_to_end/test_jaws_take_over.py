"""Live jobs that the deployed service left at a site of JAWS go on, in each of their states (docs/reference/contract-jaws.md §18)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cts_core.concurrency import run_in_pool
from cts_core.model.job import JAWSDetails, NERSCDetails
from cts_core.model.record import JobRecord
from cts_core.sites.jaws import runner
from cts_core.sites.jaws.layout import Machine, cache_entry
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.jaws_harness import JAWSSiteHarness, jaws_harness
from tests.harness.jaws_site import JAWSWorld, hurry
from tests.harness.jaws_vectors import LAYOUT, LEFT
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites

__all__ = ["jaws_sites"]
pytestmark = pytest.mark.slow

S = JobState
TO_RUN = [S.DOWNLOAD_SUBMITTED, S.JOB_SUBMITTING, S.JOB_SUBMITTED]
OUTPUT = b"data/in/0.txt"
COPY = 'mkdir "/output_files/sub dir"; cat /input_files/* > "/output_files/sub dir/x.txt"'
RUN_FOLDER = "/global/cfs/cdirs/kbase/jaws/output/kbase/cdm_ts/1000/9f16a543"
RESPATH = "./call-run_container/shard-0/execution/__output__/sub dir/x.txt"


@pytest.fixture
async def harness(
    jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[JAWSSiteHarness]:
    hurry(monkeypatch)
    minio.empty()
    async with jaws_harness(JAWSWorld(jaws_sites, minio, tmp_path)) as harness:
        yield harness


def _leave(sites: JAWSSites, job_id: str, files: Mapping[str, Any]) -> None:
    """Leave files in the folder of a job, as the deployed service does."""
    folder = sites.nersc.place(LAYOUT.job(job_id))
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def _end_run(sites: JAWSSites, job_id: str, result: str) -> str:
    """Add a run that has ended with what JAWS leaves of it, and return its id."""
    run = sites.jaws.submit(job_id)
    folder = sites.nersc.place(RUN_FOLDER)
    output = folder / RESPATH
    output.parent.mkdir(parents=True)
    output.write_bytes(OUTPUT)
    for name in ("stdout", "stderr"):
        (output.parent.parent / name).write_text(name)
    shard = "./call-run_container/shard-0/execution"
    outputs = {
        "ghcr_io_kbase_tool.output_files": [[RESPATH]],
        "ghcr_io_kbase_tool.stdouts": [f"{shard}/stdout"],
        "ghcr_io_kbase_tool.stderrs": [f"{shard}/stderr"],
    }
    errors = LEFT["errors.json of JAWS"]
    failed = {"calls": {name: entries[:1] for name, entries in errors["calls"].items()}}
    name, told = ("outputs.json", outputs) if result == "succeeded" else ("errors.json", failed)
    (folder / name).write_text(json.dumps(told))
    run.output_dir = RUN_FOLDER
    run.move("done", result)
    return str(run.id)


async def _complete(harness: JAWSSiteHarness, job: JobRecord) -> None:
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.COMPLETE, report.outcome
    (output,) = report.outcome.outputs or ()
    assert (output.file, output.crc64nvme) == ("data/out/sub dir/x.txt", crc64nvme_text(OUTPUT))
    assert harness.objects.read(output.file) == OUTPUT


@pytest.mark.parametrize("left", ["success", "half a result", "a failure"])
async def test_download_goes_on(harness: JAWSSiteHarness, jaws_sites: JAWSSites, left: str):
    job = harness.job(COPY)
    success = json.dumps(LEFT["after the download"]["download_result.json"])
    failure = LEFT["after a failed download whose callback was refused"]["download_result.json"]
    files = {
        "success": {"download_result.json": success},
        "half a result": {"download_result.json": success[:20]},
        "a failure": {"download_result.json": failure},
    }[left]
    _leave(jaws_sites, job.id, files)
    if left == "success":
        crc = crc64nvme_text(OUTPUT)
        entry = jaws_sites.nersc.place(cache_entry(LAYOUT.cache(Machine.DTNS), crc))
        entry.parent.mkdir(parents=True)
        entry.write_bytes(OUTPUT)
    job = job.model_copy(update={"nersc_details": NERSCDetails(download_task_id=["gone"])})
    harness.take_over(job, S.DOWNLOAD_SUBMITTED)
    await _complete(harness, job)
    assert len(jaws_sites.jaws.runs) == 1


@pytest.mark.parametrize("was_submitted", [False, True], ids=["unsubmitted", "submitted"])
async def test_submission_whose_answer_was_lost_is_found_by_its_tag(
    harness: JAWSSiteHarness, jaws_sites: JAWSSites, was_submitted: Any
):
    job = harness.job(COPY)
    if was_submitted:
        _leave(jaws_sites, job.id, {})
        _end_run(jaws_sites, job.id, "succeeded")
    else:
        # What the deployed service has downloaded is in the cache.
        await harness.hand_over(job)
        await harness.until(job, S.JOB_SUBMITTING, S.JOB_SUBMITTED, S.COMPLETE)
        jaws_sites.jaws.runs.clear()
        job = harness.job(COPY)
        _leave(jaws_sites, job.id, {})
    harness.take_over(job, *TO_RUN[:2])
    await _complete(harness, job)
    tags = [run.tag for run in jaws_sites.jaws.runs.values()]
    assert tags.count(job.id) == 1


async def test_run_is_followed(harness: JAWSSiteHarness, jaws_sites: JAWSSites):
    job = harness.job(COPY)
    _leave(jaws_sites, job.id, {})
    run_id = _end_run(jaws_sites, job.id, "succeeded")
    job = job.model_copy(update={"jaws_details": JAWSDetails(run_id=["1", run_id])})
    harness.take_over(job, *TO_RUN)
    await _complete(harness, job)
    assert len(jaws_sites.jaws.runs) == 1


@pytest.mark.parametrize(
    ("state", "is_stored"), [(S.UPLOAD_SUBMITTING, False), (S.UPLOAD_SUBMITTED, True)]
)
async def test_upload_goes_on(
    harness: JAWSSiteHarness,
    jaws_sites: JAWSSites,
    monkeypatch: pytest.MonkeyPatch,
    state: JobState,
    is_stored: Any,
):
    async def run_slowly(*work: Any, **given: Any) -> Any:
        # Long enough for polls, which must not report a job before its outputs are known.
        await asyncio.sleep(1)
        return await run_in_pool(*work, **given)

    monkeypatch.setattr(runner, "run_in_pool", run_slowly)
    job = harness.job(COPY)
    sums = {
        "files": [
            {"crc64nvme": crc64nvme_text(OUTPUT), "s3path": "sub dir/x.txt", "respath": RESPATH}
        ],
        "stdouts": [],
        "stderrs": [],
    }
    files = {"upload_checksums.json": sums}
    if is_stored:
        files["upload_result.json"] = {"result": "success", "data": None, "cts_env": {}}
        harness.objects.put("data/out/sub dir/x.txt", OUTPUT)
    _leave(jaws_sites, job.id, files)
    run_id = _end_run(jaws_sites, job.id, "succeeded")
    job = job.model_copy(
        update={
            "jaws_details": JAWSDetails(run_id=[run_id]),
            "nersc_details": NERSCDetails(download_task_id=["a"], upload_task_id=["gone"]),
        }
    )
    harness.take_over(
        job,
        *TO_RUN,
        *[S.UPLOAD_SUBMITTING, S.UPLOAD_SUBMITTED][: 1 + (state is S.UPLOAD_SUBMITTED)],
    )
    await _complete(harness, job)


@pytest.mark.parametrize(
    ("state", "is_ended"),
    [(S.ERROR_PROCESSING_SUBMITTING, False), (S.ERROR_PROCESSING_SUBMITTED, True)],
)
async def test_error_logs_go_on(
    harness: JAWSSiteHarness, jaws_sites: JAWSSites, state: JobState, is_ended: Any
):
    job = harness.job("exit 3")
    files: dict[str, Any] = {}
    if is_ended:
        result = {"result": "success", "data": [[3, "it exited with 3"]], "cts_env": {}}
        files["error_log_result.json"] = result
    _leave(jaws_sites, job.id, files)
    run_id = _end_run(jaws_sites, job.id, "failed")
    job = job.model_copy(
        update={
            "jaws_details": JAWSDetails(run_id=[run_id]),
            "nersc_details": NERSCDetails(download_task_id=["a"], log_upload_task_id=["gone"]),
        }
    )
    errors = [S.ERROR_PROCESSING_SUBMITTING, S.ERROR_PROCESSING_SUBMITTED]
    harness.take_over(job, *TO_RUN, *errors[: 1 + errors.index(state)])
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.ERROR
    assert report.outcome.exit_code == 3
    if not is_ended:
        assert await harness.log(job) == (b"probe says hello\nEntrypoint exit code: 3\n", True)


async def test_canceled_job_has_its_run_cancelled(harness: JAWSSiteHarness, jaws_sites: JAWSSites):
    job = harness.job(COPY)
    _leave(jaws_sites, job.id, {})
    run = jaws_sites.jaws.submit(job.id)
    run.move("running")
    job = job.model_copy(update={"jaws_details": JAWSDetails(run_id=[str(run.id)])})
    harness.records.move(job, *TO_RUN, S.CANCELING)
    await harness.cancel_and_wait(job)
    assert run.result == "cancelled"
