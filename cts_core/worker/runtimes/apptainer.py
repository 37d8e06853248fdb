"""Containers of apptainer: processes of the worker's user, below the worker, in namespaces of their own.

Apptainer has no store of images: each is converted once to a file named by the image's digest (``image_cache.py``). The
user is the worker's, whatever the image says; the file system is writable as far as memory allows, and is discarded. Memory is
sampled as for host programs, since not every machine lets users set limits.
"""

from __future__ import annotations

import os
import resource
import subprocess
from signal import SIGCONT, SIGKILL

from cts_core.worker.advice import AGAIN
from cts_core.worker.container_folder import STREAMS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes import image_cache, processes
from cts_core.worker.runtimes.base import ContainerExit, Sleep, mounts, open_permissions
from cts_core.worker.runtimes.errors import start_failure
from cts_core.worker.runtimes.process_tree import ProcessTree
from cts_core.worker.runtimes.processes import TAG
from cts_core.worker.runtimes.pull import pull

_VARIABLE = "APPTAINERENV_"
"""The prefix of variables that reach the container; the command-line option would split values at commas."""
_NOT_STARTED, _FATAL = 255, "FATAL:   "
"""Apptainer's exit code when it cannot start the program, and the beginning of its last line then."""
_RESUMED = 128 + SIGCONT
"""Apptainer's exit code for a program that ends while SIGCONT is passed on to it."""
_GUARD = 'trap "" TERM HUP INT; read -r _; kill -s KILL -- "-$1"'
"""A shell that kills the process group when the worker's pipe closes. Apptainer itself would outlive a killed worker: as it
changes its privileges on its start, the kernel clears the parent-death signal."""


def image_file(plan: WorkerPlan) -> str:
    """Return the path of an image's file."""
    return image_cache.image_file(plan.image_folder, _digest(plan))


def _digest(plan: WorkerPlan) -> str:
    return plan.image.rpartition(":")[2]


def pull_command(plan: WorkerPlan, target: str) -> list[str]:
    """Return the command that fetches and converts the image. Apptainer's own cache, which has no limit, would hold a copy."""
    insecure = ["--no-https"] if plan.plain_http else []
    command = [*plan.runtime_command, "pull", "--force", "--disable-cache", *insecure]
    return [*command, target, f"docker://{plan.image}"]


def exec_command(plan: WorkerPlan, folder: ContainerFolder) -> list[str]:
    """Return the command that runs the container."""
    home = plan.environment.get("HOME", "")
    command = [
        # Apptainer's own messages would appear on the program's stderr.
        *(*plan.runtime_command, "--silent", "exec"),
        *("--containall", "--no-home", "--no-eval", "--no-privs", "--writable-tmpfs"),
        # Apptainer takes this variable from nowhere else.
        *(("--home", home) if home.startswith("/") and ":" not in home else ()),
        *(() if plan.network else ("--net", "--network", "none")),
    ]
    for mount in mounts(plan, folder):
        mode = "" if mount.is_writable else ",ro"
        command += ["--mount", f"type=bind,source={mount.source},destination={mount.target}{mode}"]
    return [*command, *plan.runtime_arguments, image_file(plan), *plan.entrypoint, *plan.arguments]


class ApptainerContainer(ProcessTree):
    """See Container."""

    def __init__(self, plan: WorkerPlan, folder: ContainerFolder) -> None:
        super().__init__()
        self._plan = plan
        self._folder = folder
        self._guard_pid = 0

    def prepare(self, sleep: Sleep) -> None:
        """See Container: fetch and convert the image, unless it is cached."""
        open_permissions(self._plan, self._folder)

        def fetch(target: str) -> None:
            pull(pull_command(self._plan, target), self._plan.image, sleep)

        folder, most = self._plan.image_folder, self._plan.image_bytes
        # The lock is held until this process ends.
        self._image = image_cache.acquire(folder, _digest(self._plan), fetch, most, sleep)

    def map_paths(self, text: str) -> str:
        """See Container."""
        return text

    def start(self, sleep: Sleep) -> subprocess.Popen[bytes]:  # noqa: ARG002 - see Container
        """See Container."""
        variables = {**self._plan.environment, TAG: self._plan.tag}
        environment = {
            **cli.environment(),
            **{f"{_VARIABLE}{name}": value for name, value in variables.items()},
            TAG: self._plan.tag,
        }
        process = self.run(exec_command(self._plan, self._folder), environment)
        self._guard(process.pid)
        return process

    def _guard(self, group: int) -> None:
        """Have a process group killed when this process ends. The guard is removed with all our descendants."""
        end, self._pipe = os.pipe()
        self._guard_pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _GUARD, "sh", str(group)],
            cli.environment(),
            file_actions=[(os.POSIX_SPAWN_DUP2, end, 0)],
            setpgroup=0,
        )
        os.close(end)

    def on_child_exit(self, pid: int, usage: resource.struct_rusage) -> None:
        """See Container."""
        if pid != self._guard_pid:
            super().on_child_exit(pid, usage)

    def describe_exit(self, code: int) -> ContainerExit:
        """See Container."""
        if code == _NOT_STARTED:
            message = self._folder.last_line(STREAMS[1])
            if message.startswith(_FATAL):
                message = message[len(_FATAL) :]
                return ContainerExit(None, start_failure(self._plan.entrypoint[0], message))
        if code == _RESUMED:
            return ContainerExit(
                code,
                f"Container exit code: {code}. Apptainer says so also when a program ends in the moment in which HTCondor "
                f"resumes its job, and then not how. {AGAIN}",
            )
        return ContainerExit(code)

    def signal(self, number: int) -> bool:
        """See Container."""
        # As docker does. Apptainer's own process would pass the signal on, or be ended by it right after its start.
        if number != SIGKILL and processes.send_signal_to_first(number, self._group):
            return True
        return super().signal(number)

    def remove(self) -> bool:
        """See Container."""
        return super().signal(SIGKILL)
