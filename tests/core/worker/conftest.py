"""A container's folder with a plan in it, and workers to run it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cts_core.worker.container_folder import CANCELED, PLAN, ContainerFolder
from cts_core.worker.files import write_json
from cts_core.worker.objects.directory import Directory
from cts_core.worker.plan import Input, WorkerPlan

_PATIENCE = 30.0
_MAIN = "import sys; from cts_core.worker.local.main import main; main(sys.argv[1], *map(int, sys.argv[2:]))"


def eventually(condition: Callable[[], Any]) -> Any:
    """What ``condition`` says once it is true; other processes offer nothing to wait for."""
    deadline = time.monotonic() + _PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return found


def _state(pid: int) -> str:
    """The letter by which the kernel says how a process is; X: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    return _state(pid) not in "ZX"


def is_stopped(pid: int) -> bool:
    """Whether a process stands still."""
    return _state(pid) == "T"


def suspend(pids: Sequence[int], seconds: float) -> None:
    """Have processes stand still for a time, as HTCondor does."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(is_stopped(pid) for pid in pids))
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@dataclass
class Box:
    """One container: its plan, its folder, its object store, and the workers that were started on it."""

    root: Path
    objects: Directory
    plan: WorkerPlan
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def folder(self) -> ContainerFolder:
        return ContainerFolder(str(self.root / "job" / "0"))

    def path(self, name: str) -> Path:
        return Path(self.folder.file(name))

    def program(self, script: str, interpreter: str = "/bin/sh") -> None:
        """The script becomes the registered program."""
        file = self.root / "tool"
        file.write_text(f"#!{interpreter}\n{script}\n")
        file.chmod(0o755)
        digest = "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
        self.change(entrypoint=[str(file)], program_file=str(file), digest=digest)

    def another(self, name: str) -> Box:
        """A further container with the same plan."""
        box = Box(self.root / name, self.objects, self.plan, self.workers)
        box.path("").mkdir(parents=True)
        box.change(tag=f"{self.plan.tag}-{name}")
        return box

    def python(self, script: str) -> None:
        self.program(script, sys.executable)

    def change(self, **changes: Any) -> None:
        self.plan = replace(self.plan, **changes)

    def add_input(self, path: str, data: bytes, place: str | None = None) -> None:
        with self.objects.writer(path) as writer:
            writer.write(data)
            info = writer.commit()
        place = place or path.rpartition("/")[2]
        self.change(inputs=[*self.plan.inputs, Input(path, info.crc64nvme or "", place)])

    def start(self, failpoints: str = "", wakeup_fd: int | None = None) -> subprocess.Popen[bytes]:
        write_json(str(self.path(PLAN)), self.plan.to_json())
        more = [] if wakeup_fd is None else [str(wakeup_fd)]
        worker = subprocess.Popen(
            [sys.executable, "-c", _MAIN, self.folder.path, *more],
            env={**os.environ, "CTS_FAILPOINTS": failpoints, "SECRET_TOKEN": "s3cret"},
            pass_fds=[] if wakeup_fd is None else [wakeup_fd],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.workers.append(worker)
        return worker

    def run(self, failpoints: str = "") -> dict[str, Any]:
        """The result of one worker from start to end."""
        worker = self.start(failpoints)
        _, stderr = worker.communicate(timeout=60)
        assert worker.returncode == 0, stderr.decode()
        result = self.folder.read_result()
        assert result is not None, stderr.decode()
        return result

    def cancel(self) -> None:
        (self.root / "job" / CANCELED).touch()

    def events(self) -> list[str]:
        return [event["state"] for event in self.folder.read_events()]

    def await_event(self, state: str) -> None:
        eventually(lambda: state in self.events())

    def read(self, path: str) -> bytes:
        return b"".join(self.objects.read(path))

    def stored(self, prefix: str = "data/out/") -> list[str]:
        return [info.path for info in self.objects.list(prefix)[0]]

    def report(self) -> Any:
        """What a program wrote to its file ``report`` in the box."""
        return json.loads((self.root / "report").read_text())


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    objects = Directory(str(tmp_path / "objects"))
    objects.create()
    with objects.writer("data/here") as writer:
        writer.commit()
    (tmp_path / "job" / "0").mkdir(parents=True)
    plan = WorkerPlan(
        tag=f"{tmp_path.name}/0",
        entrypoint=[],
        arguments=[],
        environment={"REPORT": str(tmp_path / "report")},
        program_file="",
        digest="",
        inputs=[],
        input_mount="/input_files",
        output_mount="/output_files",
        objects_root=str(tmp_path / "objects"),
        output_dir="data/out",
        log_paths={"stdout": "data/logs/0-stdout.txt", "stderr": "data/logs/0-stderr.txt"},
        memory=500_000_000,
        runtime=60.0,
        stop_grace=5.0,
        log_limit=1 << 20,
    )
    box = Box(tmp_path, objects, plan)
    box.program("echo hello")
    yield box
    for worker in box.workers:
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(signal.SIGCONT)
            worker.kill()
        worker.wait()
        if worker.stderr:
            worker.stderr.close()
