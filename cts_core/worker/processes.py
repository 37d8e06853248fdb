"""The processes of a container: finding all of them, measuring them, stopping them.

On Linux the worker becomes the reaper of every orphan below it, so that no descendant escapes by a session
or a group of its own. Elsewhere only the process group is seen.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from typing import Dict, List, Optional

LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PAGE = os.sysconf("SC_PAGE_SIZE")
TAG = "CTS_CONTAINER"
"""The environment variable that marks every process of a container."""


def _prctl(option: int, value: int) -> None:
    import ctypes  # noqa: PLC0415 - costs milliseconds that a server's import of this module need not pay

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def become_reaper() -> None:
    """Have orphaned descendants become our children."""
    if LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """For a new child: be killed when the worker is."""
    if LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants(of: int, group: int) -> List[int]:
    """All processes below ``of``; where that cannot be seen, those of the process group."""
    if not LINUX:
        return [pid for pid, row in _ps().items() if row[0] == group]
    children: Dict[int, List[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            parent = _parent(int(name))
            if parent is not None:
                children.setdefault(parent, []).append(int(name))
    found: List[int] = []
    wave = [of]
    while wave:
        wave = [child for pid in wave for child in children.get(pid, [])]
        found += wave
    return found


def _parent(pid: int) -> Optional[int]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, so the fields are counted from its end.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    state, parent = fields[0], fields[1]
    return None if state == b"Z" else int(parent)


def _ps() -> Dict[int, List[int]]:
    out = subprocess.run(
        ["ps", "-axo", "pid=,pgid=,rss="], stdout=subprocess.PIPE, check=False, text=True
    ).stdout
    rows = [[int(field) for field in line.split()] for line in out.splitlines()]
    return {pid: [pgid, rss * 1024] for pid, pgid, rss in rows}


def memory(pids: List[int], confirm_above: int) -> int:
    """Bytes of memory that these processes use together.

    The quick sum counts what they share once for each of them; only when it is above ``confirm_above`` is
    the exact share of each (PSS) looked at.
    """
    if not LINUX:
        rows = _ps()
        return sum(rows[pid][1] for pid in pids if pid in rows)
    quick = sum(_resident(pid) for pid in pids)
    if quick <= confirm_above:
        return quick
    return sum(_proportional(pid) for pid in pids)


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _resident(pid)


def signal_all(number: int, group: int) -> None:
    """Send a signal to the group and to every descendant of this process."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass
    for pid in descendants(os.getpid(), group):
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def reap() -> bool:
    """Take in every child that has ended; whether any is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def cpu_seconds() -> float:
    """User and system time of all descendants that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def largest_child() -> int:
    """Bytes of memory that the largest single descendant used."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1024 if LINUX else 1)


def kill_tagged(tag: str) -> int:
    """Kill every process whose environment carries the tag of a container; returns how many.

    For what a worker that was itself killed left behind. Sees nothing outside Linux.
    """
    if not LINUX:
        return 0
    wanted = f"{TAG}={tag}".encode()
    killed = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    os.kill(int(name), signal.SIGKILL)
                    killed += 1
        except OSError:
            continue
    return killed
