"""The boot of this machine: what tells it from every other machine, and from itself before a restart."""

from __future__ import annotations

import functools
import subprocess
import sys

_SYSCTL = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")


@functools.cache
def boot_id() -> str:
    """Return the id of this boot of the machine; empty where the system has none."""
    try:
        if sys.platform == "darwin":
            return subprocess.run(  # noqa: S603 - a program of the system
                _SYSCTL, stdout=subprocess.PIPE, timeout=10, check=True, text=True
            ).stdout.strip()
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, subprocess.SubprocessError):
        return ""
