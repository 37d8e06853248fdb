"""A worker on a node of HTCondor: it speaks with the service, and holds no more than the token of its container.

It ends with 0 once it has told the service how the container ended, or when it is not wanted; HTCondor holds it otherwise.
Told to end before that, it leaves the end untold: HTCondor may run it again, and its claim lets it follow itself.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import time
import traceback
import uuid
from dataclasses import replace
from typing import Any, Mapping

from cts_core.worker.container.log_uploader import LiveLogs
from cts_core.worker.container.runner import Objects, Worker, WorkerStoppedError
from cts_core.worker.container.supervisor import Stop
from cts_core.worker.container_folder import STREAMS, ContainerFolder
from cts_core.worker.failpoints import failpoint
from cts_core.worker.node.api_client import ServiceError, ServiceRefusedError
from cts_core.worker.node.environment import Assignment, AssignmentError
from cts_core.worker.node.reporter import Reporter
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import processes
from cts_core.worker.runtimes.base import ContainerRuntimeError, Pause
from cts_core.worker.runtimes.by_name import remove_leftovers
from cts_core.worker.runtimes.detect import choose_runtime
from cts_core.worker.s3.errors import S3Error

log = logging.getLogger(__name__)

STOPPED = 128 + signal.SIGTERM
"""The exit code of a worker that was told to end."""
_FAILED = 1
_INVALID_TOKEN, _JOB_STATE = 10020, 30300
"""Codes of the contract."""
_TICK_SECONDS = 0.1


def main(environ: Mapping[str, str]) -> int:
    """Run the container that the environment names; returns the exit code."""
    logging.basicConfig(
        level=environ.get("CTS_LOG_LEVEL") or "INFO",
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        task = Assignment.read(environ)
        return _Node(task).run()
    except WorkerStoppedError:
        log.warning("Told to end. Whether the container runs again is up to HTCondor")
        return STOPPED
    except ServiceRefusedError as e:
        if e.appcode == _JOB_STATE or (e.appcode == _INVALID_TOKEN and task.is_own_token):
            log.warning("Not wanted any more: %s", e)
            return 0
        return _fail(f"The service refuses this worker: {e}")
    except (AssignmentError, ServiceError) as e:
        return _fail(str(e))


def _fail(words: str) -> int:
    sys.stderr.write(f"CTS: {words}\n")
    return _FAILED


class _Node:
    """One container here."""

    def __init__(self, task: Assignment) -> None:
        self._task = task
        self._stop = Stop()
        self._service = task.service(self._pause, self._stop.haste)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._stop.asked:
                raise WorkerStoppedError
            time.sleep(_TICK_SECONDS)

    def run(self) -> int:
        """Returns the exit code. Raises WorkerStoppedError and ServiceError."""
        task = self._task
        failpoint("node-claim:before")
        if not self._service.claim(task.process, task.run, uuid.uuid4().hex):
            log.warning("Another worker has container %d of job %s", task.number, task.job_id)
            return 0
        failpoint("node-claim:after")
        plan = self._service.plan()
        folder = task.make_folder()
        reporter = self._reporter(plan, folder)
        result = self._run(plan, folder, reporter)
        failpoint("node-result:before")
        reporter.finish(result)
        log.info("%s", result["state"])
        folder.remove_transient()
        return 0

    def _run(
        self, plan: WorkerPlan, folder: ContainerFolder, reporter: Reporter
    ) -> Mapping[str, Any]:
        """How the container ended. Raises WorkerStoppedError."""
        try:
            worker = self._worker(plan, folder, reporter)
            result = worker.run()
        except ContainerRuntimeError as e:
            return {"state": "error", "error": str(e), "admin_error": str(e)}
        except Exception:  # noqa: BLE001 - whatever it is, somebody has to be told
            return {
                "state": "error",
                "admin_error": f"The worker on {platform.node()} failed; see the traceback.",
                "traceback": traceback.format_exc(),
            }
        if worker.is_stopped:
            folder.remove_transient()
            raise WorkerStoppedError
        if result["state"] == "error":
            result["admin_error"] = f"{result.get('admin_error', '')}\nNode: {platform.node()}"
        return result

    def _worker(self, plan: WorkerPlan, folder: ContainerFolder, reporter: Reporter) -> Worker:
        task = self._task
        _prepare_environment(task.scratch)
        plan = choose_runtime(
            plan, task.runtime, task.runtime_arguments, scratch=task.scratch, cache=task.cache
        )
        plan = replace(plan, mount_from=task.mount_from, mount_to=task.mount_to)
        processes.become_reaper()
        # A run before this one may have ended without a chance to; with the claim, nobody else runs this container.
        remove_leftovers(plan)

        def reach(pause: Pause) -> Objects:
            inputs = [entry.path for entry in plan.inputs]
            return task.objects(inputs, pause, self._stop.haste)

        return Worker(folder, plan, self._stop, reporter, reach)

    def _reporter(self, plan: WorkerPlan, folder: ContainerFolder) -> Reporter:
        def give_up(_: float) -> None:
            raise S3Error("the next time may do")

        task, haste = self._task, self._stop.haste
        paths = {folder.file(f"{stream}.txt"): plan.log_paths[stream] for stream in STREAMS}
        return Reporter(
            hurried=task.service(self._pause, haste, patience=0),
            patient=self._service,
            logs=LiveLogs(task.objects([], give_up, haste, patience=0), paths),
        )


def _prepare_environment(scratch: str) -> None:
    """What runtimes look for, and HTCondor may not say."""
    home = os.environ.get("HOME", "")
    # It may name the folder of a user who has none here.
    os.environ["HOME"] = home if os.access(home, os.W_OK) else scratch
    for name in ("TMPDIR", "APPTAINER_CACHEDIR", "APPTAINER_TMPDIR"):
        os.environ.setdefault(name, scratch)
