"""The processes of a container: lists, measures and stops them.

On Linux the worker becomes the subreaper of its descendants, so that none escapes by a session or process group of its own.
Elsewhere only the process group is seen.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from typing import Iterable, Mapping, NamedTuple

from cts_core.worker.runtimes.memory import Memory

LINUX = sys.platform.startswith("linux")
MAXRSS_UNIT = 1024 if LINUX else 1
"""Bytes in the unit of ``ru_maxrss``."""
TAG = "CTS_CONTAINER"
"""The environment variable that marks every process of a container."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CHILDREN = "/proc/{pid}/task/{thread}/children"
_RESET_PEAK = b"5"
"""What is written to ``clear_refs`` to have the kernel forget the peak of a process's memory (proc_pid_clear_refs(5))."""
_KILL_ROUNDS, _KILL_PAUSE = 50, 0.02
_LIBC = ctypes.CDLL(None)


def become_reaper() -> None:
    """Become the parent of orphaned descendants."""
    if LINUX:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Have this new child of ``parent`` killed when its parent dies."""
    if LINUX:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def prepare_child(parent: int) -> None:
    """Prepare a new child of ``parent`` to execute a container's program or a runtime's command."""
    # A program would inherit the signals that the worker ignores.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent(parent)


def members(group: int) -> list[int]:
    """Return the processes of our container: all descendants of this process, or its process group."""
    if not LINUX:
        return [pid for pid, (pgid, _) in _ps().items() if pgid == group]
    # Orphans become our children: without a child there is no descendant.
    if not has_children():
        return []
    own = os.getpid()
    is_told = os.path.exists(_CHILDREN.format(pid=own, thread=own))
    children = _children if is_told else _all_children().__getitem__
    members_: list[int] = []
    generation = children(own)
    while generation:
        members_ += generation
        generation = [child for pid in generation for child in children(pid)]
    return members_


def has_children() -> bool:
    """Return whether this process has a child, which may have ended without being waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children(pid: int) -> list[int]:
    """Return the children of a process, which the kernel lists by the thread that started each."""
    children: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            path = _CHILDREN.format(pid=pid, thread=thread)
            with suppress(OSError), open(path, "rb", 0) as file:
                children += map(int, file.read().split())
    return children


def _all_children() -> Mapping[int, list[int]]:
    """Return the children of every process, for a kernel that does not list those of one."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            parent = _parent(int(name))
            if parent is not None:
                children[parent].append(int(name))
    return children


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            # The name in parentheses may contain anything, so the fields are counted from its end.
            state, parent = file.read().rpartition(b")")[2].split(None, 2)[:2]
    except (OSError, ValueError):
        return None
    return None if state == b"Z" else int(parent)


def _ps() -> dict[int, tuple[int, int]]:
    """Return each process's group and resident bytes."""
    out = subprocess.run(
        ["/bin/ps", "-axo", "pid=,pgid=,rss="], stdout=subprocess.PIPE, check=False, text=True
    ).stdout
    rows = [[int(field) for field in line.split()] for line in out.splitlines()]
    return {pid: (pgid, rss * 1024) for pid, pgid, rss in rows}


class ProcessMemory(NamedTuple):
    """The memory of one process."""

    now: Memory
    peak: int
    """The peak of the total since it began its program."""


def memory(pids: list[int], *, exact_above: Memory | None) -> tuple[Memory, list[ProcessMemory]]:
    """Return the memory that these processes use together, and that of each.

    The quick sum counts shared pages once for each process. When it exceeds ``exact_above``, the proportional set size (PSS) of
    each of several is summed instead, which takes longer to read, and which leaves out what they share with others.
    """
    if not LINUX:
        rows = _ps()
        return Memory(sum(rows[pid][1] for pid in pids if pid in rows), None), []
    each = [_resident(pid) for pid in pids]
    quick = _sum(process.now for process in each)
    if len(pids) <= 1 or (exact_above is not None and not _exceeds(quick, exact_above)):
        return quick, each
    return _sum(_proportional(pid, process.now) for pid, process in zip(pids, each)), each


def _sum(parts: Iterable[Memory]) -> Memory:
    parts = list(parts)
    return Memory(sum(part.total for part in parts), sum(part.anonymous or 0 for part in parts))


def _exceeds(one: Memory, other: Memory) -> bool:
    return one.total > other.total or (one.anonymous or 0) > (other.anonymous or 0)


def _resident(pid: int) -> ProcessMemory:
    sizes = _read_sizes(f"/proc/{pid}/status")
    anonymous = sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)
    now = Memory(anonymous + sizes.get("RssFile", 0), anonymous)
    return ProcessMemory(now, sizes.get("VmHWM", 0))


def own_memory() -> int:
    """Return the bytes of memory that this process uses; elsewhere than on Linux, its peak."""
    return _resident(os.getpid()).now.total if LINUX else _own_peak()


def reset_own_peak() -> int:
    """Have the peak of this process's memory begin anew, where the kernel does that, and return the peak."""
    if LINUX:
        with suppress(OSError), open("/proc/self/clear_refs", "wb", 0) as file:
            file.write(_RESET_PEAK)
            return _resident(os.getpid()).peak
    return _own_peak()


def _own_peak() -> int:
    return peak_of(resource.getrusage(resource.RUSAGE_SELF))


def peak_of(usage: resource.struct_rusage) -> int:
    """Return the peak of the memory in bytes."""
    return usage.ru_maxrss * MAXRSS_UNIT


def _proportional(pid: int, resident: Memory) -> Memory:
    sizes = _read_sizes(f"/proc/{pid}/smaps_rollup")
    total = sizes.get("Pss", resident.total)
    if "Pss_Anon" not in sizes:  # before Linux 5.9, or a process of another user
        return Memory(total, min(total, resident.anonymous or 0))
    return Memory(total, sizes["Pss_Anon"] + sizes["Pss_Shmem"])


def _read_sizes(path: str) -> dict[str, int]:
    """Return the sizes in bytes of a file in ``/proc`` that has lines such as ``VmHWM:  4096 kB``."""
    try:
        with open(path, "rb") as file:
            lines = [line.split() for line in file]
    except OSError:
        return {}
    return {
        words[0][:-1].decode(): int(words[1]) * 1024
        for words in lines
        if len(words) == 3 and words[2] == b"kB"  # noqa: PLR2004 - name, number, unit
    }


def send_signal(number: int, group: int) -> bool:
    """Send a signal to every process of our container; return whether there was any."""
    if not LINUX:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    return _send(number, members(group))


def send_signal_to_first(number: int, group: int) -> bool:
    """Send a signal to the first process of our container's own PID namespace; return whether there is one."""
    return _send(number, [pid for pid in members(group) if _inner_number(pid) == 1])


def send_signal_below(number: int, group: int) -> bool:
    """Send a signal to the processes of our container but for its first, which only waits for the others.

    Return whether there was any.
    """
    return _send(number, [pid for pid in members(group) if pid != group])


def send_signal_inside(number: int, group: int) -> bool:
    """Send a signal to the processes in our container's own PID namespace, but for the first, which only waits for the others.

    Return whether there was any.
    """
    return _send(number, [pid for pid in members(group) if (_inner_number(pid) or 0) > 1])


def _send(number: int, pids: list[int]) -> bool:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(pids)


def _inner_number(pid: int) -> int | None:
    """Return a process's id in its own PID namespace; None if that is ours."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            # The process id in each of its namespaces, from ours inwards.
            (numbers,) = [line.split()[1:] for line in file if line.startswith(b"NSpid:")]
    except (OSError, ValueError):
        return None
    return int(numbers[-1]) if len(numbers) > 1 else None


def kill_tagged(tag: str) -> int:
    """Kill every process whose environment carries a container's tag; return how many.

    For the leftovers of a killed worker. Works on Linux only.
    """
    if not LINUX:
        return 0
    killed: set[int] = set()
    # Repeated until none is found, since a process that is just being started is missed.
    for _ in range(_KILL_ROUNDS):
        members_ = {
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit() and _kill_if_tagged(int(name), tag)
        }
        if not members_:
            break
        killed |= members_
        time.sleep(_KILL_PAUSE)
    return len(killed)


def _kill_if_tagged(pid: int, tag: str) -> bool:
    try:
        # Opened before the check, so that the process killed is the one checked.
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if f"{TAG}={tag}".encode() not in file.read().split(b"\0"):
                return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
