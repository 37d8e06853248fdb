"""The worker on a node: from its start to checksummed outputs, and the permissions to run a container."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from pathlib import Path

import pytest

from cts_core.worker.checksum import crc64nvme_text
from tests.harness.node_worker import STOPPED, TIMEOUT, NodeHarness
from tests.services.pythons import find_python
from tests.services.s3 import ACCESS_KEY, SECRET, S3Server
from tests.simulators.kbase_auth import KBaseAuth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("runtime", "version"),
    [("podman", "python3"), ("docker", "python3.9"), ("apptainer", "python3")],
    indirect=["runtime"],
)
async def test_from_inputs_to_checksummed_outputs(
    node: NodeHarness, minio: S3Server, version: str, tmp_path: Path
) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python/python3").symlink_to(find_python(version))
    job_id, (token,) = await node.submit(
        "cat /input_files/a /input_files/b > /output_files/both; echo out; echo err >&2; busybox ln -s x /output_files/link"
    )
    code, stderr = await node.run(job_id, token, ADDITIONAL_PATH=str(tmp_path / "python"))
    assert code == 0, stderr
    job = await node.until(job_id, "complete", "error")
    assert job["state"] == "complete", (job, stderr)
    whole = b"a\nb\n"
    path = f"{job['job_input']['output_dir']}both"
    assert job["outputs"] == [{"file": path, "crc64nvme": crc64nvme_text(whole)}]
    with contextlib.closing(minio.client()) as client:
        bucket, _, key = path.partition("/")
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == whole
    assert [step["state"] for step in job["transition_times"]] == [
        "created", "download_submitted", "job_submitting", "job_submitted", "upload_submitting",
        "upload_submitted", "complete",
    ]  # fmt: skip
    assert (await node.log(job_id), await node.log(job_id, stream="stderr")) == ("out\n", "err\n")
    assert token not in stderr


async def test_resource_usage_and_warnings_are_reported(node: NodeHarness) -> None:
    job_id, (token,) = await node.submit(
        "cd /output_files; echo x > made; busybox ln -s made link; dd if=/dev/zero bs=1M count=3000 | cat > /dev/null"
    )
    code, stderr = await node.run(job_id, token)
    assert code == 0, stderr
    job = await node.until(job_id, "complete", "error")
    assert job["cpu_hours"] > 0, job
    assert job["max_memory"] > 0
    assert any("no regular files: link" in warning for warning in job["warnings"]), job


async def test_log_is_shown_and_an_evicted_container_runs_again(
    node: NodeHarness,
) -> None:
    gate = "/output_files/gate"
    job_id, (token,) = await node.submit(f"echo begun; until [ -e {gate} ]; do sleep 0.1; done")
    worker = await node.start(job_id, token)
    async with asyncio.timeout(TIMEOUT):
        while await node.log(job_id) != "begun\n":
            assert worker.returncode is None, await node.wait(worker)
            await asyncio.sleep(0.1)
    worker.terminate()
    code, stderr = await node.wait(worker)
    assert code == STOPPED, stderr
    # The container is not ended: HTCondor may run it again, and no other worker may.
    assert (await node.job(job_id))["state"] == "job_submitted"
    code, stderr = await node.run(job_id, token, run=1)
    assert (code, "Another worker has" in stderr) == (0, True), stderr
    again = await node.start(job_id, token, run=2)
    outputs = node.outputs(again)
    async with asyncio.timeout(TIMEOUT):
        while not outputs.exists():
            await asyncio.sleep(0.05)
    (outputs / "gate").touch()
    code, stderr = await node.wait(again)
    assert code == 0, stderr
    await node.until(job_id, "complete")
    # A worker that starts after the end has nothing to do.
    code, stderr = await node.run(job_id, token, run=3)
    assert (code, "Not wanted any more" in stderr) == (0, True), stderr


async def test_a_run_that_was_cut_off_reports_nothing_once_its_container_runs_again(
    node: NodeHarness,
) -> None:
    gate = "/output_files/gate"
    program = f"touch /output_files/begun; until [ -e {gate} ]; do sleep 0.1; done"
    job_id, (token,) = await node.submit(program)
    # HTCondor begins the second run when the node of the first does not answer, though that may go on.
    first, second = [await _begin(node, job_id, token, run) for run in (1, 2)]
    # On this one machine the second run clears up what the first has left, its container.
    code, stderr = await node.wait(first)
    assert (code, "Not wanted any more" in stderr) == (0, True), stderr
    assert (await node.job(job_id))["state"] == "job_submitted"
    (node.outputs(second) / "gate").touch()
    code, stderr = await node.wait(second)
    assert code == 0, stderr
    await node.until(job_id, "complete")


async def _begin(
    node: NodeHarness, job_id: str, token: str, run: int
) -> asyncio.subprocess.Process:
    """Start a run of a container; return its worker once the program runs."""
    worker = await node.start(job_id, token, run=run)
    # Processes of the job may be those of an earlier run.
    await node.eventually(worker, (node.outputs(worker) / "begun").exists)
    return worker


async def test_log_is_readable_within_ten_seconds(node: NodeHarness) -> None:
    gate = "/output_files/gate"
    job_id, (token,) = await node.submit(f"until [ -e {gate} ]; do date +%s; sleep 1; done")
    worker = await node.start(job_id, token)
    times: list[int] = []
    oldest = 0.0
    async with asyncio.timeout(TIMEOUT):
        while len(times) < 15:
            assert worker.returncode is None, await node.wait(worker)
            times = [int(line) for line in (await node.log(job_id) or "").split()]
            if times:
                oldest = max(oldest, time.time() - times[-1])
            await asyncio.sleep(0.1)
    # The output has whole seconds, one line each.
    assert oldest < 10 + 2
    (node.outputs(worker) / "gate").touch()
    code, stderr = await node.wait(worker)
    assert code == 0, stderr


async def test_one_of_two_workers_runs_the_container(node: NodeHarness) -> None:
    job_id, (token,) = await node.submit("touch /output_files/x")
    workers = [await node.start(job_id, token) for _ in range(2)]
    ended = [await node.wait(worker) for worker in workers]
    assert [code for code, _ in ended] == [0, 0], ended
    assert sum("Another worker has" in stderr or "Not wanted" in stderr for _, stderr in ended) == 1
    await node.until(job_id, "complete")


async def test_canceled_job_is_not_started(node: NodeHarness) -> None:
    job_id, (token,) = await node.submit("true")
    await node.call("PUT", f"/jobs/{job_id}/cancel")
    code, stderr = await node.run(job_id, token)
    assert (code, "Not wanted any more" in stderr) == (0, True), stderr


async def test_a_program_that_fails(node: NodeHarness) -> None:
    job_id, (token,) = await node.submit("echo why >&2; exit 3")
    code, stderr = await node.run(job_id, token)
    assert code == 0, stderr
    job = await node.until(job_id, "error")
    assert "error_processing_submitted" in [step["state"] for step in job["transition_times"]]
    assert await node.log(job_id, stream="stderr") == "why\n"
    assert (await node.call("GET", f"/jobs/{job_id}/exit_codes"))["exit_codes"] == [3]
    assert job["logpath"] == f"logs/container_logs/{job_id}"


@pytest.mark.parametrize("runtime", ["podman", "apptainer"], indirect=True)
async def test_reference_data_is_where_the_node_has_it(
    node: NodeHarness, kbase_auth: KBaseAuth, tmp_path: Path
) -> None:
    registered = await node.call("POST", "/admin/refdata/data/ana/in/a", node.admin)
    refdata_id = registered["id"]
    service = kbase_auth.add("stager", "CTS_REFDATA_SERVICE")
    update = f"/external_exec/refdata/{refdata_id}/kbase/update"
    for state in ("download_submitted", "complete"):
        await node.call("PUT", f"{update}/{state}", service)
    image = await node.image(
        "cat /ref/index > /output_files/copy; touch /ref/new || echo no >> /output_files/copy",
        refdata_id=refdata_id,
    )
    params = {"refdata_mount_point": "/ref"}

    job_id, (token,) = await node.submit(image=image, params=params)
    code, stderr = await node.run(job_id, token)
    assert code == 0, stderr
    message = (await node.until(job_id, "error", "complete"))["error"]
    assert f"is not there: {tmp_path}/refdata/{refdata_id}" in message

    folder = tmp_path / "refdata" / refdata_id
    folder.mkdir(parents=True)
    (folder / "index").write_text("reference\n")
    job_id, (token,) = await node.submit(image=image, params=params)
    code, stderr = await node.run(job_id, token)
    assert code == 0, stderr
    (output,) = (await node.until(job_id, "error", "complete"))["outputs"]
    assert output["crc64nvme"] == crc64nvme_text(b"reference\nno\n")


def _bare(folder: Path) -> str:
    """Make a PATH with only what the launcher needs."""
    for tool in ("rm", "mkdir"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    (folder / "python3").symlink_to(sys.executable)
    return str(folder)


async def test_node_without_a_runtime_is_an_error(node: NodeHarness, tmp_path: Path) -> None:
    job_id, (token,) = await node.submit("true")
    code, stderr = await node.run(job_id, token, PATH=_bare(tmp_path), CTS_RUNTIME="")
    assert code == 0, stderr
    job = await node.until(job_id, "error")
    assert "has none of docker, podman, apptainer" in job["error"]


async def test_service_outage_during_a_run(node: NodeHarness) -> None:
    job_id, (token,) = await node.submit("cd /output_files; until [ -e gate ]; do sleep 0.1; done")
    worker = await node.start(job_id, token)
    await node.until(job_id, "job_submitted")
    before = node.proxies.service.connections
    node.proxies.service.closed = True
    node.proxies.service.cut()
    (node.outputs(worker) / "gate").touch()
    async with asyncio.timeout(TIMEOUT):
        while node.proxies.service.connections < before + 3:
            await asyncio.sleep(0.05)
    node.proxies.service.closed = False
    code, stderr = await node.wait(worker)
    assert code == 0, stderr
    await node.until(job_id, "complete")


async def test_missing_variable_is_named_and_the_job_held(
    node: NodeHarness, tmp_path: Path
) -> None:
    for changes, words in (
        ({"TOKEN_PATH": "none"}, "TOKEN_PATH cannot be read"),
        ({"JOB_ID": ""}, "not told JOB_ID"),
        ({"MOUNT_PREFIX_OVERRIDE": "/a"}, "MOUNT_PREFIX_OVERRIDE is not two folders"),
    ):
        code, stderr = await node.run("some-job", "cts-worker.x", **changes)
        assert (code, words in stderr) == (1, True), stderr


async def test_token_and_keys_of_operators(
    node: NodeHarness, minio: S3Server, kbase_auth: KBaseAuth, tmp_path: Path
) -> None:
    job_id, _ = await node.submit("cat /input_files/a > /output_files/copy")
    (tmp_path / "token").write_text(kbase_auth.add("worker", "CTS_EXTERNAL_EXECUTOR"))
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    code, stderr = await node.run(
        job_id,
        "unused",
        TOKEN_PATH=str(tmp_path / "token"),
        S3_URL=minio.url,
        S3_ACCESS_KEY=ACCESS_KEY,
        S3_SECRET_PATH=str(tmp_path / "secret"),
    )
    assert code == 0, stderr
    (output,) = (await node.until(job_id, "complete"))["outputs"]
    assert output["crc64nvme"] == crc64nvme_text(b"a\n")


async def test_token_of_another_container_is_refused(node: NodeHarness) -> None:
    _, (foreign,) = await node.submit("true")
    job_id, _ = await node.submit("exit 0")
    code, stderr = await node.run(job_id, foreign)
    assert (code, "The token is another container's" in stderr) == (1, True), stderr
