"""Faults on a node: the owner gets a plain reason, HTCondor's job ends, and nothing is left on the node."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.disk import small_disk
from tests.harness.node_worker import LARGE, NodeHarness
from tests.services.containers import layer
from tests.services.registry import Registry, start_registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

twice = pytest.mark.parametrize("runtime", ["podman", "apptainer"], indirect=True)
"""With a runtime that has a store of images, and with one without; their messages differ."""


async def _fails(
    node: NodeHarness, job: tuple[str, list[str]], words: str, **options: object
) -> None:
    """Check that the job's container ends in an error with these words, and that the node is clean."""
    job_id, (token,) = job
    worker = await node.start(job_id, token, **options)
    code, stderr = await node.wait(worker)
    assert code == 0, stderr
    message = await node.until(job_id, "error", "complete")
    assert words in message.get("error", ""), (message, stderr)
    assert "Traceback" not in message["error"]
    admins = await node.call("GET", f"/admin/jobs/{job_id}", node.admin)
    assert f"Node: {platform.node()}" in admins["admin_error"]
    await node.wait_until_clean(worker, job_id)


@contextmanager
def _registry(folder: Path, auth: Mapping[str, Any] | None = None) -> Iterator[Registry]:
    registry = start_registry(folder, auth)
    try:
        yield registry
    finally:
        registry.server.stop()


@twice
async def test_a_damaged_image(node: NodeHarness) -> None:
    image = await node.image(layers=[b"no archive"])
    await _fails(node, await node.submit(image=image), "is damaged, or of a kind")


@twice
async def test_a_missing_entrypoint(node: NodeHarness) -> None:
    image = await node.image(entrypoint=["/opt/tool"])
    await _fails(node, await node.submit(image=image), "The image has no program /opt/tool")


@twice
async def test_a_runtime_limit(node: NodeHarness) -> None:
    job = await node.submit("sleep 600", runtime=2)
    await _fails(node, job, "its runtime limit is 2.0 s. Submit it again")


@twice
async def test_too_little_memory(node: NodeHarness) -> None:
    job = await node.submit(
        "dd if=/dev/zero bs=200M count=1000 of=/dev/null; exit $?", memory="60MB"
    )
    await _fails(node, job, "Submit it again with more memory")


@twice
async def test_image_missing_from_its_registry(node: NodeHarness, tmp_path: Path) -> None:
    job = await node.submit()
    with _registry(tmp_path / "empty") as empty:
        node.proxies.images.target = empty.port
        await _fails(node, job, "is not in its registry any more: register it again")


@twice
async def test_an_image_that_needs_a_login(node: NodeHarness, tmp_path: Path) -> None:
    job = await node.submit()
    # The registry makes the file, with a random user.
    login = {"htpasswd": {"realm": "tests", "path": str(tmp_path / "closed/users")}}
    with _registry(tmp_path / "closed", login) as closed:
        node.proxies.images.target = closed.port
        await _fails(node, job, "The registry refuses to give the image")


async def test_unavailable_registry(node: NodeHarness) -> None:
    job = await node.submit()
    node.proxies.images.closed = True
    before = node.proxies.images.connections
    await _fails(node, job, "cannot be reached: submit again later")
    assert node.proxies.images.connections >= before + 4


async def test_inputs_that_fill_the_disk(node: NodeHarness, tmp_path: Path) -> None:
    job = await node.submit(input_files=["data/ana/large"])
    with small_disk(tmp_path / "disk", "24m") as disk:
        await _fails(
            node, job, "There is no space left on the disk for 'data/ana/large'", scratch=disk
        )


async def test_outputs_that_fill_the_disk(node: NodeHarness, tmp_path: Path) -> None:
    job = await node.submit("dd if=/dev/zero of=/output_files/x bs=1M count=100 || exit 5")
    with small_disk(tmp_path / "disk", "40m") as disk:
        await _fails(
            node, job, "exit code 5 while the disk that takes outputs was full", scratch=disk
        )


async def test_program_that_ignores_a_full_disk(node: NodeHarness, tmp_path: Path) -> None:
    job_id, (token,) = await node.submit(
        "dd if=/dev/zero of=/output_files/x bs=1M count=100; exit 0"
    )
    with small_disk(tmp_path / "disk", "40m") as disk:
        code, stderr = await node.run(job_id, token, scratch=disk)
    assert code == 0, stderr
    job = await node.until(job_id, "error", "complete")
    assert job["state"] == "complete", (job, stderr)
    assert any("The disk that takes outputs was full" in each for each in job["warnings"]), job


@pytest.mark.parametrize("runtime", ["apptainer"], indirect=True)
async def test_an_image_that_fills_the_disk(node: NodeHarness, tmp_path: Path) -> None:
    image = await node.image(layers=[layer(("bin/large", LARGE * 4))])
    job = await node.submit(image=image)
    with small_disk(tmp_path / "disk", "40m") as disk:
        words = "This machine has no room for the image"
        await _fails(node, job, words, scratch=disk, GLOBAL_CACHE_DIR="")


async def test_disk_full_before_the_worker_starts(node: NodeHarness, tmp_path: Path) -> None:
    job_id, (token,) = await node.submit()
    with small_disk(tmp_path / "disk", "8m") as disk:
        code, stderr = await node.run(job_id, token, scratch=disk)
    assert code == 1
    assert "CTS: the code of the worker cannot be used" in stderr
    assert "No space left on device" in stderr
