"""Live jobs that the deployed service left at a site of JAWS go on, in each of their states (docs/reference/contract-jaws.md §18)."""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from cts_core.concurrency import run_in_pool
from cts_core.config.sections import MongoSettings
from cts_core.model.job import JAWSDetails, NERSCDetails
from cts_core.model.record import JobRecord
from cts_core.sites.jaws import runner
from cts_core.sites.jaws.layout import Machine, cache_entry
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.cli import run_cts
from tests.harness.jaws_harness import JAWSSiteHarness, jaws_harness
from tests.harness.jaws_site import IMAGE, PERLMUTTER, JAWSWorld
from tests.harness.jaws_vectors import LAYOUT, LEFT
from tests.harness.records import DEPLOYED
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites

__all__ = ["jaws_sites"]
pytestmark = pytest.mark.slow

S = JobState
TO_RUN = [S.DOWNLOAD_SUBMITTED, S.JOB_SUBMITTING, S.JOB_SUBMITTED]
UPLOADING = [S.UPLOAD_SUBMITTING, S.UPLOAD_SUBMITTED]
FAILING = [S.ERROR_PROCESSING_SUBMITTING, S.ERROR_PROCESSING_SUBMITTED]
OUTPUT = b"data/in/0.txt"
COPY = 'mkdir "/output_files/sub dir"; cat /input_files/* > "/output_files/sub dir/x.txt"'
RUN_FOLDER = "/global/cfs/cdirs/kbase/jaws/output/kbase/cdm_ts"
RESPATH = "./call-run_container/shard-0/execution/__output__/sub dir/x.txt"
SUMS = {
    "files": [{"crc64nvme": crc64nvme_text(OUTPUT), "s3path": "sub dir/x.txt", "respath": RESPATH}],
    "stdouts": [],
    "stderrs": [],
}
DONE = {"result": "success", "data": None, "cts_env": {}}
LOGS_DONE = {**DONE, "data": [[3, "it exited with 3"]]}


@pytest.fixture
def world(
    jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> JAWSWorld:
    return JAWSWorld.hurried(jaws_sites, minio, tmp_path, monkeypatch)


@pytest.fixture
async def harness(world: JAWSWorld) -> AsyncIterator[JAWSSiteHarness]:
    async with jaws_harness(world) as harness:
        yield harness


def _leave(sites: JAWSSites, job_id: str, files: Mapping[str, Any]) -> None:
    """Leave files in the folder of a job, as the deployed service does."""
    folder = sites.nersc.place(LAYOUT.job(job_id))
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def _cache(sites: JAWSSites, content: bytes) -> None:
    """Leave an input in the cache."""
    entry = sites.nersc.place(cache_entry(LAYOUT.cache(Machine.DTNS), crc64nvme_text(content)))
    entry.parent.mkdir(parents=True)
    entry.write_bytes(content)


def _end_run(sites: JAWSSites, job_id: str, result: str) -> str:
    """Add a run that has ended with what JAWS leaves of it, and return its id."""
    run = sites.jaws.submit(job_id)
    run.output_dir = f"{RUN_FOLDER}/{run.id}"
    folder = sites.nersc.place(run.output_dir)
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
        _cache(jaws_sites, OUTPUT)
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
    files: dict[str, Any] = {"upload_checksums.json": SUMS}
    if is_stored:
        files["upload_result.json"] = DONE
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
        *UPLOADING[: 1 + UPLOADING.index(state)],
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
        files["error_log_result.json"] = LOGS_DONE
    _leave(jaws_sites, job.id, files)
    run_id = _end_run(jaws_sites, job.id, "failed")
    job = job.model_copy(
        update={
            "jaws_details": JAWSDetails(run_id=[run_id]),
            "nersc_details": NERSCDetails(download_task_id=["a"], log_upload_task_id=["gone"]),
        }
    )
    harness.take_over(job, *TO_RUN, *FAILING[: 1 + FAILING.index(state)])
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.ERROR
    assert report.outcome.exit_code == 3
    if not is_ended:
        assert await harness.log(job) == (b"probe says hello\nEntrypoint exit code: 3\n", True)


STATES = {
    S.CREATED: [],
    S.DOWNLOAD_SUBMITTED: TO_RUN[:1],
    S.JOB_SUBMITTING: TO_RUN[:2],
    S.JOB_SUBMITTED: TO_RUN,
    S.UPLOAD_SUBMITTING: [*TO_RUN, *UPLOADING[:1]],
    S.UPLOAD_SUBMITTED: [*TO_RUN, *UPLOADING],
    S.ERROR_PROCESSING_SUBMITTING: [*TO_RUN, *FAILING[:1]],
    S.ERROR_PROCESSING_SUBMITTED: [*TO_RUN, *FAILING],
    S.CANCELING: [*TO_RUN, S.CANCELING],
    S.COMPLETE: [*TO_RUN, *UPLOADING, S.COMPLETE],
    S.ERROR: [*TO_RUN, *FAILING, S.ERROR],
    S.CANCELED: [*TO_RUN, S.CANCELING, S.CANCELED],
}
"""By state of a job, those that it has passed since ``created``."""
FAILED = {*FAILING, S.ERROR}
ENDS = {**dict.fromkeys(FAILED, S.ERROR), **dict.fromkeys([S.CANCELING, S.CANCELED], S.CANCELED)}
"""How jobs end that do not become complete, by the state in which they are left."""


def _job_id(state: JobState) -> str:
    return f"66666666-0000-4000-8000-{list(STATES).index(state):012}"


def _input(state: JobState) -> tuple[str, bytes]:
    """Return the input of the job in this state: that of the one which was not started has not been downloaded for others."""
    return ("data/in/1.txt", b"data/in/1.txt") if state is S.CREATED else ("data/in/0.txt", OUTPUT)


def _document(state: JobState, **details: Any) -> dict[str, Any]:
    """Return a job in this state as the deployed service stores it."""
    job = copy.deepcopy(DEPLOYED["jobs"][0])
    ended = ("cpu_hours", "cpu_factor", "max_memory", "output_file_count", "outputs")
    for name in (*ended, "htcondor_details"):
        job.pop(name, None)
    for name in ("refdata_id", "default_refdata_mount_point"):
        del job["image"][name]
    steps = job["transition_times"]
    first = {**steps[0], "notif_sent": True}
    passed = [
        {**first, "state": each.value, "time": step["time"], "trans_id": f"{_job_id(state)} {each}"}
        for each, step in zip([S.CREATED, *STATES[state]], steps, strict=False)
    ]
    path, content = _input(state)
    given = {
        "cluster": PERLMUTTER.value,
        "image": f"{IMAGE}:1.2",
        "params": {
            "input_mount_point": "/input_files",
            "output_mount_point": "/output_files",
            "declobber": False,
        },
        "num_containers": 1,
        "output_dir": f"data/out/{state.value}/",
        "input_files": [{"file": path, "crc64nvme": crc64nvme_text(content)}],
    }
    return job | {
        "id": _job_id(state),
        "user": "ana",
        "state": state.value,
        "transition_times": passed,
        "job_input": {**job["job_input"], **given, "input_roots": None},
        "image": {**job["image"], "name": IMAGE, "entrypoint": ["/bin/bash", "-c", COPY, "x"]},
        "input_file_count": 1,
        "_update_time": passed[-1]["time"],
        **details,
    }


def _leave_all(world: JAWSWorld, state: JobState) -> dict[str, Any]:
    """Leave what there is at NERSC, at JAWS and in S3 of a job in this state; return what its document tells of that."""
    passed, job_id = STATES[state], _job_id(state)
    files: dict[str, Any] = {}
    details: dict[str, Any] = {}
    if S.DOWNLOAD_SUBMITTED in passed:
        files["download_result.json"] = DONE
        details["nersc_details"] = {"download_task_id": ["gone"]}
    if state is S.CANCELING:
        run = world.sites.jaws.submit(job_id)
        run.move("running")
        details["jaws_details"] = {"run_id": [str(run.id)]}
    elif S.JOB_SUBMITTING in passed:
        run_id = _end_run(world.sites, job_id, "failed" if state in FAILED else "succeeded")
        if S.JOB_SUBMITTED in passed:
            # The last one counts.
            details["jaws_details"] = {"run_id": ["1", run_id]}
    if S.UPLOAD_SUBMITTED in passed:
        files |= {"upload_checksums.json": SUMS, "upload_result.json": DONE}
        details["nersc_details"]["upload_task_id"] = ["gone"]
        world.minio.put({f"data/out/{state.value}/sub dir/x.txt": OUTPUT})
    if S.ERROR_PROCESSING_SUBMITTED in passed:
        files["error_log_result.json"] = LOGS_DONE
        details["nersc_details"]["log_upload_task_id"] = ["gone"]
    if state is S.COMPLETE:
        output = {"file": "data/out/complete/sub dir/x.txt", "crc64nvme": crc64nvme_text(OUTPUT)}
        details |= {"outputs": [output], "output_file_count": 1}
    if state is S.ERROR:
        details |= {"error": "At least one container exited with a non-zero error code"}
    _leave(world.sites, job_id, files)
    return details


@pytest.mark.timeout(240)
async def test_documents_of_each_state_are_adopted_and_go_on(
    world: JAWSWorld, mongo_settings: MongoSettings, db: Database[Any], on_mongo: dict[str, str]
):
    world.minio.put(dict(map(_input, (S.CREATED, S.COMPLETE))))
    world.settings = {"records": "mongo", "mongo": mongo_settings.model_dump()}
    _cache(world.sites, OUTPUT)
    left = [_document(state, **_leave_all(world, state)) for state in STATES]
    db["jobs"].insert_many(left)
    ended = {"id": {"$in": [_job_id(S.COMPLETE), _job_id(S.ERROR)]}}
    db["exitcodes"].insert_many(
        [
            {"id": _job_id(S.COMPLETE), "exit_codes": [0]},
            {"id": _job_id(S.ERROR), "exit_codes": [3]},
        ]
    )
    before = list(db["jobs"].find(ended))
    environ = {"PATH": os.defpath, "CTS_CONFIG": os.devnull, "CTS_HOME": str(world.folder / "x")}
    shown = await asyncio.to_thread(run_cts, "adopt", "--continue", environ=environ | on_mongo)
    assert (shown.returncode, shown.stdout) == (0, "9 jobs taken over\n"), shown.stderr

    async with world.server() as server:
        engine, user = server.harness.engine, server.harness.user
        for state in STATES:
            job = await server.harness.wait_until_ended(_job_id(state))
            end = ENDS.get(state, S.COMPLETE)
            assert job.state is end, (state, job.error)
            if end is not S.CANCELED:
                codes = await engine.jobs.exit_codes(user, job.id)
                assert codes.exit_codes == [0 if end is S.COMPLETE else 3], state
            if end is S.COMPLETE:
                path, (_, content) = f"data/out/{state.value}/sub dir/x.txt", _input(state)
                assert [output.file for output in job.outputs or ()] == [path]
                assert world.minio.read(path) == content
    assert list(db["jobs"].find(ended)) == before
    runs = {run.tag: run.result for run in world.sites.jaws.runs.values()}
    assert len(world.sites.jaws.runs) == len(runs)
    assert runs == {
        **dict.fromkeys(map(_job_id, STATES), "succeeded"),
        **dict.fromkeys(map(_job_id, FAILED), "failed"),
        _job_id(S.CANCELING): "cancelled",
    }
