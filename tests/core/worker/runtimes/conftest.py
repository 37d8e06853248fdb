"""Fixtures of the tests of container runtimes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cts_core.worker.plan import WorkerPlan
from tests.harness.worker import IMAGE, WorkerHarness


@pytest.fixture
def plan(harness: WorkerHarness) -> WorkerPlan:
    return replace(
        harness.plan,
        tag="0b7c/3",
        container_runtime="docker",
        runtime_command=["docker", "--host", "x"],
        image=IMAGE,
        image_folder="/home/images",
        entrypoint=["/bin/tool", "run"],
        arguments=["--in", "/input_files/a,b"],
        environment={"LIST": "/input_files/a,/input_files/b"},
        memory=1_000_000_000,
        cpus=3,
        refdata_mount="/ref",
        refdata_folder="/home/refdata/r1",
    )
