"""CTS's own worker for nodes: an archive with all the code it needs, and the script that starts it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from cts_core.sites.worker_code import library_paths, pack_code

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
    dict(library_paths())
    return pack


@cache
def pack() -> WorkerArchive:
    """Pack the worker of this release. Raises ConfigError if nodes could not load the checksum library."""
    return WorkerArchive(LAUNCHER.read_bytes(), pack_code())
