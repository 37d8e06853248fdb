"""Retries of pulls from a registry."""

from __future__ import annotations

import pytest

from cts_core.worker.runtimes import pull
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.by_name import RUNTIMES
from tests.harness.worker import IMAGE, WorkerHarness


@pytest.mark.parametrize("runtime", ["docker", "apptainer"])
def test_unavailable_registry_is_retried(harness: WorkerHarness, tmp_path, runtime: str) -> None:
    program = tmp_path / runtime
    program.write_text("#!/bin/sh\n[ $1 = pull ] && echo connection refused >&2\nexit 1\n")
    program.chmod(0o755)
    for name in ("in", "out"):
        harness.path(name).mkdir()
    harness.change(
        container_runtime=runtime,
        runtime_command=[str(program)],
        image=IMAGE,
        image_folder=str(tmp_path / "images"),
    )
    delays: list[float] = []
    container = RUNTIMES[runtime](harness.plan, harness.folder)
    with pytest.raises(ContainerRuntimeError, match="cannot be reached: submit again later"):
        container.prepare(lambda seconds: delays.append(seconds) if seconds > 1 else None)
    assert len(delays) == pull.PULL_TRIES - 1
    assert all(
        pull.PULL_BACKOFF_SECONDS * 2**n <= delay <= pull.PULL_BACKOFF_SECONDS * 2 ** (n + 1)
        for n, delay in enumerate(delays)
    )
