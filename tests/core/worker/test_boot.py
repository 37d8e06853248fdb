"""The id of this boot of the machine, on Linux and macOS."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cts_core.worker import boot


@pytest.mark.parametrize(
    ("script", "expected"),
    [("echo 6B01-4F", "6B01-4F"), ("exit 1", "")],
)
def test_boot_of_macos_is_asked_of_sysctl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(boot, "_SYSCTL", ("/bin/sh", "-c", script))
    assert boot.boot_id.__wrapped__() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no /proc")
def test_boot_of_linux_is_the_kernels() -> None:
    assert boot.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
