"""Packs CTS's own worker for nodes: an archive with all the code it needs, and the script that starts it.

The checksum library is the one compiled file of ``awscrt``. It uses Python's stable ABI, so that every Python from 3.9
on can load it, whichever it was built for.
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
"""The modules of the library's own Python that the worker imports."""
LAUNCHER = Path(__file__).with_name("start_worker.sh")
_HASH_LENGTH = 16


@dataclass(frozen=True)
class WorkerArchive:
    """The files that a node fetches. The same code gives the same bytes on every server."""

    launcher: bytes
    archive: bytes

    @cached_property
    def version(self) -> str:
        """A hash of both files."""
        digest = hashlib.sha256(self.launcher)
        digest.update(self.archive)
        return digest.hexdigest()[:_HASH_LENGTH]

    @cached_property
    def launcher_sha256(self) -> str:
        """The SHA-256 of the script, in 64 hex digits, which the node checks."""
        return hashlib.sha256(self.launcher).hexdigest()

    @cached_property
    def archive_sha256(self) -> str:
        """The SHA-256 of the archive, in 64 hex digits, which the script checks."""
        return hashlib.sha256(self.archive).hexdigest()

    @property
    def launcher_name(self) -> str:
        """The name under which nodes fetch the script."""
        return f"cts-worker-{self.version}.sh"

    @property
    def archive_name(self) -> str:
        """The name under which nodes fetch the archive."""
        return f"cts-worker-{self.version}.tgz"

    @property
    def files(self) -> dict[str, bytes]:
        """Both files, by their names."""
        return {self.launcher_name: self.launcher, self.archive_name: self.archive}


def checked_pack() -> Callable[[], WorkerArchive]:
    """Return ``pack`` after checking that it can work. Raises ConfigError as ``pack`` does, but packs nothing yet."""
    dict(_library_paths())
    return pack


@cache
def pack() -> WorkerArchive:
    """Pack the worker of this release. Raises ConfigError if nodes could not load the checksum library."""
    libraries = ((name, path.read_bytes()) for name, path in _library_paths())
    files = dict([*_worker_files(), *libraries])
    packed = io.BytesIO()
    # No times and owners, and a fixed order, so that the bytes depend on the code alone.
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
    spec = importlib.util.find_spec(_LIBRARY)
    library = Path(spec.origin) if spec and spec.origin else None
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
