"""Folders with Debian sid in them, for servers that the machine's own Debian has too old, or not at all.

A server runs in its folder by ``chroot``, in mount and process namespaces of its own: when the first process is killed,
all of them are, as by a power cut, and no mount is left behind.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

from tests.services.server import (
    STOP_SECONDS,
    MissingError,
    ServerProcess,
    installing,
    need_program,
)

SUITE = "sid"
# The mounts are the process's own, and gone with it. /mnt is the server's folder.
_MOUNT = """
set -e
mount --rbind /dev {root}/dev
mount -t proc proc {root}/proc
mount --bind {folder} {root}/mnt
"""


def need_root(what: str) -> None:
    """Raise MissingError unless this process may change its root folder."""
    if os.geteuid() != 0:
        raise MissingError(f"{what} of the tests runs in a chroot: run the tests as root")
    need_program("unshare", "install util-linux")


def enter(root: Path, folder: Path, script: str) -> list[str]:
    """The command that runs a script of the shell outside of ``root``, whose /mnt is ``folder``."""
    mounts = _MOUNT.format(root=shlex.quote(str(root)), folder=shlex.quote(str(folder)))
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mounts + script]


class NamespaceServer(ServerProcess):
    """A server whose command is made by `enter`."""

    def kill(self) -> None:
        """End it at once, as a power cut would; returns when nothing of it is left.

        The namespace's first process is killed, and all others with it. ``unshare`` is let live, as it waits until they
        are gone: one that still held memory or a port would keep the server from starting again.
        """
        if self.process is not None and (first := self._first_processes()):
            with contextlib.suppress(ProcessLookupError):
                for process in first:
                    os.kill(process, signal.SIGKILL)
                os.kill(self.process.pid, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        super().kill()

    def _first_processes(self) -> list[int]:
        parent = self.process.pid
        with contextlib.suppress(OSError):
            return [*map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]
        return []


def run(command: list[str], **options: object) -> None:
    """Run a command of an installation. Raises MissingError with the last it said."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    if done.returncode:
        raise MissingError(f"{command[0]} failed: {done.stdout[-2000:]}")


def install_root(folder: Path, *packages: str) -> None:
    """Make ``folder/root``, with these packages in it."""
    base = _install_base()
    new = folder / "root.new"
    shutil.rmtree(new, ignore_errors=True)
    run(["cp", "-a", str(base), str(new)])
    names = shlex.join(packages)
    install = (
        f"chroot {shlex.quote(str(new))} apt-get install -y -qq --no-install-recommends {names}"
    )
    (folder / "empty").mkdir(exist_ok=True)
    run(
        enter(new, folder / "empty", install),
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    for unused in ("usr/share/doc", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt"):
        shutil.rmtree(new / unused, ignore_errors=True)
    new.rename(folder / "root")


def _install_base() -> Path:
    with installing("sid") as folder:
        base = folder / "base"
        if base.exists():
            return base
        if shutil.which("debootstrap") is None:
            run(["apt-get", "update", "-qq"])
            run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "debootstrap"])
        new = folder / "base.new"
        shutil.rmtree(new, ignore_errors=True)
        run(["debootstrap", "--variant=minbase", SUITE, str(new), _mirror()])
        policy = new / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")  # no service is started when it is installed
        policy.chmod(0o755)
        new.rename(base)
        return base


def _mirror() -> str:
    """Where this machine has its Debian packages from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if not found:
        raise MissingError("apt-get knows no archive of Debian packages")
    return min(found, key=len)  # those of security updates are longer
