"""The container runtimes by their names."""

from __future__ import annotations

from typing import Callable, Mapping

from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.apptainer import ApptainerContainer
from cts_core.worker.runtimes.base import Container
from cts_core.worker.runtimes.docker import DockerContainer
from cts_core.worker.runtimes.docker_cli import container_name, remove_container
from cts_core.worker.runtimes.host import HostContainer
from cts_core.worker.runtimes.orphans import start_removal

REMOVE_TIMEOUT = 30.0
"""The timeout for a runtime that removes leftovers."""
RUNTIMES: Mapping[str, Callable[[WorkerPlan, ContainerFolder], Container]] = {
    "host": HostContainer,
    "docker": DockerContainer,
    "podman": DockerContainer,
    "apptainer": ApptainerContainer,
}
"""By the runtime's name in a plan."""


def remove_leftovers(plan: WorkerPlan) -> None:
    """Kill and remove the container that a killed worker left in the runtime. Raises ContainerRuntimeError."""
    if _outlive_workers(plan):
        name = container_name(plan.tag)
        remove_container(plan.runtime_command, name, timeout=REMOVE_TIMEOUT)


def start_orphan_removal(plan: WorkerPlan) -> None:
    """Start to remove, in the background, containers that killed workers left in this runtime. Raises nothing."""
    if _outlive_workers(plan):
        start_removal(plan.runtime_command)


def _outlive_workers(plan: WorkerPlan) -> bool:
    return plan.container_runtime in ("docker", "podman")
