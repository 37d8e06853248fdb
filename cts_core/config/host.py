"""Resources and folders of this host, from which settings take their defaults."""

from __future__ import annotations

import getpass
import math
import os
import resource
import sys
from pathlib import Path

import platformdirs

_CGROUP = Path("/sys/fs/cgroup")


def cpus() -> int:
    """Return the number of cpus that this process may use, by its affinity and its cgroup."""
    available = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    match _limit("cpu.max"):
        case [quota, period] if quota != "max":
            return max(1, min(available, math.ceil(int(quota) / int(period))))
    return available


def memory() -> int:
    """Return the bytes of memory that this process may use, by the host and its cgroup."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    match _limit("memory.max"):
        case [limit] if limit != "max":
            return min(available, int(limit))
    return available


def _limit(name: str) -> list[str]:
    """Return the words of a limit of this process's container; empty without a container, and on macOS."""
    try:
        return (_CGROUP / name).read_text().split()
    except OSError:
        return []


def allow_open_files(count: int) -> int:
    """Raise the limit on open files of this process to ``count`` as far as allowed; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return count
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def data_home() -> Path:
    """Return the platform's folder for user data of CTS.

    That is ``cts`` in ``$XDG_DATA_HOME``, or else in ``~/.local/share``, on macOS in ``~/Library/Application Support``.
    """
    if sys.platform == "darwin":
        # Earlier releases ignored XDG_DATA_HOME on macOS: their data stays where it is.
        earlier = Path.home() / "Library" / "Application Support" / "cts"
        if earlier.exists():
            return earlier
    return platformdirs.user_data_path("cts", appauthor=False)


def login() -> str:
    """Return the name of the user that this process runs as."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        # A container may run under a user id that no password file lists.
        return f"uid-{os.getuid()}"
