"""Resource usage of a container, from its control group of version 2 or version 1."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from cts_core.worker.runtimes.memory import Memory

_ROOT = "/sys/fs/cgroup"


@dataclass(frozen=True)
class Usage:
    """The usage since the container's start; None where the kernel does not report it."""

    memory: Memory | None
    """Now; the total includes the page cache."""
    peak_memory: int | None
    """The peak of the total in bytes."""
    cpu_seconds: float | None
    killed: int
    """Processes that were killed for exceeding the memory limit."""


class Cgroup:
    """The control group of a process, while it exists."""

    def __init__(self, folders: dict[str, str]) -> None:
        """``folders``: by controller; under the empty name that of version 2."""
        self._folders = folders

    @classmethod
    def of(cls, pid: int, container_id: str) -> Cgroup | None:
        """Return the group of a container's process; None for any other process, as on another machine."""
        lines = _read(f"/proc/{pid}/cgroup").splitlines()
        folders = {}
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if container_id in path:
                for name in controllers.split(","):
                    folders[name] = f"{_ROOT}/{name}{path}" if name else f"{_ROOT}{path}"
        return cls(folders) if folders else None

    def read(self) -> Usage | None:
        """Return the usage so far; None when the group is gone."""
        if "memory" in self._folders:
            memory, cpu = self._folders["memory"], self._folders.get("cpuacct", "")
            used = _memory(memory, "memory.usage_in_bytes", ("total_rss", "total_shmem"))
            peak_memory = _number(f"{memory}/memory.max_usage_in_bytes")
            nanoseconds = _number(f"{cpu}/cpuacct.usage")
            seconds = None if nanoseconds is None else nanoseconds / 1e9
            killed = _field(f"{memory}/memory.oom_control", "oom_kill")
        else:
            unified = self._folders.get("", "")
            used = _memory(unified, "memory.current", ("anon", "shmem"))
            # None before Linux 5.19.
            peak_memory = _number(f"{unified}/memory.peak")
            microseconds = _field(f"{unified}/cpu.stat", "usage_usec")
            seconds = None if microseconds is None else microseconds / 1e6
            killed = _field(f"{unified}/memory.events", "oom_kill")
        if used is None and seconds is None:
            return None
        return Usage(used, peak_memory, seconds, killed or 0)


def _memory(folder: str, total: str, anonymous: tuple[str, str]) -> Memory | None:
    used = _number(f"{folder}/{total}")
    if used is None:
        return None
    parts = [_field(f"{folder}/memory.stat", name) for name in anonymous]
    return Memory(used, None if None in parts else sum(part or 0 for part in parts))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int | None:
    with suppress(ValueError):
        return int(_read(path))
    return None


def _field(path: str, name: str) -> int | None:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None
