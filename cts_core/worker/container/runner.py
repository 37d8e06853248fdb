"""The steps of one container, from its claim to its result."""

from __future__ import annotations

import errno
import os
import threading
import time
import traceback
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from operator import itemgetter
from typing import (
    Any,
    Callable,
    ContextManager,
    Iterable,
    Iterator,
    Mapping,
    Protocol,
    TypeVar,
    Union,
)

from cts_core.worker.advice import AGAIN
from cts_core.worker.container.logs import BoundedLog
from cts_core.worker.container.outputs import collect_outputs, is_disk_full, path_problem
from cts_core.worker.container.supervisor import ProcessResult, StopSignal, Supervisor
from cts_core.worker.container_folder import (
    INPUTS,
    OUTPUTS,
    STREAMS,
    TRANSIENT,
    ContainerFolder,
    now,
)
from cts_core.worker.files import remove_tree
from cts_core.worker.objects.directory import Directory, DirectoryError
from cts_core.worker.objects.tree import RefusedError
from cts_core.worker.parallel import ParallelMap
from cts_core.worker.plan import Input, WorkerPlan
from cts_core.worker.runtimes.base import ContainerRuntimeError, Sleep
from cts_core.worker.runtimes.by_name import RUNTIMES, start_orphan_removal
from cts_core.worker.runtimes.errors import TOO_LONG
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.errors import S3Error
from cts_core.worker.units import format_memory

LOG_TYPE = "text/plain; charset=utf-8"
_POLL_SECONDS = 0.1
"""The interval between checks for a cancellation while objects are fetched or stored."""
_MAX_NAMED = 10
"""The most file names listed in one sentence."""

_Item = TypeVar("_Item")


class ContainerFailedError(Exception):
    """The container fails; the text is for the job's owner."""


class JobCanceledError(Exception):
    """The job was canceled."""


class WorkerStoppedError(Exception):
    """The worker was stopped from outside; the text is for the job's owner."""


ObjectClient = Union[Directory, S3Objects]


class ProgressListener(Protocol):
    """Receives the progress of one container."""

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Record that a state is reached: ``state``, ``time``, and further fields. Raises OSError."""

    def while_running(self) -> ContextManager[None]:
        """Return a context that is active while the container runs and its logs grow."""


class ContainerRunner:
    """Runs one claimed container."""

    def __init__(
        self,
        folder: ContainerFolder,
        plan: WorkerPlan,
        stop: StopSignal,
        listener: ProgressListener,
        open_objects: Callable[[Sleep], ObjectClient],
    ) -> None:
        """``open_objects`` returns the object client, which waits by the given function. Raises S3Error where there is none."""
        self.is_stopped = False
        """Whether the container ended because its worker was stopped."""
        self._folder = folder
        self._plan = plan
        self._stop = stop
        self._listener = listener
        self._open_objects = open_objects
        self._container = RUNTIMES[plan.container_runtime](plan, folder)
        self._result: dict[str, Any] = {}

    @cached_property
    def _objects(self) -> ObjectClient:
        return self._open_objects(self._sleep)

    def _sleep(self, seconds: float) -> None:
        """Wait before a retry. Raises JobCanceledError and WorkerStoppedError."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check_canceled()
            time.sleep(_POLL_SECONDS)

    def run(self) -> dict[str, Any]:
        """Run every step, and return the result.

        A cancellation before this returns wins over completion; a later one has no effect.
        """
        start_orphan_removal(self._plan)
        try:
            self._run_steps()
        except JobCanceledError:
            self._finish("canceled")
        except (ContainerFailedError, WorkerStoppedError) as e:
            self.is_stopped = isinstance(e, WorkerStoppedError)
            self._finish("error", error=str(e), admin_error=str(e))
        except Exception:  # noqa: BLE001 - on any failure the container must end with a result
            self._finish(
                "error",
                error="CTS itself failed while it ran this container. An administrator can see how.",
                admin_error="The worker failed; see the traceback.",
                traceback=traceback.format_exc(),
            )
        if self._result["state"] == "complete" and self._folder.is_canceled():
            self._result["state"] = "canceled"
        return self._result

    def _finish(self, state: str, **fields: object) -> None:
        self._result.update(state=state, **fields)
        try:
            self._store_logs()
        except Exception as e:  # noqa: BLE001 - a failed upload of logs must not replace the state
            previous = self._result.get("admin_error")
            self._result["admin_error"] = f"{previous}\n{e}" if previous else str(e)

    def _run_steps(self) -> None:
        with translated_errors("Its inputs could not be fetched"):
            self._fetch_inputs()
        with translated_errors("Its program cannot be run"):
            self._container.prepare(self._sleep)
        self._check_canceled()
        self._report("job_submitting")
        result = self._execute()
        self._result.update(
            exit_code=result.exit_code,
            cpu_seconds=result.cpu_seconds,
            wall_seconds=result.wall_seconds,
            max_memory=result.max_memory,
            max_anonymous_memory=result.max_anonymous_memory,
        )
        if result.canceled:
            raise JobCanceledError
        self._check_memory(result)
        if result.by_stop_signal:
            raise WorkerStoppedError(result.reason)
        if result.exit_code != 0 or result.is_stopped:
            self._process_error(result)
        else:
            self._upload(result)

    def _check_memory(self, result: ProcessResult) -> None:
        """Warn about a peak above the limit that was known at the end only, as it was between two samples."""
        used = result.max_anonymous_memory
        if used is None:
            used = result.max_memory
        if used is not None and used > self._plan.memory and not result.is_stopped:
            self._warn(
                f"It used {format_memory(used)} of memory at its peak, and its limit is {format_memory(self._plan.memory)}: a "
                "pool would have killed it. Ask for more memory"
            )

    def _process_error(self, result: ProcessResult) -> None:
        reason = result.reason
        if not reason and is_disk_full(self._folder.path):
            reason = (
                f"It ended with exit code {result.exit_code} while the disk that takes outputs was full: submit it "
                "again when there is room, with less for each container if its own outputs filled it."
            )
            # The outputs are given up, and the logs need space, too.
            remove_tree(self._folder.file(OUTPUTS))
        self._report("error_processing_submitting", exit_code=result.exit_code)
        self._finish("error", admin_error=reason or f"Container exit code: {result.exit_code}")
        if reason:
            self._result["error"] = reason
        self._report("error_processing_submitted")

    def _upload(self, result: ProcessResult) -> None:
        if is_disk_full(self._folder.path):
            self._warn(
                "The disk that takes outputs was full when it ended: they may be incomplete, although it ended well."
            )
        self._report("upload_submitting", exit_code=result.exit_code)
        with translated_errors("Its outputs could not be stored"):
            self._store_outputs()
        self._store_logs()
        self._report("upload_submitted")
        self._result["state"] = "complete"

    def _check_canceled(self) -> None:
        if self._folder.is_canceled():
            raise JobCanceledError("The job was canceled.")
        if self._stop.is_requested:
            raise WorkerStoppedError(
                f"Its worker was told to end, as when the machine is shut down. {AGAIN}"
            )

    def _report(self, state: str, **fields: object) -> None:
        with translated_errors("Its progress could not be recorded"):
            self._listener.on_event({"state": state, "time": now(), **fields})

    def _fetch_inputs(self) -> None:
        for name in TRANSIENT:
            os.mkdir(self._folder.file(name), 0o700)
        inputs = self._folder.file(INPUTS)

        def fetch(entry: Input) -> None:
            target = _path_below(inputs, entry.place)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            self._objects.fetch(entry.path, target, entry.crc64nvme)

        self._map(fetch, self._plan.inputs)
        if self._plan.manifest_name is not None:
            text = self._container.map_paths(self._plan.manifest_text)
            # Written as bytes, so that line ends stay as they are.
            with open(_path_below(inputs, self._plan.manifest_name), "xb") as file:
                file.write(text.encode())

    def _map(self, function: Callable[[_Item], None], items: Iterable[_Item]) -> None:
        """Call a function for several items: in parallel with a server, one by one with a directory."""
        objects = self._objects
        parallel = objects.parallel if isinstance(objects, S3Objects) else ParallelMap(1)
        with self._aborted_by_cancel():
            parallel.map(function, items, self._check_canceled)

    @contextmanager
    def _aborted_by_cancel(self) -> Iterator[None]:
        """Return a context in which a cancellation aborts requests: a server that is silent must not hold it up.

        What begins after a cancellation is tried all the same, and waits for a shorter time.
        """
        if isinstance(self._objects, Directory):
            yield
            return
        cancellation, is_over = self._stop.cancellation, threading.Event()
        if self._folder.is_canceled():
            cancellation.cancel()
            is_over.set()

        def watch() -> None:
            while not is_over.wait(_POLL_SECONDS):
                if self._folder.is_canceled():
                    cancellation.cancel()
                    return

        thread = threading.Thread(target=watch, name="cancel-watch")
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _execute(self) -> ProcessResult:
        with translated_errors("Its program could not be started"):
            logs = [
                BoundedLog(self._folder.file(f"{stream}.txt"), self._plan.log_limit)
                for stream in STREAMS
            ]
            with ExitStack() as undo:
                undo.callback(self._container.remove)
                process = self._container.start(self._sleep)
                undo.pop_all()
        supervisor = Supervisor(self._container, process, self._folder, self._plan, logs)
        try:
            self._report("job_submitted")
            with self._listener.while_running():
                result = supervisor.wait(self._stop)
        finally:
            # On any failure no process of the container may be left.
            supervisor.clean_up()
        for stream, log in zip(STREAMS, logs):
            log.close()
            if log.problem:
                self._warn(
                    f"Its {stream} is incomplete, for it could not be written: {log.problem}"
                )
        return result

    def _store_outputs(self) -> None:
        root = self._folder.file(OUTPUTS)
        outputs = collect_outputs(root)
        if outputs.irregular:
            self._warn(
                "Not stored, for they are links or no regular files: "
                + _join_names(outputs.irregular)
            )
        if outputs.empty:
            self._warn("Not stored, for they are empty folders: " + _join_names(outputs.empty))
        stored = self._result["outputs"] = []
        paths = {name: f"{self._plan.output_dir}/{name}" for name in outputs.files}
        problems = {
            name: problem for name, path in paths.items() if (problem := path_problem(path))
        }

        is_empty = not self._has_below(self._plan.output_dir)
        hiding: list[str] = []

        def store(name: str) -> None:
            is_folder = not is_empty and self._has_below(paths[name])
            try:
                info = self._objects.store(os.path.join(root, name), paths[name])
            except RefusedError as e:
                problems[name] = str(e)
                return
            stored.append({"file": paths[name], "crc64nvme": info.crc64nvme})
            if is_folder and not self._has_below(paths[name]):
                hiding.append(name)

        try:
            self._map(store, [name for name in paths if name not in problems])
        finally:
            stored.sort(key=itemgetter("file"))
        if hiding:
            self._warn(
                "Stored in the place of folders, so that the object store no longer lists what is in them, though it can "
                f"be read by its path: {_join_names(sorted(hiding))}"
            )
        if problems:
            names = _join_names([f"{name!r} ({problems[name]})" for name in sorted(problems)])
            raise ContainerFailedError(
                f"Outputs that could not be stored: {names}. Have the program name them otherwise, or submit "
                "with another output folder. The other outputs were stored"
            )

    def _has_below(self, path: str) -> bool:
        """Return whether there are objects below ``path`` which an object there may hide: a directory would refuse it."""
        if isinstance(self._objects, S3Objects):
            with suppress(S3Error):
                return self._objects.has_below(path)
        return False

    def _warn(self, sentence: str) -> None:
        self._result.setdefault("warnings", []).append(sentence)

    def _store_logs(self) -> None:
        with translated_errors("Its logs could not be stored"), self._aborted_by_cancel():
            for stream in STREAMS:
                path = self._folder.file(f"{stream}.txt")
                if os.path.exists(path) and os.path.getsize(path):
                    self._objects.store(path, self._plan.log_paths[stream], LOG_TYPE)


@contextmanager
def translated_errors(what: str) -> Iterator[None]:
    """Translate errors of the store and the operating system to ContainerFailedError, whose text begins with ``what``."""
    try:
        yield
    except ContainerRuntimeError as e:
        raise ContainerFailedError(f"{e}") from e
    except OSError as e:
        if e.errno == errno.E2BIG:
            raise ContainerFailedError(TOO_LONG) from e
        if e.filename is not None:
            raise ContainerFailedError(f"{what}: {e.strerror}: '{e.filename}'.") from e
        raise ContainerFailedError(f"{what}: {e}.") from e
    except (DirectoryError, S3Error) as e:
        raise ContainerFailedError(f"{what}: {e}.") from e


def _path_below(root: str, name: str) -> str:
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ContainerFailedError(
            f"The input '{name}' cannot be placed: a part of its path is empty or a dot name."
        )
    return os.path.join(root, name)


def _join_names(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
