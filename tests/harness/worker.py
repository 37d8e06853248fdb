"""The harness of the worker: one container's folder with its plan, and worker processes that run it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cts_core.worker.container_folder import CANCELED, PLAN, ContainerFolder
from cts_core.worker.files import write_json
from cts_core.worker.objects.directory import Directory
from cts_core.worker.plan import Input, WorkerPlan

IMAGE = f"registry.test:5000/a/tool@sha256:{'ab' * 32}"
_TIMEOUT = 30.0
_MAIN = "import sys; from cts_core.worker.local.main import main; main(sys.argv[1], *map(int, sys.argv[2:]))"


def eventually(condition: Callable[[], Any]) -> Any:
    """Poll ``condition`` until it is true, and return its value. For other processes, which offer no event to wait for."""
    deadline = time.monotonic() + _TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return value


def _state(pid: int) -> str:
    """Return the kernel's letter for a process's state; X: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    return _state(pid) not in "ZX"


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal."""
    return _state(pid) == "T"


def suspend(pids: Sequence[int], seconds: float) -> None:
    """Suspend processes for a time, as HTCondor does."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(is_stopped(pid) for pid in pids))
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@dataclass
class WorkerHarness:
    """One container: its plan, its folder, its object store, and the workers started for it."""

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
        """Register a script as the program."""
        file = self.root / "tool"
        file.write_text(f"#!{interpreter}\n{script}\n")
        file.chmod(0o755)
        digest = "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
        self.change(entrypoint=[str(file)], program_file=str(file), digest=digest)

    def clone(self, name: str) -> WorkerHarness:
        """Return the harness of a further container with the same plan."""
        clone = WorkerHarness(self.root / name, self.objects, self.plan, self.workers)
        clone.path("").mkdir(parents=True)
        clone.change(tag=f"{self.plan.tag}-{name}")
        return clone

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
        """Run one worker to its end, and return its result."""
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
        """Return what the program wrote to the file ``report`` in the root folder."""
        return json.loads((self.root / "report").read_text())
