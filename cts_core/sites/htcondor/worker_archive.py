"""Packs our worker for nodes: one archive with all that it runs by, and the script that starts it.

The checksum library comes as the one compiled file of ``awscrt``. It keeps to Python's stable interface, so that any
Python from 3.9 on loads it, whichever it was built for.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import platform
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from cts_core import worker
from cts_core.errors import ConfigError

_STABLE = ".abi3.so"
_LIBRARY = "_awscrt"
_FACADE = ("__init__.py", "checksums.py")
"""What the worker imports of the library's own Python."""
LAUNCHER = Path(__file__).with_name("start_worker.sh")
_HASH_LENGTH = 16


@dataclass(frozen=True)
class WorkerArchive:
    """What a node is sent. The same code makes the same bytes, on every server."""

    launcher: bytes
    archive: bytes

    @cached_property
    def version(self) -> str:
        """A hash of all of it."""
        found = hashlib.sha256(self.launcher)
        found.update(self.archive)
        return found.hexdigest()[:_HASH_LENGTH]

    @cached_property
    def launcher_sha256(self) -> str:
        """By which a node knows the script, in 64 hex digits."""
        return hashlib.sha256(self.launcher).hexdigest()

    @cached_property
    def archive_sha256(self) -> str:
        """By which the script knows the code, in 64 hex digits."""
        return hashlib.sha256(self.archive).hexdigest()

    @property
    def launcher_name(self) -> str:
        """By which nodes ask for the script."""
        return f"cts-worker-{self.version}.sh"

    @property
    def archive_name(self) -> str:
        """By which nodes ask for the code."""
        return f"cts-worker-{self.version}.tgz"

    @property
    def files(self) -> dict[str, bytes]:
        """Both, by their names."""
        return {self.launcher_name: self.launcher, self.archive_name: self.archive}


def checked_pack() -> Callable[[], WorkerArchive]:
    """What packs the worker of this release. Raises ConfigError, as that does, without packing it yet."""
    dict(_library_paths())
    return pack


@cache
def pack() -> WorkerArchive:
    """The worker of this release. Raises ConfigError where its checksum library is none that nodes could load."""
    libraries = ((name, path.read_bytes()) for name, path in _library_paths())
    files = dict([*_worker_files(), *libraries])
    packed = io.BytesIO()
    # Times, owners and the order say nothing of the code.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return WorkerArchive(LAUNCHER.read_bytes(), packed.getvalue())


def _worker_files() -> Iterator[tuple[str, bytes]]:
    root = Path(worker.__file__).parent
    yield "cts_core/__init__.py", b""
    for path in root.rglob("*.py"):
        yield f"cts_core/worker/{path.relative_to(root).as_posix()}", path.read_bytes()


def _library_paths() -> Iterator[tuple[str, Path]]:
    found = importlib.util.find_spec(_LIBRARY)
    library = Path(found.origin) if found and found.origin else None
    if library is None or not library.name.endswith(_STABLE) or platform.system() != "Linux":
        raise ConfigError(
            "sites: kbase sends its workers the checksum library awscrt as this server has it, and this one's is "
            "for one Python alone: run the server on Linux with Python 3.11 or newer"
        )
    facade = importlib.util.find_spec("awscrt")
    if facade is None or facade.origin is None:
        raise ConfigError("sites: kbase needs awscrt, which is not installed beside CTS")
    yield library.name, library
    for name in _FACADE:
        yield f"awscrt/{name}", Path(facade.origin).with_name(name)
