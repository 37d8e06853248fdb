"""What the kernel counted for a container: cgroups of version 2, or of version 1."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

_ROOT = "/sys/fs/cgroup"


@dataclass(frozen=True)
class Usage:
    """Since the container's start; None where the kernel does not say."""

    peak: int | None
    """Bytes of memory, the page cache of its files included."""
    cpu_seconds: float | None
    killed: int
    """Processes that were killed because the memory was used up."""


class Cgroup:
    """The control group of a process, as long as it is there."""

    def __init__(self, folders: dict[str, str]) -> None:
        """``folders``: by controller; under the empty name that of version 2."""
        self._folders = folders

    @classmethod
    def of(cls, pid: int, container_id: str) -> Cgroup | None:
        """The group of a process of this container; None for any other process, as of another machine."""
        lines = _read(f"/proc/{pid}/cgroup").splitlines()
        folders = {}
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if container_id in path:
                for name in controllers.split(","):
                    folders[name] = f"{_ROOT}/{name}{path}" if name else f"{_ROOT}{path}"
        return cls(folders) if folders else None

    def read(self) -> Usage | None:
        """What it used so far; None when the group is gone."""
        if "memory" in self._folders:
            memory, cpu = self._folders["memory"], self._folders.get("cpuacct", "")
            peak = _number(f"{memory}/memory.max_usage_in_bytes")
            nanoseconds = _number(f"{cpu}/cpuacct.usage")
            seconds = None if nanoseconds is None else nanoseconds / 1e9
            killed = _field(f"{memory}/memory.oom_control", "oom_kill")
        else:
            unified = self._folders.get("", "")
            peak = _number(f"{unified}/memory.peak")
            if peak is None:  # before Linux 5.19
                peak = _number(f"{unified}/memory.current")
            microseconds = _field(f"{unified}/cpu.stat", "usage_usec")
            seconds = None if microseconds is None else microseconds / 1e6
            killed = _field(f"{unified}/memory.events", "oom_kill")
        if peak is None and seconds is None:
            return None
        return Usage(peak, seconds, killed or 0)


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
