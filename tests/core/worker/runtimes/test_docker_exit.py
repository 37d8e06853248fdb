"""The exit of a container, by what a simulated docker reports."""

from __future__ import annotations

import pytest

from cts_core.worker.runtimes import docker
from tests.harness.worker import IMAGE, WorkerHarness


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # A running container has exit code 0, too.
        ('{"Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "ExitCode": 0}', "lost sight"),
        ("", "does not say how it ended"),
    ],
)
def test_container_without_a_certain_end_is_not_a_success(
    harness: WorkerHarness, tmp_path, monkeypatch, state: str, expected: str
) -> None:
    monkeypatch.setattr(docker, "SETTLE_SECONDS", 0.0)
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\necho '{state}'\n")
    program.chmod(0o755)
    harness.change(container_runtime="docker", runtime_command=[str(program)], image=IMAGE)
    end = docker.DockerContainer(harness.plan, harness.folder).describe_exit(0)
    assert end.code is None
    assert expected in (end.reason or "")
