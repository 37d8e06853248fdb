"""The interface of a container runtime: one container, from its image to its end."""

from __future__ import annotations

import os
import resource
import subprocess
from dataclasses import dataclass
from typing import Callable, Protocol

from cts_core.worker.container_folder import INPUTS, OUTPUTS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.memory import Memory

Sleep = Callable[[float], None]
"""Waits for so many seconds; raises when the container is not needed any more."""
_OUTPUTS_MODE = 0o777
_READ_FOLDER, _READ_FILE = 0o755, 0o644


class ContainerRuntimeError(Exception):
    """The container cannot be run; the text is for the job's owner and says what to do."""


@dataclass(frozen=True)
class ContainerExit:
    """The end of a container."""

    code: int | None
    """A shell's exit code: 128 plus the signal's number for a process that a signal ended; None: it never ran."""
    reason: str | None = None
    """The explanation where the code alone is not enough, in plain words."""


class Container(Protocol):
    """One container. For one thread, in this order: ``prepare``, ``start``, then the rest."""

    cpu_seconds: float | None
    """User and system time of all processes, as far as it is known."""
    is_suspended_with_us: bool
    """Whether a scheduler that suspends the processes of the worker's job suspends the container, too."""

    @property
    def peak_memory(self) -> Memory | None:
        """The most memory that all processes had together, as far as it is known."""

    def prepare(self, sleep: Sleep) -> None:
        """Provide all that a start needs. Raises ContainerRuntimeError and OSError."""

    def map_paths(self, text: str) -> str:
        """Return a text with its paths as the program sees them."""

    def start(self, sleep: Sleep) -> subprocess.Popen[bytes]:
        """Start it; return a process that has the container's pipes and ends with it. Raises ContainerRuntimeError, OSError."""

    def sample(self) -> int:
        """Measure the resource usage. Return the bytes of memory that count against the limit; 0 where the runtime enforces it."""

    def exit_fd(self) -> int | None:
        """Return, once, a descriptor that becomes readable when the container ends; None where there is none."""

    def on_child_exit(self, pid: int, usage: resource.struct_rusage) -> None:
        """Account for a child of this process that ended with this usage."""

    def signal(self, number: int) -> bool:
        """Send a signal to the container; return whether it may still run."""

    def describe_exit(self, code: int) -> ContainerExit:
        """Return how the container ended, once its process has ended with this exit code of a shell."""

    def remove(self) -> bool:
        """Kill and remove what is left of the container; return whether something may be left."""


@dataclass(frozen=True)
class Mount:
    """A folder of the worker's machine, and where its container finds it."""

    source: str
    target: str
    is_writable: bool = False
    is_shared: bool = False
    """Whether other containers may have it, too."""


def mounts(plan: WorkerPlan, folder: ContainerFolder) -> list[Mount]:
    """Return the folders that the container gets."""
    folders = [
        Mount(runtime_path(plan, folder.file(INPUTS)), plan.input_mount),
        Mount(runtime_path(plan, folder.file(OUTPUTS)), plan.output_mount, is_writable=True),
    ]
    if plan.refdata_mount is not None:
        folders.append(Mount(plan.refdata_folder, plan.refdata_mount, is_shared=True))
    return folders


def runtime_path(plan: WorkerPlan, path: str) -> str:
    """Return a path of the worker as its runtime sees it."""
    rest = path[len(plan.mount_from) :]
    if plan.mount_from and path.startswith(plan.mount_from) and rest[:1] in ("", "/"):
        return plan.mount_to + rest
    return path


def open_permissions(plan: WorkerPlan, folder: ContainerFolder) -> None:
    """Let any user of the image read the inputs and write outputs; the parent folder keeps other users out.

    Raises ContainerRuntimeError when the reference data is missing.
    """
    os.chmod(folder.file(OUTPUTS), _OUTPUTS_MODE)
    for path, _, files in os.walk(folder.file(INPUTS)):
        os.chmod(path, _READ_FOLDER)
        for name in files:
            os.chmod(os.path.join(path, name), _READ_FILE)
    # A runtime that sees other folders than the worker must check for itself.
    is_ours = not plan.mount_from
    if plan.refdata_mount is not None and is_ours and not os.path.isdir(plan.refdata_folder):
        raise ContainerRuntimeError(
            f"The reference data that its image needs is not there: {plan.refdata_folder}"
        )
