"""Runs a host program by bubblewrap, so that it sees the folders that it needs and no process but its own.

For a service with several users: the program may be made to run what a user writes, and runs as the server's user. It shares the
machine's network, unless the site has none, and its limits.
"""

from __future__ import annotations

import os
import subprocess
from typing import Iterable, List

from cts_core.worker.container_folder import SCRATCH, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.base import mounts

PROGRAM = "bwrap"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = (
    *("/etc/alternatives", "/etc/ca-certificates", "/etc/fonts", "/etc/group", "/etc/hosts", "/etc/ld.so.cache"),
    *("/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types", "/etc/nsswitch.conf"),
    *("/etc/passwd", "/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/pki/tls/openssl.cnf", "/etc/resolv.conf"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf"),
)  # fmt: skip
"""What programs read of the system's configuration; all else in /etc may be a service's."""
_TRY_SECONDS = 30.0


def sandbox_command(plan: WorkerPlan, folder: ContainerFolder) -> List[str]:
    """Return the words before a program's own that run it isolated."""
    scratch = folder.file(SCRATCH)
    command = _base(network=plan.network)
    # First, because the folders of the container may lie below it.
    command += ["--bind", scratch, "/tmp"]  # noqa: S108 - the program's own
    visible = plan.visible_folders or []
    command += _read_only(visible)
    hidden = [path for path in plan.hidden_folders if os.path.isdir(path)]
    for path in hidden:
        command += ["--tmpfs", path]
    # After the folders that are hidden, in which these may lie.
    command += _read_only(_unseen([plan.entrypoint[0], plan.program_file], visible))
    for mount in mounts(plan, folder):
        command += ["--bind" if mount.is_writable else "--ro-bind", mount.source, mount.source]
    command += ["--bind", scratch, scratch]
    # What is written into a tmpfs is memory that nobody counts.
    for path in ("/", *hidden):
        command += ["--remount-ro", path]
    return [*command, "--chdir", mounts(plan, folder)[1].source, "--"]


def find_fault() -> str | None:
    """Return why programs cannot be isolated on this machine; None if they can."""
    try:
        subprocess.run(  # noqa: S603 - a fixed command
            [*_base(network=True), "--", "/bin/sh", "-c", "test ! -e /proc/$0", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TRY_SECONDS,
            check=True,
        )
    except FileNotFoundError:
        return f"there is no program {PROGRAM}"
    except subprocess.CalledProcessError as e:
        return e.stderr.decode(errors="replace").strip() or f"{PROGRAM} hides no processes"
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return None


def _unseen(files: Iterable[str], visible: Iterable[str]) -> List[str]:
    # Of those that are seen already, one that is a link could not be mounted over.
    folders = tuple(f"{folder.rstrip('/')}/" for folder in (*_SYSTEM, *visible))
    return [file for file in dict.fromkeys(files) if not file.startswith(folders)]


def _base(*, network: bool) -> List[str]:
    command = [
        *(PROGRAM, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"),
        *("--share-net",) * network,
        *("--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"),  # noqa: S108 - the program's own
    ]
    return command + _read_only([*_SYSTEM, *_SYSTEM_FILES])


def _read_only(paths: Iterable[str]) -> List[str]:
    return [word for path in paths for word in ("--ro-bind-try", path, path)]
