"""What goes wrong on a node: its owner reads why in plain words, HTCondor is done with it, and nothing is left there."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.disk import small_disk
from tests.services.containers import layer
from tests.services.registry import Registry, start_registry

from .conftest import LARGE, Pool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

twice = pytest.mark.parametrize("runtime", ["podman", "apptainer"], indirect=True)
"""By a runtime with a store of images, and by one without; the words of each are shown with its containers."""


async def _fails(pool: Pool, job: tuple[str, list[str]], words: str, **how: object) -> None:
    """The job's container ends in an error with these words, whatever else is to be so then."""
    job_id, (token,) = job
    worker = await pool.start(job_id, token, **how)
    code, said = await pool.ended(worker)
    assert code == 0, said
    told = await pool.until(job_id, "error", "complete")
    assert words in told.get("error", ""), (told, said)
    assert "Traceback" not in told["error"]
    admins = await pool.call("GET", f"/admin/jobs/{job_id}", pool.admin)
    assert f"Node: {platform.node()}" in admins["admin_error"]
    await pool.nothing_is_left(worker, job_id)


@contextmanager
def _registry(folder: Path, auth: Mapping[str, Any] | None = None) -> Iterator[Registry]:
    registry = start_registry(folder, auth)
    try:
        yield registry
    finally:
        registry.server.stop()


@twice
async def test_a_damaged_image(pool: Pool) -> None:
    image = await pool.image(layers=[b"no archive"])
    await _fails(pool, await pool.submit(image=image), "is damaged, or of a kind")


@twice
async def test_a_missing_entrypoint(pool: Pool) -> None:
    image = await pool.image(entrypoint=["/opt/tool"])
    await _fails(pool, await pool.submit(image=image), "The image has no program /opt/tool")


@twice
async def test_a_runtime_limit(pool: Pool) -> None:
    job = await pool.submit("sleep 600", runtime=2)
    await _fails(pool, job, "its runtime limit is 2 seconds. Submit it again")


@twice
async def test_too_little_memory(pool: Pool) -> None:
    job = await pool.submit(
        "dd if=/dev/zero bs=200M count=1000 of=/dev/null; exit $?", memory="60MB"
    )
    await _fails(pool, job, "Submit it again with more memory")


@twice
async def test_an_image_that_is_gone(pool: Pool, tmp_path: Path) -> None:
    job = await pool.submit()
    with _registry(tmp_path / "empty") as empty:
        pool.doors.images.target = empty.port
        await _fails(pool, job, "is not in its registry any more: register it again")


@twice
async def test_an_image_that_needs_a_login(pool: Pool, tmp_path: Path) -> None:
    job = await pool.submit()
    # It makes the file, with a user whom nobody knows.
    login = {"htpasswd": {"realm": "tests", "path": str(tmp_path / "closed/users")}}
    with _registry(tmp_path / "closed", login) as closed:
        pool.doors.images.target = closed.port
        await _fails(pool, job, "The registry refuses to give the image")


async def test_a_registry_that_is_away(pool: Pool) -> None:
    job = await pool.submit()
    pool.doors.images.closed = True
    before = pool.doors.images.connections
    await _fails(pool, job, "cannot be reached: submit again later")
    assert pool.doors.images.connections >= before + 4


async def test_inputs_that_fill_the_disk(pool: Pool, tmp_path: Path) -> None:
    job = await pool.submit(input_files=["data/ana/large"])
    with small_disk(tmp_path / "disk", "24m") as disk:
        await _fails(
            pool, job, "There is no space left on the disk for 'data/ana/large'", scratch=disk
        )


async def test_outputs_that_fill_the_disk(pool: Pool, tmp_path: Path) -> None:
    job = await pool.submit("dd if=/dev/zero of=/output_files/x bs=1M count=100 || exit 5")
    with small_disk(tmp_path / "disk", "40m") as disk:
        await _fails(
            pool, job, "exit code 5 while the disk that takes outputs was full", scratch=disk
        )


async def test_a_program_that_takes_no_notice_of_a_full_disk(pool: Pool, tmp_path: Path) -> None:
    job_id, (token,) = await pool.submit(
        "dd if=/dev/zero of=/output_files/x bs=1M count=100; exit 0"
    )
    with small_disk(tmp_path / "disk", "40m") as disk:
        code, said = await pool.run(job_id, token, scratch=disk)
    assert code == 0, said
    job = await pool.until(job_id, "error", "complete")
    assert job["state"] == "complete", (job, said)
    assert any("The disk that takes outputs was full" in each for each in job["warnings"]), job


@pytest.mark.parametrize("runtime", ["apptainer"], indirect=True)
async def test_an_image_that_fills_the_disk(pool: Pool, tmp_path: Path) -> None:
    image = await pool.image(layers=[layer(("bin/large", LARGE * 4))])
    job = await pool.submit(image=image)
    with small_disk(tmp_path / "disk", "40m") as disk:
        words = "This machine has no room for the image"
        await _fails(pool, job, words, scratch=disk, GLOBAL_CACHE_DIR="")


async def test_a_disk_that_is_full_before_the_worker_is_there(pool: Pool, tmp_path: Path) -> None:
    job_id, (token,) = await pool.submit()
    with small_disk(tmp_path / "disk", "8m") as disk:
        code, said = await pool.run(job_id, token, scratch=disk)
    assert code == 1
    assert "CTS: the code of the worker cannot be used" in said
    assert "No space left on device" in said
