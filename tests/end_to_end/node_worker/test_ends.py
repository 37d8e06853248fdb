"""A worker that is stopped or killed at each of its steps, and the next run of the same HTCondor process."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping

import pytest

from cts_core.worker.checksum import crc64nvme_text
from tests.harness.node_worker import LARGE, STOPPED, TIMEOUT, NodeHarness
from tests.harness.worker import is_stopped
from tests.services.containers import layer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Worker = asyncio.subprocess.Process
SCRIPT = """
echo begun
until [ -e /output_files/gate ]; do sleep 0.1; done
cat /input_files/large > /output_files/copy
"""
SLOW = 0.3
"""Seconds for each chunk through a slow proxy: some forty for the large file."""
SILENT = 600.0
"""Seconds for each chunk through a proxy that is silent for the whole test."""
PROMPT_SECONDS = 30.0
"""Seconds in which a stopped worker exits, on a busy machine."""


async def _at_failpoint(node: NodeHarness, job_id: str, worker: Worker) -> None:
    await node.eventually(worker, lambda: is_stopped(worker.pid))


async def _downloading(node: NodeHarness, job_id: str, worker: Worker) -> None:
    inputs = node.scratch(worker) / "cts-container/0/in"
    await node.eventually(worker, lambda: inputs.is_dir() and any(inputs.iterdir()))


async def _pulling(node: NodeHarness, job_id: str, worker: Worker) -> None:
    await node.eventually(worker, lambda: node.proxies.images.connections > 0)


async def _running(node: NodeHarness, job_id: str, worker: Worker) -> None:
    async with asyncio.timeout(TIMEOUT):
        while await node.log(job_id) != "begun\n":
            assert worker.returncode is None, await node.wait(worker)
            await asyncio.sleep(0.1)


async def _uploading(node: NodeHarness, job_id: str, worker: Worker) -> None:
    await _running(node, job_id, worker)
    node.proxies.s3.delay = SLOW
    (node.outputs(worker) / "gate").touch()
    await node.until(job_id, "upload_submitting")


async def _stored(node: NodeHarness, job_id: str, worker: Worker) -> None:
    await _running(node, job_id, worker)
    (node.outputs(worker) / "gate").touch()
    await _at_failpoint(node, job_id, worker)


Reach = Callable[[NodeHarness, str, Worker], Awaitable[None]]
STEPS: Mapping[str, tuple[Reach, str]] = {
    "before-claim": (_at_failpoint, "node-claim:before"),
    "after-claim": (_at_failpoint, "node-claim:after"),
    "downloading": (_downloading, ""),
    "pulling": (_pulling, ""),
    "running": (_running, ""),
    "uploading": (_uploading, ""),
    "stored": (_stored, "node-result:before"),
}
"""How each step is reached, and the failpoint at which the worker then stops."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
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
async def test_stopped_or_killed_worker_runs_again(
    node: NodeHarness, step: str, number: signal.Signals
) -> None:
    # None of its layers is present yet.
    image = await node.image(
        entrypoint=["/bin/sh", "-c", SCRIPT], layers=[layer(("bin/large", os.urandom(len(LARGE))))]
    )
    job_id, (token,) = await node.submit(image=image, input_files=["data/ana/large"])
    reach, point = STEPS[step]
    node.proxies.s3.delay = SLOW if step == "downloading" else 0.0
    node.proxies.images.delay = SLOW if step == "pulling" else 0.0
    node.proxies.images.connections = 0
    worker = await node.start(job_id, token, CTS_FAILPOINTS=f"{point}=stop" if point else "")
    await reach(node, job_id, worker)
    begun = time.monotonic()
    worker.send_signal(number)
    if point:
        worker.send_signal(signal.SIGCONT)
    code, stderr = await node.wait(worker)
    node.proxies.s3.delay = node.proxies.images.delay = 0.0
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert time.monotonic() - begun < PROMPT_SECONDS
        # Once all is stored there is no more to end.
        assert code == (0 if step == "stored" else STOPPED), stderr
        await node.wait_until_clean(worker, job_id)
    if code == 0:
        await node.until(job_id, "complete")
    # Leftovers in the runtime do not obstruct the next run.
    again = await node.start(job_id, token, run=2)
    if code != 0:
        await node.eventually(again, node.outputs(again).is_dir)
        (node.outputs(again) / "gate").touch()
    code, stderr = await node.wait(again)
    assert code == 0, stderr
    await node.wait_until_clean(again, job_id)
    job = await node.until(job_id, "complete", "error")
    folder = job["job_input"]["output_dir"]
    assert {output["file"]: output["crc64nvme"] for output in job["outputs"]} == {
        f"{folder}copy": crc64nvme_text(LARGE), f"{folder}gate": crc64nvme_text(b""),
    }  # fmt: skip
    states = [transition["state"] for transition in job["transition_times"]]
    assert len(states) == len(set(states))
    assert (await node.call("GET", f"/jobs/{job_id}/exit_codes"))["exit_codes"] == [0]
    assert list(node.running(job_id)) == []


@pytest.mark.parametrize("runtime", ["podman"], indirect=True)
@pytest.mark.parametrize("reach", [_downloading, _running, _uploading])
async def test_sigterm_ends_the_wait_for_servers(node: NodeHarness, reach: Reach) -> None:
    job_id, (token,) = await node.submit(
        image=await node.image(SCRIPT), input_files=["data/ana/large"]
    )
    node.proxies.s3.delay = SLOW if reach is _downloading else 0.0
    worker = await node.start(job_id, token)
    await reach(node, job_id, worker)
    for proxy in (node.proxies.s3, node.proxies.service):
        proxy.delay = SILENT
    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    code, stderr = await node.wait(worker)
    assert code == STOPPED, stderr
    assert time.monotonic() - begun < PROMPT_SECONDS
    await node.wait_until_clean(worker, job_id)


@pytest.mark.parametrize("runtime", ["podman", "docker"], indirect=True)
async def test_orphan_of_a_killed_worker_is_removed_by_the_next(node: NodeHarness) -> None:
    image = await node.image("echo begun; until [ -e /output_files/gate ]; do sleep 0.1; done")
    (lost, (token,)), (job_id, (other,)) = [await node.submit(image=image) for _ in range(2)]
    worker = await node.start(lost, token)
    await _running(node, lost, worker)
    worker.kill()
    await node.wait(worker)
    assert list(node.running(lost)) != []
    worker = await node.start(job_id, other)
    await node.eventually(worker, lambda: not list(node.running(lost)))
    await _running(node, job_id, worker)
    (node.outputs(worker) / "gate").touch()
    code, stderr = await node.wait(worker)
    assert code == 0, stderr
    await node.until(job_id, "complete")
