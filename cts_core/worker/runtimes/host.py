"""Runs a program of the host as if it were a container. It isolates nothing, unless the plan says what may be seen.

In a mount namespace the program has its folders at their mount points. Where the machine gives none, the mount points in its
arguments and variables are replaced by the real folders, whose paths differ from job to job.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from signal import SIGKILL
from typing import Mapping

from cts_core.worker.container_folder import OUTPUTS, SCRATCH, STREAMS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import processes
from cts_core.worker.runtimes.base import ContainerExit, ContainerRuntimeError, Sleep, mounts
from cts_core.worker.runtimes.process_tree import ProcessTree
from cts_core.worker.runtimes.processes import TAG
from cts_core.worker.runtimes.sandbox import (
    PROGRAM,
    can_mount,
    namespace_command,
    sandbox_command,
    variables_file,
    working_folder,
)
from cts_core.worker.units import CHUNK_SIZE

_FORWARDED_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_NOT_EXECUTED = f"{PROGRAM}: execvp "
"""The beginning of bubblewrap's last line, with exit code 1, when it cannot execute the program."""
_SEPARATOR = r"""[\s,;:=|&"'()\[\]{}<>]"""
"""The characters that may surround a path within a longer text."""


def map_mounts(text: str, mounts: Mapping[str, str]) -> str:
    """Replace mount points by the real folders, wherever one is a path of its own or the beginning of one.

    ``--in=/input_files/a,/input_files/b`` has two; ``/data/input_files`` and ``/input_files2`` have none. If one
    mount point lies within another, the longer wins.
    """
    if not mounts:
        return text
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
    """Return the environment of a host program without the job's own variables.

    The server's environment may hold secrets: only variables about paths and language are taken from it.
    """
    environment = {name: os.environ[name] for name in _FORWARDED_VARIABLES if name in os.environ}
    return {"LANG": "C.UTF-8", **environment, "HOME": scratch, "TMPDIR": scratch}


def check_program(plan: WorkerPlan) -> None:
    """Raise ContainerRuntimeError if the program has changed since it was registered."""
    sha256 = hashlib.sha256()
    with open(plan.program_file, "rb", 0) as file:
        while chunk := file.read(CHUNK_SIZE):
            sha256.update(chunk)
    if f"sha256:{sha256.hexdigest()}" != plan.digest:
        raise ContainerRuntimeError(
            f"The program {plan.program_file} has changed since it was registered: register it again, and "
            "submit again"
        )


class HostContainer(ProcessTree):
    """See Container."""

    def __init__(self, plan: WorkerPlan, folder: ContainerFolder) -> None:
        super().__init__()
        self._plan = plan
        self._folder = folder
        self._is_isolated = plan.visible_folders is not None
        self._has_namespace = self._is_isolated or plan.mount_namespace
        own = mounts(plan, folder)
        self._real = [m for m in own if self._has_namespace and can_mount(m.target)]
        self._mapped = {mount.target: mount.source for mount in own if mount not in self._real}

    def prepare(self, sleep: Sleep) -> None:  # noqa: ARG002 - see Container
        """See Container."""
        check_program(self._plan)

    def map_paths(self, text: str) -> str:
        """See Container."""
        return map_mounts(text, self._mapped)

    def start(self, sleep: Sleep) -> subprocess.Popen[bytes]:  # noqa: ARG002 - see Container
        """See Container."""
        plan, folder = self._plan, self._folder
        variables = {name: self.map_paths(value) for name, value in plan.environment.items()}
        command = [*plan.entrypoint, *map(self.map_paths, plan.arguments)]
        environment = {**base_environment(folder.file(SCRATCH)), **variables, TAG: plan.tag}
        if not self._is_isolated:
            outputs = mounts(plan, folder)[1]
            words = (
                namespace_command(self._real, folder=working_folder(outputs))
                if self._has_namespace
                else []
            )
            return self.run(
                [*words, *command],
                environment,
                folder=outputs.source,
                dies_with_parent=self._has_namespace,
            )
        with variables_file(environment) as file:
            # Bubblewrap itself is not isolated: a variable such as LD_PRELOAD would have it run what the user wrote.
            return self.run(
                [*sandbox_command(plan, folder, file.fileno()), *command],
                {TAG: plan.tag},
                folder=folder.file(OUTPUTS),
                pass_fds=[file.fileno()],
                dies_with_parent=True,
            )

    def describe_exit(self, code: int) -> ContainerExit:
        """See Container."""
        message = self._folder.last_line(STREAMS[1]) if self._has_namespace and code == 1 else ""
        if message.startswith(_NOT_EXECUTED):
            reason = message[len(_NOT_EXECUTED) :]
            return ContainerExit(None, f"Its program could not be started: {reason}.")
        return ContainerExit(code)

    def signal(self, number: int) -> bool:
        """See Container."""
        if not self._has_namespace or number == SIGKILL:
            return super().signal(number)
        # Bubblewrap's own processes would end at once, and the program with them.
        if self._is_isolated:
            return processes.send_signal_inside(number, self._group)
        return processes.send_signal_below(number, self._group)

    def remove(self) -> bool:
        """See Container."""
        return self.signal(SIGKILL)
