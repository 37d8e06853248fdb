"""Real container runtimes: podman, and docker with a daemon of the tests' own, from Debian's packages.

They are unpacked, not installed: nothing on the machine's path that a site might find by itself. Containers have no
network, since no firewall is set up for them.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.debian import unpack
from tests.services.server import installing
from tests.services.sid import need_root

PACKAGES = (
    *("podman", "conmon", "runc", "docker.io", "containerd", "busybox-static"),
    *("golang-github-containers-common", "golang-github-containers-image"),
    *("libsubid4", "libgpgme11", "libassuan0", "libdevmapper1.02.1", "libglib2.0-0", "libseccomp2"),
)
ULIMITS = ("nofile=1024:1024", "nproc=4096:4096")
"""Of containers: the defaults are more than every machine may give."""


def install() -> Path:
    """A folder with the programs in it. Raises MissingError."""
    need_root("The container runtimes")
    with installing("containers") as folder:
        root = folder / "root"
        if not root.exists():
            new = folder / "root.new"
            unpack(folder, new, *PACKAGES)
            new.rename(root)
        return root


@dataclass
class Engine:
    """A runtime, by the settings that a site would have for it."""

    name: str
    command: list[str]
    arguments: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    """Variables that do for who has its program alone what the rest of ``command`` does."""

    def run(self, *words: str) -> str:
        """What one of its commands prints."""
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def containers(self) -> list[str]:
        """The names of all containers, whatever they do."""
        return self.run("ps", "--all", "--format", "{{.Names}}").split()


def busybox() -> bytes:
    """A shell with a hundred tools in one file."""
    return (install() / "bin/busybox").read_bytes()


def layer(*files: tuple[str, bytes]) -> bytes:
    """A layer of an image with these executable files, and ``sh`` and its tools in ``/bin``."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("bin", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        for name, content in (("bin/busybox", busybox()), *files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for tool in ("sh", "cat", "chmod", "chown", "dd", "grep", "id", "mkdir", "sleep", "touch"):
            entry = tarfile.TarInfo(f"bin/{tool}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return archive.getvalue()


def libraries(root: Path) -> str:
    """Where the programs find their libraries."""
    found = sorted([*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")])
    return ":".join(map(str, found))


def write_program(file: Path, variables: dict[str, str], words: Sequence[object]) -> list[str]:
    """The command of a program with these variables, and what always follows it."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    file.write_text(f'#!/bin/sh\n{exports}exec {shlex.join(map(str, words))} "$@"\n')
    file.chmod(0o755)
    return [str(file)]


@contextlib.contextmanager
def engine_folder(name: str) -> Iterator[Path]:
    """A folder for what an engine keeps, with mounts in it: none of pytest's, which has to be able to remove its own."""
    folder = Path(tempfile.mkdtemp(prefix=f"cts-{name}-"))
    try:
        yield folder
    finally:
        with Path("/proc/self/mounts").open() as mounts:
            points = [line.split()[1] for line in mounts]
        for point in reversed(points):
            if point.startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)
