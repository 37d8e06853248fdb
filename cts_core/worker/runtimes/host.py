"""Runs a program of this machine as if it were a container. It isolates nothing."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from signal import SIGKILL
from typing import Mapping

from cts_core.worker.container_folder import OUTPUTS, SCRATCH, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.base import ContainerRuntimeError, Exit, Pause, mounts
from cts_core.worker.runtimes.process_tree import Descendants
from cts_core.worker.runtimes.processes import TAG

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_PIECE = 1 << 20
_SEPARATOR = r"""[\s,;:=|&"'()\[\]{}<>]"""
"""What may stand around a path within a longer text."""


def map_mounts(text: str, mounts: Mapping[str, str]) -> str:
    """Put real folders in place of mount points, wherever one stands as a path of its own or begins one.

    ``--in=/input_files/a,/input_files/b`` has two; ``/data/input_files`` and ``/input_files2`` have none. Where
    one mount point lies within another, the longer wins.
    """
    folders = {mount.rstrip("/"): folder for mount, folder in mounts.items()}
    longest_first = sorted(folders, key=len, reverse=True)
    pattern = "|".join(re.escape(mount) for mount in longest_first)
    return re.sub(
        rf"(?<!(?!{_SEPARATOR}).)({pattern})(?=/|{_SEPARATOR}|\Z)",
        lambda match: folders[match[1]],
        text,
        flags=re.DOTALL,
    )


def base_environment(scratch: str) -> dict[str, str]:
    """What a host program finds in its environment, its job's own variables aside.

    Of the server's environment, which may hold secrets, only what says where and in which language.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"LANG": "C.UTF-8", **environment, "HOME": scratch, "TMPDIR": scratch}


def check_program(plan: WorkerPlan) -> None:
    """Raise ContainerRuntimeError unless the program still is what was registered."""
    sha256 = hashlib.sha256()
    with open(plan.program_file, "rb", 0) as file:
        while piece := file.read(_PIECE):
            sha256.update(piece)
    if f"sha256:{sha256.hexdigest()}" != plan.digest:
        raise ContainerRuntimeError(
            f"The program {plan.program_file} has changed since it was registered: delete the image, register "
            "it again, and submit again"
        )


class HostContainer(Descendants):
    """See Container."""

    def __init__(self, plan: WorkerPlan, folder: ContainerFolder) -> None:
        super().__init__()
        self._plan = plan
        self._folder = folder
        self._mounts = mounts(plan, folder)

    def prepare(self, pause: Pause) -> None:  # noqa: ARG002 - see Container
        """See Container."""
        check_program(self._plan)

    def place(self, text: str) -> str:
        """See Container."""
        return map_mounts(text, self._mounts)

    def start(self, pause: Pause) -> subprocess.Popen[bytes]:  # noqa: ARG002 - see Container
        """See Container."""
        plan, folder = self._plan, self._folder
        variables = {name: self.place(value) for name, value in plan.environment.items()}
        return self.run(
            [*plan.entrypoint, *map(self.place, plan.arguments)],
            {**base_environment(folder.file(SCRATCH)), **variables, TAG: plan.tag},
            folder=folder.file(OUTPUTS),
        )

    def ended(self, code: int) -> Exit:
        """See Container."""
        return Exit(code)

    def remove(self) -> bool:
        """See Container."""
        return self.signal(SIGKILL)
