"""This machine: what it has, and where its user keeps things. The defaults of the settings."""

from __future__ import annotations

import getpass
import math
import os
import resource
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cpus() -> int:
    """The cpus that this process may use."""
    known = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    match _limit("cpu.max"):
        case [quota, period] if quota != "max":
            return max(1, min(known, math.ceil(int(quota) / int(period))))
    return known


def memory() -> int:
    """The bytes of memory that this process may use."""
    known = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    match _limit("memory.max"):
        case [limit] if limit != "max":
            return min(known, int(limit))
    return known


def _limit(name: str) -> list[str]:
    """What a container that we run in is limited to; empty without one, and on macOS."""
    try:
        return (_CGROUP / name).read_text().split()
    except OSError:
        return []


def allow_open_files(wanted: int) -> int:
    """Raise the number of files that this process may have open to ``wanted``, and tell what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def data_home() -> Path:
    """The platform's folder for what CTS keeps of its user."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "cts"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "cts"


def login() -> str:
    """The name of the user that this process runs as."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        # A container may run under a number that no password file names.
        return f"uid-{os.getuid()}"
