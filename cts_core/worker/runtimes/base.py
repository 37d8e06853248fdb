"""What every runtime does for one container, from its image to its end."""

from __future__ import annotations

import os
import resource
import subprocess
from dataclasses import dataclass
from typing import Callable, Protocol

from cts_core.worker.container_folder import INPUTS, OUTPUTS, ContainerFolder
from cts_core.worker.plan import WorkerPlan

Pause = Callable[[float], None]
"""Waits for so many seconds; raises when nobody needs the container any more."""
_OUTPUTS_MODE = 0o777
_READ_FOLDER, _READ_FILE = 0o755, 0o644


class ContainerRuntimeError(Exception):
    """The container cannot be run; the text is for its owner and says what to do."""


@dataclass(frozen=True)
class Exit:
    """How a container ended."""

    code: int | None
    """As a shell says it: 128 and the signal's number for a process that a signal ended; None: it never ran."""
    why: str | None = None
    """What the code alone does not say, in plain words."""


class Container(Protocol):
    """One container. For one thread, in this order: ``prepare``, ``start``, then the rest."""

    cpu_seconds: float | None
    """User and system time of all processes, as far as is known."""
    is_suspended_with_us: bool
    """Whether whoever suspends all processes of this one's job suspends the container, too."""

    @property
    def peak(self) -> int | None:
        """The most bytes of memory that all processes had together, as far as is known."""

    def prepare(self, pause: Pause) -> None:
        """Have all here that a start needs. Raises ContainerRuntimeError and OSError."""

    def place(self, text: str) -> str:
        """A text with the paths in it as the program is to see them."""

    def start(self, pause: Pause) -> subprocess.Popen[bytes]:
        """Start it: a process whose pipes are the container's, and which ends with it. Raises ContainerRuntimeError, OSError."""

    def look(self) -> int:
        """Measure. Returns the bytes of memory in use; 0 where the system itself keeps the limit."""

    def exit_fd(self) -> int | None:
        """What becomes readable when the container ends, where that is to be had and not told yet."""

    def reaped(self, usage: resource.struct_rusage) -> None:
        """A child of this process ended, having used this."""

    def signal(self, number: int) -> bool:
        """Send a signal to the container; whether it may still run."""

    def ended(self, code: int) -> Exit:
        """How it ended, once its process has, with this code of a shell."""

    def remove(self) -> bool:
        """End all that is left of it, and take it away; whether something may be left."""


def mounts(plan: WorkerPlan, folder: ContainerFolder) -> dict[str, str]:
    """Which folder stands for which mount point."""
    found = {
        plan.input_mount: as_seen(plan, folder.file(INPUTS)),
        plan.output_mount: as_seen(plan, folder.file(OUTPUTS)),
    }
    if plan.refdata_mount is not None:
        found[plan.refdata_mount] = plan.refdata_folder
    return found


def as_seen(plan: WorkerPlan, path: str) -> str:
    """A path of the worker's as its runtime knows it."""
    rest = path[len(plan.mount_from) :]
    if plan.mount_from and path.startswith(plan.mount_from) and rest[:1] in ("", "/"):
        return plan.mount_to + rest
    return path


def open_up(plan: WorkerPlan, folder: ContainerFolder) -> None:
    """Let whatever user an image runs as read the inputs and write outputs: the folder above keeps others out.

    Raises ContainerRuntimeError when the reference data is not there.
    """
    os.chmod(folder.file(OUTPUTS), _OUTPUTS_MODE)
    for path, _, files in os.walk(folder.file(INPUTS)):
        os.chmod(path, _READ_FOLDER)
        for name in files:
            os.chmod(os.path.join(path, name), _READ_FILE)
    # Where the runtime sees other folders than we do, it is to look.
    is_ours = not plan.mount_from
    if plan.refdata_mount is not None and is_ours and not os.path.isdir(plan.refdata_folder):
        raise ContainerRuntimeError(
            f"The reference data that its image needs is not there: {plan.refdata_folder}"
        )
