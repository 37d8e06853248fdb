"""Tests of images of registries at the local site: the choice of a runtime, permissions, and whole jobs by podman."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cts_core.errors import (
    ResourceUnavailableError,
    UnsupportedError,
)
from cts_core.identity.identity import User
from cts_core.model.image import JobImage
from cts_core.model.record import JobRecord
from cts_core.states import JobState
from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.runtimes.docker_cli import container_name
from cts_core.worker.runtimes.probe import IMAGE_RUNTIMES
from tests.harness.factories import make_image
from tests.harness.sites import SiteHarness, local_harness, opened
from tests.services.containers import ContainerRuntime, layer
from tests.services.registry import Registry

S = JobState
ANA = User("ana")
SCRIPT = b'#!/bin/sh\ncat "$2" > "$1/copy"\necho done\nif [ "$3" = wait ]; then sleep 600; fi\n'
IMAGE = make_image(name="docker.io/a/b").for_job()


@pytest.fixture
async def harness(
    tmp_path: Path, podman: ContainerRuntime, registry: Registry
) -> AsyncIterator[SiteHarness]:
    harness = local_harness(
        tmp_path,
        plain_http=[registry.host],
        runtime="podman",
        runtime_command=podman.command,
        runtime_arguments=podman.arguments,
        network="none",
    )
    async with opened(harness):
        yield harness


@pytest.fixture(scope="session")
def image(registry: Registry) -> JobImage:
    """Push an image whose script copies its second argument into the folder in its first, and may wait."""
    entrypoint = ["/bin/copy"]
    digest = registry.push_image("copy", "1", entrypoint, layers=[layer(("bin/copy", SCRIPT))])
    image = make_image(name=f"{registry.host}/copy", digest=digest, entrypoint=entrypoint)
    return image.for_job()


def _job(harness: SiteHarness, image: JobImage, *words: str, **submission: Any) -> JobRecord:
    files = {"type": "input_files", "input_files_format": "comma_separated_list"}
    job = harness.job("true", params={"args": ["/output_files", files, *words]}, **submission)
    return job.model_copy(update={"image": image})


@pytest.mark.slow
async def test_job_of_an_image(
    harness: SiteHarness, image: JobImage, podman: ContainerRuntime
) -> None:
    job = _job(harness, image)
    assert await harness.site.preflight(ANA, job.job_input, image) == []
    assert any("podman 4" in note for note in (await harness.site.describe()).notes)
    await harness.hand_over(job)
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.COMPLETE, report.outcome
    assert harness.objects.read("data/out/copy") == b"data/in/0.txt"
    assert await harness.log(job) == (b"done\n", True)
    assert container_name(f"{job.id}/0") not in podman.containers()


@pytest.mark.slow
@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "by-the-next-server"])
async def test_container_of_a_killed_worker_is_removed(
    harness: SiteHarness,
    image: JobImage,
    podman: ContainerRuntime,
    tmp_path: Path,
    *,
    is_seen: bool,
) -> None:
    job = _job(harness, image, "wait")
    await harness.hand_over(job)
    async with asyncio.timeout(60):
        while await harness.log(job) != (b"done\n", False):
            await harness.poll()
            await asyncio.sleep(0.05)
    folder = ContainerFolder(str(tmp_path / "local" / "jobs" / job.id / "0"))
    if not is_seen:
        await harness.site.close()
    os.kill(folder.read_claim()["pid"], signal.SIGKILL)
    if not is_seen:
        assert container_name(f"{job.id}/0") in podman.containers()
        harness.site = harness.make_site()
        await harness.site.open(harness.on_change)
    (report,) = (await harness.until(job)).values()
    assert report.steps[-1].state is S.ERROR
    assert report.outcome.error is not None
    assert "worker of this container ended" in report.outcome.error
    # The refresh that finds the worker lost removes the leftovers, too.
    async with asyncio.timeout(60):
        while container_name(f"{job.id}/0") in podman.containers():
            await harness.poll()
            await asyncio.sleep(0.05)


async def test_image_is_refused_with_each_runtimes_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "path"
    programs.mkdir()
    broken = programs / "docker"
    broken.write_text("#!/bin/sh\necho no daemon here >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    harness = local_harness(tmp_path)
    await harness.site.open(harness.on_change)
    job = harness.job("true")
    with pytest.raises(UnsupportedError) as refusal:
        await harness.site.preflight(ANA, job.job_input, IMAGE)
    assert "docker: it gives no answer: no daemon here" in str(refusal.value)
    assert "podman: it is not installed" in str(refusal.value)
    assert "programs registered as host/<name> need none" in str(refusal.value)
    survey = await harness.site.images.survey()
    assert [line.split()[0] for line in survey[:3]] == list(IMAGE_RUNTIMES)
    # A job that was accepted while a runtime worked waits until one works again.
    with pytest.raises(ResourceUnavailableError, match="now: no container runtime works here"):
        await harness.hand_over(job.model_copy(update={"image": IMAGE}))
    await harness.site.close()


async def test_runtime_none_refuses_images(tmp_path: Path) -> None:
    harness = local_harness(tmp_path, runtime="none")
    await harness.site.open(harness.on_change)
    with pytest.raises(UnsupportedError, match="runtime is none"):
        await harness.site.preflight(ANA, harness.job("true").job_input, IMAGE)
    assert (await harness.site.describe()).available
    await harness.site.close()


async def test_programs_are_refused_on_a_shared_service(tmp_path: Path) -> None:
    harness = local_harness(
        tmp_path, takes_programs=False, runtime="docker", runtime_command=["/nowhere/docker"]
    )
    await harness.site.open(harness.on_change)
    job = harness.job("true")
    with pytest.raises(UnsupportedError, match="images of registries alone"):
        await harness.site.preflight(ANA, job.job_input, job.image)
    # Without its runtime nothing can run at all.
    description = await harness.site.describe()
    assert not description.available
    assert "there is no program /nowhere/docker" in (description.unavailable_reason or "")
    await harness.site.close()


@pytest.mark.slow
async def test_probing_apptainer_leaves_the_servers_other_children_alone(
    tmp_path: Path, apptainer: ContainerRuntime
) -> None:
    # A Jupyter server's kernels, for example.
    with subprocess.Popen(["sleep", "600"]) as kernel:
        harness = local_harness(tmp_path, runtime="apptainer", runtime_command=apptainer.command)
        await harness.site.open(harness.on_change)
        job = harness.job("true")
        (note,) = await harness.site.preflight(ANA, job.job_input, IMAGE)
        assert note.startswith("Apptainer runs an image as the user who runs the server")
        await harness.site.close()
        assert kernel.poll() is None
        kernel.kill()
