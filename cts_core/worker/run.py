"""The steps of one container, from its claim to its result."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import traceback
from typing import Any, Dict, Iterator, List, Optional, Tuple

from cts_core.worker import processes
from cts_core.worker.directory import Directory, DirectoryError
from cts_core.worker.failpoint import failpoint
from cts_core.worker.logs import BoundedLog
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import host
from cts_core.worker.spool import (
    INPUTS,
    OUTPUTS,
    PLAN,
    RESULT,
    SCRATCH,
    ContainerFolder,
    now,
    write_json,
)
from cts_core.worker.watch import Ended, Watch

STREAMS = ("stdout", "stderr")
_TEXT = "text/plain; charset=utf-8"


class Failed(Exception):
    """The container fails; the text is for its owner."""


class Canceled(Exception):
    """The job was canceled."""


class Worker:
    """Takes one claimed container to its end."""

    def __init__(self, folder: ContainerFolder, plan: WorkerPlan, nudge: Optional[int]) -> None:
        self._folder = folder
        self._plan = plan
        self._nudge = nudge
        self._objects = Directory(plan.objects_root)
        self._result: Dict[str, Any] = {}

    def run(self) -> None:
        """Run every step and write the result, whatever happens."""
        try:
            self._steps()
        except Canceled:
            self._result["state"] = "canceled"
        except (Failed, DirectoryError, host.ProgramChanged) as e:
            self._result.update(state="error", error=str(e), admin_error=str(e))
        except Exception as e:  # noqa: BLE001 - whatever it is, the container must end with a result
            self._result.update(
                state="error",
                error="CTS itself failed while it ran this container; an admin can see how.",
                admin_error=repr(e),
                traceback=traceback.format_exc(),
            )
        self._store_logs()
        for name in (INPUTS, OUTPUTS, SCRATCH):
            shutil.rmtree(self._folder.file(name), ignore_errors=True)
        failpoint("result:before")
        write_json(self._folder.file(RESULT), {**self._result, "time": now()})
        failpoint("result:after")
        self.nudge()

    def _steps(self) -> None:
        self._fetch()
        host.check_program(self._plan)
        self._event("job_submitting")
        ended = self._execute()
        self._result.update(
            exit_code=ended.exit_code,
            cpu_seconds=ended.cpu_seconds,
            wall_seconds=ended.wall_seconds,
            max_memory=ended.max_memory,
        )
        if ended.canceled:
            raise Canceled
        if ended.exit_code != 0 or ended.stopped_for:
            self._event("error_processing_submitting", exit_code=ended.exit_code)
            self._store_logs()
            self._event("error_processing_submitted")
            self._result.update(
                state="error",
                admin_error=ended.stopped_for or f"Container exit code: {ended.exit_code}",
            )
            if ended.stopped_for:
                self._result["error"] = ended.stopped_for
            return
        self._event("upload_submitting", exit_code=ended.exit_code)
        self._result["outputs"] = self._store_outputs()
        self._event("upload_submitted")
        self._result["state"] = "complete"

    def _check_canceled(self) -> None:
        if self._folder.is_canceled():
            raise Canceled

    def _event(self, state: str, **fields: Any) -> None:
        self._folder.append_event(state, **fields)
        self.nudge()

    def nudge(self) -> None:
        """Tell the server that started us, if it is still there, that there is something to read."""
        if self._nudge is not None:
            try:
                os.write(self._nudge, b".")
            except OSError:
                self._nudge = None

    def _fetch(self) -> None:
        for name in (INPUTS, OUTPUTS, SCRATCH):
            os.makedirs(self._folder.file(name), mode=0o700, exist_ok=True)
        inputs = self._folder.file(INPUTS)
        for entry in self._plan.inputs:
            self._check_canceled()
            target = os.path.join(inputs, entry.place)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            self._objects.fetch(entry.path, target, entry.crc64nvme)
        if self._plan.manifest_name is not None:
            text = host.map_mounts(self._plan.manifest_text, host.mounts(self._plan, self._folder))
            with open(
                os.path.join(inputs, self._plan.manifest_name), "x", encoding="utf-8"
            ) as file:
                file.write(text)

    def _execute(self) -> Ended:
        self._check_canceled()
        logs = [
            BoundedLog(self._folder.file(f"{stream}.txt"), self._plan.log_limit)
            for stream in STREAMS
        ]
        try:
            process = host.start(self._plan, self._folder)
        except OSError as e:
            raise Failed(
                f"The program {self._plan.argv[0]} could not be started: {e.strerror}"
            ) from e
        self._event("job_submitted")
        return Watch(process, self._folder, self._plan, logs).until_ended()

    def _store_outputs(self) -> List[Dict[str, str]]:
        stored = []
        for path, place in sorted(self._outputs(), key=lambda output: output[1]):
            self._check_canceled()
            info = self._objects.store(path, f"{self._plan.output_dir}/{place}")
            stored.append({"file": info.path, "crc64nvme": info.crc64nvme or ""})
        return stored

    def _outputs(self) -> Iterator[Tuple[str, str]]:
        """Each output file and its place. A link is followed only when it stays among the outputs."""
        root = os.path.realpath(self._folder.file(OUTPUTS))
        left_out = []
        for base, folders, names in os.walk(root):
            for name in names + [f for f in folders if os.path.islink(os.path.join(base, f))]:
                path = os.path.join(base, name)
                place = os.path.relpath(path, root)
                real = os.path.realpath(path)
                inside = real.startswith(f"{root}/")
                if inside and os.path.exists(real) and stat.S_ISREG(os.stat(real).st_mode):
                    yield real, place
                else:
                    left_out.append(place)
        if left_out:
            with open(self._folder.file("stderr.txt"), "a", encoding="utf-8") as log:
                log.write(
                    "\n[CTS: not stored, for they are links out of the output folder, links to folders, or "
                    f"no regular files: {', '.join(sorted(left_out)[:20])}]\n"
                )

    def _store_logs(self) -> None:
        for stream in STREAMS:
            path = self._folder.file(f"{stream}.txt")
            try:
                if os.path.getsize(path):
                    self._objects.store(path, self._plan.log_paths[stream], _TEXT)
            except FileNotFoundError:
                continue
            except (OSError, DirectoryError) as e:
                # The outcome of the container is not the log's: the server still has its own copy.
                print(f"the log {stream} could not be stored: {e}", file=sys.stderr)


def main(path: str, nudge: Optional[int]) -> None:
    """Claim the container in this folder and run it; leave quietly when somebody else has it."""
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    if nudge is not None:
        os.set_inheritable(nudge, False)
    folder = ContainerFolder(path)
    if folder.hold_lock() is None:
        return
    failpoint("claim:before")
    if not folder.claim():
        return
    failpoint("claim:after")
    processes.become_reaper()
    Worker(folder, WorkerPlan.load(folder.file(PLAN)), nudge).run()
