"""The worker on an HTCondor node: it calls the service, with no other credential than its container's token.

It exits with 0 after it has reported the container's end, or when the container is not needed any more; on any other code,
HTCondor holds the job. A worker that is stopped before that does not report the end: HTCondor may run it again, and its
claim permits that.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import time
import traceback
from dataclasses import replace
from typing import Any, Mapping

from cts_core.worker.container.log_uploader import LogUploader
from cts_core.worker.container.runner import ContainerRunner, ObjectClient, WorkerStoppedError
from cts_core.worker.container.supervisor import StopSignal
from cts_core.worker.container_folder import STREAMS, ContainerFolder
from cts_core.worker.failpoints import failpoint
from cts_core.worker.node.api_client import ServiceError, ServiceRefusedError
from cts_core.worker.node.environment import Environment, InvalidEnvironmentError
from cts_core.worker.node.reporter import Reporter
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import processes
from cts_core.worker.runtimes.base import ContainerRuntimeError, Sleep
from cts_core.worker.runtimes.by_name import remove_leftovers
from cts_core.worker.runtimes.detect import choose_runtime
from cts_core.worker.s3.errors import S3Error

log = logging.getLogger(__name__)

STOPPED = 128 + signal.SIGTERM
"""The exit code of a worker that was stopped by a signal."""
_FAILURE = 1
_INVALID_TOKEN, _JOB_STATE = 10020, 30300
"""Error codes of the contract."""
_TICK_SECONDS = 0.1


def main(environ: Mapping[str, str]) -> int:
    """Run the container that the environment names, and return the exit code."""
    logging.basicConfig(
        level=environ.get("CTS_LOG_LEVEL") or "INFO",
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        environment = Environment.read(environ)
        return _Node(environment).run()
    except WorkerStoppedError:
        log.warning("Told to end. Whether the container runs again is up to HTCondor")
        return STOPPED
    except ServiceRefusedError as e:
        if e.appcode == _JOB_STATE or (e.appcode == _INVALID_TOKEN and environment.is_own_token):
            log.warning("Not wanted any more: %s", e)
            return 0
        return _fail(f"The service refuses this worker: {e}")
    except (InvalidEnvironmentError, ServiceError) as e:
        return _fail(str(e))


def _fail(message: str) -> int:
    sys.stderr.write(f"CTS: {message}\n")
    return _FAILURE


class _Node:
    """The worker of one container on this node."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._stop = StopSignal()
        self._client = environment.api_client(self._sleep, self._stop.cancellation)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._stop.is_requested:
                raise WorkerStoppedError
            time.sleep(_TICK_SECONDS)

    def run(self) -> int:
        """Run the worker, and return the exit code. Raises WorkerStoppedError and ServiceError."""
        environment = self._environment
        failpoint("node-claim:before")
        if not self._client.claim(environment.process, environment.run):
            log.warning(
                "Another worker has container %d of job %s", environment.number, environment.job_id
            )
            return 0
        failpoint("node-claim:after")
        plan = self._client.plan()
        folder = environment.make_folder()
        reporter = self._make_reporter(plan, folder)
        result = self._run(plan, folder, reporter)
        failpoint("node-result:before")
        reporter.finish(result)
        log.info("%s", result["state"])
        folder.remove_transient()
        return 0

    def _run(
        self, plan: WorkerPlan, folder: ContainerFolder, reporter: Reporter
    ) -> Mapping[str, Any]:
        """Run the container, and return its result. Raises WorkerStoppedError."""
        try:
            runner = self._make_runner(plan, folder, reporter)
            result = runner.run()
        except ContainerRuntimeError as e:
            return {"state": "error", "error": str(e), "admin_error": str(e)}
        except Exception:  # noqa: BLE001 - every failure must be reported to the service
            return {
                "state": "error",
                "admin_error": f"The worker on {platform.node()} failed; see the traceback.",
                "traceback": traceback.format_exc(),
            }
        if runner.is_stopped:
            folder.remove_transient()
            raise WorkerStoppedError
        if result["state"] == "error":
            result["admin_error"] = f"{result.get('admin_error', '')}\nNode: {platform.node()}"
        return result

    def _make_runner(
        self, plan: WorkerPlan, folder: ContainerFolder, reporter: Reporter
    ) -> ContainerRunner:
        environment = self._environment
        _prepare_environment(environment.scratch)
        plan = choose_runtime(
            plan,
            environment.runtime,
            environment.runtime_arguments,
            scratch=environment.scratch,
            cache=environment.cache,
        )
        plan = replace(plan, mount_from=environment.mount_from, mount_to=environment.mount_to)
        processes.become_reaper()
        # An earlier run may have been killed before its clean-up. With the claim, no other worker runs this container.
        remove_leftovers(plan)

        def open_objects(sleep: Sleep) -> ObjectClient:
            inputs = [entry.path for entry in plan.inputs]
            return environment.s3_objects(inputs, sleep, self._stop.cancellation)

        return ContainerRunner(folder, plan, self._stop, reporter, open_objects)

    def _make_reporter(self, plan: WorkerPlan, folder: ContainerFolder) -> Reporter:
        def give_up(_: float) -> None:
            raise S3Error("the next time may do")

        environment, cancellation = self._environment, self._stop.cancellation
        paths = {folder.file(f"{stream}.txt"): plan.log_paths[stream] for stream in STREAMS}
        return Reporter(
            once=environment.api_client(self._sleep, cancellation, retry_timeout=0),
            persistent=self._client,
            logs=LogUploader(
                environment.s3_objects([], give_up, cancellation, retry_timeout=0), paths
            ),
        )


def _prepare_environment(scratch: str) -> None:
    """Set variables that runtimes need, and that HTCondor may not set."""
    home = os.environ.get("HOME", "")
    # HOME may name the folder of a user who has none on this node.
    os.environ["HOME"] = home if os.access(home, os.W_OK) else scratch
    for name in ("TMPDIR", "APPTAINER_CACHEDIR", "APPTAINER_TMPDIR"):
        os.environ.setdefault(name, scratch)
