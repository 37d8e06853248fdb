"""The image cache that several workers share, and its size limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cts_core.worker.runtimes.image_cache import acquire, image_file
from tests.harness.worker import eventually

SIZE = 1000
WORKER = """
import os, random, sys, time
from cts_core.worker.runtimes.image_cache import image_file, acquire

def make(path):
    with open(path, "xb") as file:
        for _ in range(10):
            file.write(bytes(100))
            file.flush()
            time.sleep(random.random() / 1000)

folder, count, *names = sys.argv[1:]
for turn in range(int(count)):
    name = random.choice(names)
    lock = acquire(folder, name, make, 2500, lambda seconds: time.sleep(random.random() / 100))
    time.sleep(random.random() / 1000)
    assert os.path.getsize(image_file(folder, name)) == 1000
    os.close(lock)
"""
HOLDER = """
import sys, time
from cts_core.worker.runtimes.image_cache import acquire

def make(path):
    open(path, "xb").write(bytes(1000))
    if sys.argv[3] == "made":
        time.sleep(600)

acquire(*sys.argv[1:3], make, 10_000, time.sleep)
print("held", flush=True)
time.sleep(600)
"""


def _acquire(folder: Path, name: str, max_bytes: int = 10 * SIZE) -> int:
    return acquire(str(folder), name, _make, max_bytes, time.sleep)


def _make(path: str) -> None:
    Path(path).write_bytes(bytes(SIZE))


def _images(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.sif"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with images a, b, c and d, of which c was used last, and b first."""
    folder = tmp_path / "images"
    for name in "abcd":
        os.close(_acquire(folder, name))
    for age, name in enumerate("cdab"):
        os.utime(image_file(str(folder), name), (time.time() - 100 * age - 100,) * 2)
    return folder


def test_least_recently_used_images_are_evicted(folder: Path) -> None:
    os.close(_acquire(folder, "b"))
    assert _images(folder) == ["a", "b", "c", "d"]
    os.close(_acquire(folder, "e", 3 * SIZE))
    assert _images(folder) == ["b", "c", "e"]
    # Nor do their locks stay.
    assert sorted(path.stem for path in folder.glob("*.lock")) == ["b", "c", "e"]


def test_image_in_use_is_not_evicted(folder: Path) -> None:
    used = _acquire(folder, "b")
    own = _acquire(folder, "e", SIZE // 2)
    assert _images(folder) == ["b", "e"]
    os.close(used)
    os.close(own)
    os.close(_acquire(folder, "f", SIZE // 2))
    assert _images(folder) == ["f"]


def test_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: str) -> None:
        _make(path)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        acquire(str(tmp_path), "a", fail, SIZE, time.sleep)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("state", ["held", "made"])
def test_killed_worker_holds_no_lock(tmp_path: Path, state: str) -> None:
    token = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), "a", state], stdout=subprocess.PIPE
    )
    image = tmp_path / ("a.sif" if state == "held" else "a.sif.part")
    if state == "held":
        assert token.stdout is not None
        assert token.stdout.readline() == b"held\n"
    eventually(image.exists)
    os.close(_acquire(tmp_path, "b", SIZE // 2))
    assert image.exists()
    token.send_signal(signal.SIGKILL)
    token.communicate()
    os.close(_acquire(tmp_path, "b", SIZE // 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.lock", "b.sif"]


@pytest.mark.slow
def test_concurrent_workers_with_space_for_two_images(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path), "40", *"abcde"]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(6)]
    for worker in workers:
        _, message = worker.communicate(timeout=120)
        assert worker.returncode == 0, message.decode()
    # Images that were in use when the last worker evicted others are still there.
    os.close(_acquire(tmp_path, "a", 2 * SIZE))
    left = _images(tmp_path)
    assert "a" in left
    assert len(left) <= 2
    names = sorted(f"{name}.{end}" for name in left for end in ("lock", "sif"))
    assert sorted(path.name for path in tmp_path.iterdir()) == names
