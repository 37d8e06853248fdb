"""Which runtimes there are."""

from __future__ import annotations

from typing import Callable, Mapping

from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.apptainer import ApptainerContainer
from cts_core.worker.runtimes.base import Container
from cts_core.worker.runtimes.docker import EngineContainer
from cts_core.worker.runtimes.docker_cli import remove_container
from cts_core.worker.runtimes.host import HostContainer
from cts_core.worker.runtimes.orphans import begin_removal

LEFT_SECONDS = 30.0
"""The patience with a runtime that is to remove what is left."""
RUNTIMES: Mapping[str, Callable[[WorkerPlan, ContainerFolder], Container]] = {
    "host": HostContainer,
    "docker": EngineContainer,
    "podman": EngineContainer,
    "apptainer": ApptainerContainer,
}
"""By the name in a plan."""


def remove_leftovers(plan: WorkerPlan) -> None:
    """End and remove what a worker that was killed left with the runtime itself. Raises ContainerRuntimeError."""
    if _outlive_workers(plan):
        remove_container(plan.runtime_command, plan.tag, patience=LEFT_SECONDS)


def begin_removal_of_orphans(plan: WorkerPlan) -> None:
    """Have what killed workers of other containers left with this runtime removed, while we go on. Raises nothing."""
    if _outlive_workers(plan):
        begin_removal(plan.runtime_command)


def _outlive_workers(plan: WorkerPlan) -> bool:
    return plan.container_runtime in ("docker", "podman")
