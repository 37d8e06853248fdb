"""Packs the code of CTS's own workers for machines on which nothing is installed.

The checksum library is the one compiled file of ``awscrt``. It uses Python's stable ABI, so that every Python from 3.9
on can load it, whichever it was built for.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import platform
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cts_core import worker
from cts_core.errors import ConfigError

_STABLE = ".abi3.so"
_LIBRARY = "_awscrt"
_FACADE = ("__init__.py", "checksums.py")
"""The modules of the library's own Python that the worker imports."""


@cache
def pack_code() -> bytes:
    """Return the worker of this release as a packed archive; the same code gives the same bytes on every server.

    Raises ConfigError if other machines could not load the checksum library.
    """
    libraries = ((name, path.read_bytes()) for name, path in library_paths())
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
    return packed.getvalue()


def _worker_files() -> Iterator[tuple[str, bytes]]:
    root = Path(worker.__file__).parent
    yield "cts_core/__init__.py", b""
    for path in root.rglob("*.py"):
        yield f"cts_core/worker/{path.relative_to(root).as_posix()}", path.read_bytes()


def library_paths() -> Iterator[tuple[str, Path]]:
    """Yield the files of the checksum library with their names in the archive. Raises ConfigError as ``pack_code`` does."""
    spec = importlib.util.find_spec(_LIBRARY)
    library = Path(spec.origin) if spec and spec.origin else None
    if library is None or not library.name.endswith(_STABLE) or platform.system() != "Linux":
        raise ConfigError(
            "sites: a site elsewhere is sent the checksum library awscrt as this server has it, and this one's is "
            "for one Python alone: run the server on Linux with Python 3.11 or newer"
        )
    facade = importlib.util.find_spec("awscrt")
    if facade is None or facade.origin is None:
        raise ConfigError("sites: a site elsewhere needs awscrt, which is not installed beside CTS")
    yield library.name, library
    for name in _FACADE:
        yield f"awscrt/{name}", Path(facade.origin).with_name(name)
