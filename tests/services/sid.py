"""Root folders with Debian sid, for servers of which the machine's own Debian has too old a version, or none.

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
    install_folder,
    require_program,
)

SUITE = "sid"
# The mounts are in the process's namespace, and disappear with it. /mnt is the server's folder.
_MOUNT = """
set -e
mount --rbind /dev {root}/dev
mount -t proc proc {root}/proc
mount --bind {folder} {root}/mnt
"""


def require_root(what: str) -> None:
    """Raise MissingError unless this process may change its root folder."""
    if os.geteuid() != 0:
        raise MissingError(f"{what} of the tests runs in a chroot: run the tests as root")
    require_program("unshare", "install util-linux")


def enter(root: Path, folder: Path, script: str) -> list[str]:
    """Return the command that runs a shell script outside of ``root``, in which /mnt is ``folder``."""
    mounts = _MOUNT.format(root=shlex.quote(str(root)), folder=shlex.quote(str(folder)))
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mounts + script]


class NamespaceServer(ServerProcess):
    """A server whose command is made by `enter`."""

    def kill(self) -> None:
        """Kill the server at once, as a power cut would; return when none of its processes is left.

        Killing the namespace's first process kills all others. ``unshare`` is not killed, since it waits until they are
        gone: one that still held memory or a port would keep the server from starting again.
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
    """Run a command of an installation. Raises MissingError with the end of its output."""
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    if result.returncode:
        raise MissingError(f"{command[0]} failed: {result.stdout[-2000:]}")


def install_root(folder: Path, *packages: str) -> None:
    """Create ``folder/root`` with these packages."""
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
    with install_folder("sid") as folder:
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
        policy.write_text("#!/bin/sh\nexit 101\n")  # no service is started on installation
        policy.chmod(0o755)
        new.rename(base)
        return base


def _mirror() -> str:
    """Return the URL from which this machine gets its Debian packages."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    urls = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if not urls:
        raise MissingError("apt-get knows no archive of Debian packages")
    return min(urls, key=len)  # those of security updates are longer
