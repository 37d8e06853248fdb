"""A worker that is told to end, or killed, at each of its steps, and the same process of HTCondor's queue run again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping

import pytest

from cts_core.worker.checksum import crc64nvme_text
from tests.core.worker.conftest import is_stopped
from tests.services.containers import layer

from .conftest import LARGE, PATIENCE, STOPPED, Pool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Worker = asyncio.subprocess.Process
SCRIPT = """
echo begun
until [ -e /output_files/gate ]; do sleep 0.1; done
cat /input_files/large > /output_files/copy
"""
SLOW = 0.3
"""Seconds that each piece takes by a slow door: the large file some forty."""
SILENT = 600.0
"""The same, by one that says nothing while a test runs."""
PROMPT_SECONDS = 30.0
"""In which a worker that is told to end does so, on a busy machine."""


async def _at_failpoint(pool: Pool, job_id: str, worker: Worker) -> None:
    await pool.eventually(worker, lambda: is_stopped(worker.pid))


async def _downloading(pool: Pool, job_id: str, worker: Worker) -> None:
    inputs = pool.scratch(worker) / "cts-container/0/in"
    await pool.eventually(worker, lambda: inputs.is_dir() and any(inputs.iterdir()))


async def _pulling(pool: Pool, job_id: str, worker: Worker) -> None:
    await pool.eventually(worker, lambda: pool.doors.images.connections > 0)


async def _running(pool: Pool, job_id: str, worker: Worker) -> None:
    async with asyncio.timeout(PATIENCE):
        while await pool.log(job_id) != "begun\n":
            assert worker.returncode is None, await pool.ended(worker)
            await asyncio.sleep(0.1)


async def _uploading(pool: Pool, job_id: str, worker: Worker) -> None:
    await _running(pool, job_id, worker)
    pool.doors.s3.delay = SLOW
    (pool.outputs(worker) / "gate").touch()
    await pool.until(job_id, "upload_submitting")


async def _stored(pool: Pool, job_id: str, worker: Worker) -> None:
    await _running(pool, job_id, worker)
    (pool.outputs(worker) / "gate").touch()
    await _at_failpoint(pool, job_id, worker)


Reach = Callable[[Pool, str, Worker], Awaitable[None]]
STEPS: Mapping[str, tuple[Reach, str]] = {
    "before-claim": (_at_failpoint, "node-claim:before"),
    "after-claim": (_at_failpoint, "node-claim:after"),
    "downloading": (_downloading, ""),
    "pulling": (_pulling, ""),
    "running": (_running, ""),
    "uploading": (_uploading, ""),
    "stored": (_stored, "node-result:before"),
}
"""How each step is reached, and the point at which the worker stands still then."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
@pytest.mark.parametrize(
    ("runtime", "step"),
    [
        *(("podman", step) for step in STEPS),
        *(
            (runtime, step)
            for runtime in ("docker", "apptainer")
            for step in ("pulling", "running")
        ),
    ],
    indirect=["runtime"],
)
async def test_the_same_process_runs_again(pool: Pool, step: str, number: signal.Signals) -> None:
    # None of its layers is there already.
    image = await pool.image(
        entrypoint=["/bin/sh", "-c", SCRIPT], layers=[layer(("bin/large", os.urandom(len(LARGE))))]
    )
    job_id, (token,) = await pool.submit(image=image, input_files=["data/ana/large"])
    reach, point = STEPS[step]
    pool.doors.s3.delay = SLOW if step == "downloading" else 0.0
    pool.doors.images.delay = SLOW if step == "pulling" else 0.0
    pool.doors.images.connections = 0
    worker = await pool.start(job_id, token, CTS_FAILPOINTS=f"{point}=stop" if point else "")
    await reach(pool, job_id, worker)
    begun = time.monotonic()
    worker.send_signal(number)
    if point:
        worker.send_signal(signal.SIGCONT)
    code, said = await pool.ended(worker)
    pool.doors.s3.delay = pool.doors.images.delay = 0.0
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert time.monotonic() - begun < PROMPT_SECONDS
        # Once all is stored there is no more to end.
        assert code == (0 if step == "stored" else STOPPED), said
        await pool.nothing_is_left(worker, job_id)
    if code == 0:
        await pool.until(job_id, "complete")
    # Whatever it left with the runtime is in the way of nobody.
    again = await pool.start(job_id, token, run=2)
    if code != 0:
        await pool.eventually(again, pool.outputs(again).is_dir)
        (pool.outputs(again) / "gate").touch()
    code, said = await pool.ended(again)
    assert code == 0, said
    await pool.nothing_is_left(again, job_id)
    job = await pool.until(job_id, "complete", "error")
    folder = job["job_input"]["output_dir"]
    assert {output["file"]: output["crc64nvme"] for output in job["outputs"]} == {
        f"{folder}/copy": crc64nvme_text(LARGE), f"{folder}/gate": crc64nvme_text(b""),
    }  # fmt: skip
    states = [transition["state"] for transition in job["transition_times"]]
    assert len(states) == len(set(states))
    assert (await pool.call("GET", f"/jobs/{job_id}/exit_codes"))["exit_codes"] == [0]
    assert list(pool.running(job_id)) == []


@pytest.mark.parametrize("runtime", ["podman"], indirect=True)
@pytest.mark.parametrize("reach", [_downloading, _running, _uploading])
async def test_a_worker_that_is_told_to_end_waits_for_no_server(pool: Pool, reach: Reach) -> None:
    job_id, (token,) = await pool.submit(
        image=await pool.image(SCRIPT), input_files=["data/ana/large"]
    )
    pool.doors.s3.delay = SLOW if reach is _downloading else 0.0
    worker = await pool.start(job_id, token)
    await reach(pool, job_id, worker)
    for door in (pool.doors.s3, pool.doors.service):
        door.delay = SILENT
    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    code, said = await pool.ended(worker)
    assert code == STOPPED, said
    assert time.monotonic() - begun < PROMPT_SECONDS
    await pool.nothing_is_left(worker, job_id)


@pytest.mark.parametrize("runtime", ["podman", "docker"], indirect=True)
async def test_what_a_killed_worker_left_goes_when_another_job_comes(pool: Pool) -> None:
    image = await pool.image("echo begun; until [ -e /output_files/gate ]; do sleep 0.1; done")
    (lost, (token,)), (job_id, (other,)) = [await pool.submit(image=image) for _ in range(2)]
    worker = await pool.start(lost, token)
    await _running(pool, lost, worker)
    worker.kill()
    await pool.ended(worker)
    assert list(pool.running(lost)) != []
    worker = await pool.start(job_id, other)
    await pool.eventually(worker, lambda: not list(pool.running(lost)))
    await _running(pool, job_id, worker)
    (pool.outputs(worker) / "gate").touch()
    code, said = await pool.ended(worker)
    assert code == 0, said
    await pool.until(job_id, "complete")
