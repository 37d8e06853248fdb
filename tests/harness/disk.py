"""A small file system that a test can fill."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.services.server import MissingError, or_skip


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size (``40m``) on a folder; skip the test where that is impossible."""
    with contextlib.ExitStack() as stack:
        with or_skip():
            stack.enter_context(mounted_disk(folder, size))
        yield folder


@contextlib.contextmanager
def mounted_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size (``40m``) on a folder. Raises MissingError where that is impossible."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise MissingError("a small file system can be mounted by root on Linux only")
    folder.mkdir(exist_ok=True)
    result = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise MissingError(f"a small file system cannot be mounted here: {result.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill a file system to the last byte; return the file that does."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as out:
        while True:
            out.write(b"x" * 4096)
    return filler
