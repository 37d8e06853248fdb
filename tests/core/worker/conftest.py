"""Fixtures of the worker's tests."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cts_core.worker.objects.directory import Directory
from cts_core.worker.plan import WorkerPlan
from tests.harness.worker import WorkerHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[WorkerHarness]:
    objects = Directory(str(tmp_path / "objects"))
    objects.create()
    with objects.writer("data/here") as writer:
        writer.commit()
    (tmp_path / "job" / "0").mkdir(parents=True)
    plan = WorkerPlan(
        tag=f"{tmp_path.name}/0",
        entrypoint=[],
        arguments=[],
        environment={"REPORT": str(tmp_path / "report")},
        program_file="",
        digest="",
        inputs=[],
        input_mount="/input_files",
        output_mount="/output_files",
        objects_root=str(tmp_path / "objects"),
        output_dir="data/out",
        log_paths={"stdout": "data/logs/0-stdout.txt", "stderr": "data/logs/0-stderr.txt"},
        memory=500_000_000,
        runtime=60.0,
        stop_grace=5.0,
        log_limit=1 << 20,
    )
    harness = WorkerHarness(tmp_path, objects, plan)
    harness.program("echo hello")
    yield harness
    for worker in harness.workers:
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(signal.SIGCONT)
            worker.kill()
        worker.wait()
        if worker.stderr:
            worker.stderr.close()
