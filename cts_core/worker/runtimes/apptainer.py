"""Containers of apptainer: processes of this user, below the worker's own, in namespaces of their own.

It has no store of images: each is converted once to a file named by the image's digest (``kept.py``). The user is the worker's, whatever
the image says, and its file system can be written as far as memory allows, and is thrown away. Memory is watched as that of host
programs, since not every machine lets users have limits.
"""

from __future__ import annotations

import os
import subprocess
from signal import SIGCONT, SIGKILL

from cts_core.worker.container_folder import STREAMS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes import image_cache, processes
from cts_core.worker.runtimes.base import Exit, Pause, mounts, open_up
from cts_core.worker.runtimes.errors import start_failure
from cts_core.worker.runtimes.process_tree import Descendants
from cts_core.worker.runtimes.processes import TAG
from cts_core.worker.runtimes.pull import pull

_VARIABLE = "APPTAINERENV_"
"""What begins so reaches the container: the option for it splits values at commas."""
_NOT_STARTED, _FATAL = 255, "FATAL:   "
"""Its own exit code when it cannot start the program, and how its last line then begins."""
_RESUMED = 128 + SIGCONT
"""Its exit code for a program that ends as it passes the signal to go on to it."""
_GUARD = 'trap "" TERM HUP INT; read -r _; kill -s KILL -- "-$1"'
"""A shell that waits for the end of the worker's pipe. Apptainer itself outlives a worker that is killed: as it changes its
rights on its start, the system forgets that it was to end with us."""
_END = 4096
"""Bytes of stderr in which to look for that line."""


def image_file(plan: WorkerPlan) -> str:
    """The file that an image is kept in."""
    return image_cache.image_file(plan.image_folder, _digest(plan))


def _digest(plan: WorkerPlan) -> str:
    return plan.image.rpartition(":")[2]


def pull_command(plan: WorkerPlan, target: str) -> list[str]:
    """The command that fetches and converts the image. Apptainer's own cache has no bound, and would have it a second time."""
    insecure = ["--no-https"] if plan.plain_http else []
    command = [*plan.runtime_command, "pull", "--force", "--disable-cache", *insecure]
    return [*command, target, f"docker://{plan.image}"]


def exec_command(plan: WorkerPlan, folder: ContainerFolder) -> list[str]:
    """The command that runs the container. Pure."""
    home = plan.environment.get("HOME", "")
    command = [
        # What it says of itself would be on the program's stderr.
        *(*plan.runtime_command, "--silent", "exec"),
        *("--containall", "--no-home", "--no-eval", "--no-privs", "--writable-tmpfs"),
        # It takes this variable from nowhere else.
        *(("--home", home) if home.startswith("/") and ":" not in home else ()),
        *(() if plan.network else ("--net", "--network", "none")),
    ]
    for mount, source in mounts(plan, folder).items():
        mode = "" if mount == plan.output_mount else ",ro"
        command += ["--mount", f"type=bind,source={source},destination={mount}{mode}"]
    return [*command, *plan.runtime_arguments, image_file(plan), *plan.entrypoint, *plan.arguments]


class ApptainerContainer(Descendants):
    """See Container."""

    def __init__(self, plan: WorkerPlan, folder: ContainerFolder) -> None:
        super().__init__()
        self._plan = plan
        self._folder = folder

    def prepare(self, pause: Pause) -> None:
        """See Container: fetch and convert the image, unless somebody did."""
        open_up(self._plan, self._folder)

        def fetch(target: str) -> None:
            pull(pull_command(self._plan, target), self._plan.image, pause)

        folder, most = self._plan.image_folder, self._plan.image_bytes
        # Held until this process ends.
        self._image = image_cache.keep(folder, _digest(self._plan), fetch, most, pause)

    def place(self, text: str) -> str:
        """See Container."""
        return text

    def start(self, pause: Pause) -> subprocess.Popen[bytes]:  # noqa: ARG002 - see Container
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
        """Have a group of processes killed when this one is. The guard is cleared up as all that descends from us."""
        end, self._pipe = os.pipe()
        os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _GUARD, "sh", str(group)],
            cli.environment(),
            file_actions=[(os.POSIX_SPAWN_DUP2, end, 0)],
            setpgroup=0,
        )
        os.close(end)

    def ended(self, code: int) -> Exit:
        """See Container."""
        if code == _NOT_STARTED:
            said = self._last_line()
            if said.startswith(_FATAL):
                said = said[len(_FATAL) :]
                return Exit(None, start_failure(self._plan.entrypoint[0], said))
        if code == _RESUMED:
            return Exit(
                code,
                f"Container exit code: {code}. Apptainer says so also when a program ends in the moment in which HTCondor "
                "resumes its job, and then not how. Submit it again.",
            )
        return Exit(code)

    def _last_line(self) -> str:
        with open(self._folder.file(f"{STREAMS[1]}.txt"), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _END))
            return file.read().decode(errors="replace").rstrip().rpartition("\n")[2]

    def signal(self, number: int) -> bool:
        """See Container."""
        # As docker does. Apptainer's own process would pass it on, or end by it when it has just begun.
        if number != SIGKILL and processes.send_signal_to_first(number, self._group):
            return True
        return super().signal(number)

    def remove(self) -> bool:
        """See Container."""
        return super().signal(SIGKILL)
