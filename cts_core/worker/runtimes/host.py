"""Runs a program of this machine as if it were a container. It isolates nothing."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from typing import Dict, List, Mapping

from cts_core.worker.plan import WorkerPlan
from cts_core.worker.processes import TAG, die_with_parent
from cts_core.worker.spool import INPUTS, OUTPUTS, SCRATCH, ContainerFolder

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")
_PIECE = 1 << 20


class ProgramChanged(Exception):
    """The program is not the one that was registered."""


def map_mounts(text: str, mounts: Mapping[str, str]) -> str:
    """Put real folders in place of mount points, wherever one stands as a path of its own or begins one.

    ``--in=/input_files/a,/input_files/b`` has two; ``/data/input_files`` and ``/input_files2`` have none.
    """
    longest_first = sorted((mount.rstrip("/") for mount in mounts), key=len, reverse=True)
    real = {mount.rstrip("/"): folder for mount, folder in mounts.items()}
    pattern = "|".join(re.escape(mount) for mount in longest_first)
    return re.sub(rf"(?<![\w./-])({pattern})(?![\w.-])", lambda match: real[match[1]], text)


def mounts(plan: WorkerPlan, folder: ContainerFolder) -> Dict[str, str]:
    """Which folder stands for which mount point."""
    return {
        plan.input_mount: folder.file(INPUTS),
        plan.output_mount: folder.file(OUTPUTS),
    }


def check_program(plan: WorkerPlan) -> None:
    """Raise ProgramChanged unless the program still is what was registered."""
    sha256 = hashlib.sha256()
    try:
        with open(plan.program_file, "rb") as file:
            while piece := file.read(_PIECE):
                sha256.update(piece)
    except OSError as e:
        raise ProgramChanged(
            f"The program {plan.program_file} cannot be read ({e.strerror}): restore it, or register the image again"
        ) from e
    if f"sha256:{sha256.hexdigest()}" != plan.digest:
        raise ProgramChanged(
            f"The program {plan.program_file} has changed since its image was registered: delete the image, "
            "register it again, and submit again"
        )


def start(plan: WorkerPlan, folder: ContainerFolder) -> subprocess.Popen[bytes]:
    """Start the program in a session of its own, with pipes for its output. Raises OSError."""
    places = mounts(plan, folder)
    argv: List[str] = [map_mounts(word, places) for word in plan.argv]
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["HOME"] = environment["TMPDIR"] = folder.file(SCRATCH)
    environment.update(
        {name: map_mounts(value, places) for name, value in plan.environment.items()}
    )
    environment[TAG] = plan.tag
    return subprocess.Popen(
        argv,
        cwd=folder.file(OUTPUTS),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
