"""Real container runtimes: podman, and docker with a daemon of the tests' own, from Debian's packages.

The packages are unpacked, not installed, so that nothing gets on the machine's PATH, where a site might find it.
Containers have no network, since no firewall is set up for them.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.debian import unpack
from tests.services.server import install_folder, require_program
from tests.services.sid import require_root

PACKAGES = (
    *("podman", "conmon", "runc", "docker.io", "containerd", "busybox-static"),
    *("golang-github-containers-common", "golang-github-containers-image"),
    *("libsubid4", "libgpgme11", "libassuan0", "libdevmapper1.02.1", "libglib2.0-0", "libseccomp2"),
)
_TOOLS = (
    *("sh", "cat", "chmod", "chown", "cp", "dd", "env", "find", "grep", "id", "ln", "mkdir"),
    *("readlink", "sleep", "touch"),
)
"""The tools of busybox that images have."""
ULIMITS = ("nofile=1024:1024", "nproc=4096:4096")
"""The limits of containers: the defaults may be more than the machine allows."""


def install() -> Path:
    """Return the folder with the programs. Raises MissingError."""
    require_root("The container runtimes")
    with install_folder("containers") as folder:
        root = folder / "root"
        if not root.exists():
            new = folder / "root.new"
            unpack(folder, new, *PACKAGES)
            new.rename(root)
        return root


@dataclass
class ContainerRuntime:
    """A container runtime, as the settings of a site describe it."""

    name: str
    command: list[str]
    arguments: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    """Variables that replace the options in ``command`` for a caller that has the program alone."""

    def run(self, *words: str) -> str:
        """Run one of the runtime's commands; return its output."""
        result = subprocess.run(
            [*self.command, *words], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def containers(self) -> list[str]:
        """Return the names of all containers, whatever their state."""
        return self.run("ps", "--all", "--format", "{{.Names}}").split()


def busybox() -> bytes:
    """Return the content of busybox: a shell with a hundred tools in one file."""
    return (install() / "bin/busybox").read_bytes()


def layer(*files: tuple[str, bytes]) -> bytes:
    """Return a layer of an image with these executable files, and ``sh`` and some tools in ``/bin``."""
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
        for tool in _TOOLS:
            entry = tarfile.TarInfo(f"bin/{tool}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return archive.getvalue()


def bash() -> list[tuple[str, bytes]]:
    """Return the files of this machine's bash, with its libraries, for a layer."""
    program = require_program("bash", "apt-get install bash")
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", told)
    return [
        ("bin/bash", Path(program).read_bytes()),
        *((path.lstrip("/"), Path(path).read_bytes()) for path in libraries),
    ]


def libraries(root: Path) -> str:
    """Return the LD_LIBRARY_PATH of the programs."""
    folders = sorted([*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")])
    return ":".join(map(str, folders))


def write_program(file: Path, variables: dict[str, str], words: Sequence[object]) -> list[str]:
    """Write a script that runs ``words`` with these variables and its own arguments; return its command."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    file.write_text(f'#!/bin/sh\n{exports}exec {shlex.join(map(str, words))} "$@"\n')
    file.chmod(0o755)
    return [str(file)]


@contextlib.contextmanager
def runtime_folder(name: str) -> Iterator[Path]:
    """Create a folder for a runtime's store, which may have mounts in it, so that pytest could not remove it."""
    folder = Path(tempfile.mkdtemp(prefix=f"cts-{name}-"))
    try:
        yield folder
    finally:
        with Path("/proc/self/mounts").open() as mounts:
            points = [line.split()[1] for line in mounts]
        for point in reversed(points):
            if point.startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        # A store without layers has each image several times: rm takes a fraction of the time that Python does.
        subprocess.run(["rm", "-rf", folder], capture_output=True, check=False)
