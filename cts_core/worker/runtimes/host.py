"""Runs a program of this machine as if it were a container. It isolates nothing."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from typing import Mapping

from cts_core.worker.plan import WorkerPlan
from cts_core.worker.processes import TAG, die_with
from cts_core.worker.spool import INPUTS, OUTPUTS, SCRATCH, ContainerFolder

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_PIECE = 1 << 20
_SEPARATOR = r"""[\s,;:=|&"'()\[\]{}<>]"""
"""What may stand around a path within a longer text."""


class ProgramError(Exception):
    """The program is not the one that was registered; the text says what to do."""


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


def mounts(plan: WorkerPlan, folder: ContainerFolder) -> dict[str, str]:
    """Which folder stands for which mount point."""
    found = {
        plan.input_mount: folder.file(INPUTS),
        plan.output_mount: folder.file(OUTPUTS),
    }
    if plan.refdata_mount is not None:
        found[plan.refdata_mount] = plan.refdata_folder
    return found


def base_environment(scratch: str) -> dict[str, str]:
    """What a host program finds in its environment, its job's own variables aside.

    Of the server's environment, which may hold secrets, only what says where and in which language.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"LANG": "C.UTF-8", **environment, "HOME": scratch, "TMPDIR": scratch}


def check_program(plan: WorkerPlan) -> None:
    """Raise ProgramError unless the program still is what was registered."""
    sha256 = hashlib.sha256()
    with open(plan.program_file, "rb", 0) as file:
        while piece := file.read(_PIECE):
            sha256.update(piece)
    if f"sha256:{sha256.hexdigest()}" != plan.digest:
        raise ProgramError(
            f"The program {plan.program_file} has changed since it was registered: delete the image, register "
            "it again, and submit again"
        )


def start(plan: WorkerPlan, folder: ContainerFolder) -> subprocess.Popen[bytes]:
    """Start the program in a session of its own, with pipes for its output. Raises OSError."""
    places = mounts(plan, folder)
    variables = {name: map_mounts(value, places) for name, value in plan.environment.items()}
    worker = os.getpid()

    def become_container() -> None:
        # What we ignore, a program would inherit.
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        die_with(worker)

    return subprocess.Popen(  # noqa: S603 - to run what was registered is what this is for
        [*plan.entrypoint, *(map_mounts(word, places) for word in plan.arguments)],
        cwd=folder.file(OUTPUTS),
        env={**base_environment(folder.file(SCRATCH)), **variables, TAG: plan.tag},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=become_container,  # noqa: PLW1509 - the worker has one thread
    )
