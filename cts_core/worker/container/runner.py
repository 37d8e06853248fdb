"""The steps of one container, from its claim to its result."""

from __future__ import annotations

import errno
import os
import time
import traceback
from contextlib import ExitStack
from functools import cached_property
from operator import itemgetter
from typing import Any, Callable, ContextManager, Iterable, Mapping, Protocol, TypeVar, Union

from cts_core.worker.container.logs import BoundedLog
from cts_core.worker.container.outputs import collect, disk_is_full, fault_in_path
from cts_core.worker.container.supervisor import Ended, Stop, Watch
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
from cts_core.worker.parallel import Lanes
from cts_core.worker.plan import Input, WorkerPlan
from cts_core.worker.runtimes.base import ContainerRuntimeError, Pause
from cts_core.worker.runtimes.by_name import RUNTIMES, begin_removal_of_orphans
from cts_core.worker.runtimes.errors import TOO_LONG
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.errors import S3Error

LOG_TYPE = "text/plain; charset=utf-8"
_TICK_SECONDS = 0.1
"""Between looks for a cancel while the object store is away."""
_MAX_NAMED = 10
"""Of many files this many are named in a sentence."""

_Item = TypeVar("_Item")


class ContainerFailedError(Exception):
    """The container fails; the text is for its owner."""


class JobCanceledError(Exception):
    """The job was canceled."""


class WorkerStoppedError(Exception):
    """The worker was told to end; the text is for the container's owner."""


Objects = Union[Directory, S3Objects]


class Audience(Protocol):
    """Who is told how far a container is."""

    def tell(self, event: Mapping[str, Any]) -> None:
        """A state is reached: ``state``, ``time``, and what is known with it. Raises OSError where that cannot be kept."""

    def watching(self) -> ContextManager[None]:
        """Entered while the container runs and its logs grow."""


class Worker:
    """Takes one claimed container to its end."""

    def __init__(
        self,
        folder: ContainerFolder,
        plan: WorkerPlan,
        stop: Stop,
        audience: Audience,
        reach: Callable[[Pause], Objects],
    ) -> None:
        """``reach`` gives the way to the objects, which waits by what it is handed. Raises S3Error where there is none."""
        self.is_stopped = False
        """Whether it ended because it was told to, and not by itself."""
        self._folder = folder
        self._plan = plan
        self._stop = stop
        self._audience = audience
        self._reach = reach
        self._container = RUNTIMES[plan.container_runtime](plan, folder)
        self._result: dict[str, Any] = {}

    @cached_property
    def _objects(self) -> Objects:
        return self._reach(self._pause)

    def _pause(self, seconds: float) -> None:
        """Wait before something is tried again, unless nobody needs that any more."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check_wanted()
            time.sleep(_TICK_SECONDS)

    def run(self) -> dict[str, Any]:
        """Run every step, and say how it ended.

        A cancel that comes before this returns wins against completion, and one that comes later loses.
        """
        begin_removal_of_orphans(self._plan)
        try:
            self._steps()
        except JobCanceledError:
            self._end("canceled")
        except (ContainerFailedError, WorkerStoppedError) as e:
            self.is_stopped = isinstance(e, WorkerStoppedError)
            self._end("error", error=str(e), admin_error=str(e))
        except Exception:  # noqa: BLE001 - whatever it is, the container must end with a result
            self._end(
                "error",
                error="CTS itself failed while it ran this container. An administrator can see how.",
                admin_error="The worker failed; see the traceback.",
                traceback=traceback.format_exc(),
            )
        if self._result["state"] == "complete" and self._folder.is_canceled():
            self._result["state"] = "canceled"
        return self._result

    def _end(self, state: str, **fields: object) -> None:
        self._result.update(state=state, **fields)
        try:
            self._store_logs()
        except Exception as e:  # noqa: BLE001 - it ends as it does for a reason of its own
            told = self._result.get("admin_error")
            self._result["admin_error"] = f"{told}\n{e}" if told else str(e)

    def _steps(self) -> None:
        with _told("Its inputs could not be fetched"):
            self._fetch()
        with _told("Its program cannot be run"):
            self._container.prepare(self._pause)
        self._check_wanted()
        self._event("job_submitting")
        ended = self._execute()
        self._result.update(
            exit_code=ended.exit_code,
            cpu_seconds=ended.cpu_seconds,
            wall_seconds=ended.wall_seconds,
            max_memory=ended.max_memory,
        )
        if ended.canceled:
            raise JobCanceledError
        if ended.was_told:
            raise WorkerStoppedError(ended.why)
        if ended.exit_code != 0 or ended.is_stopped:
            self._process_error(ended)
        else:
            self._upload(ended)

    def _process_error(self, ended: Ended) -> None:
        why = ended.why
        if not why and disk_is_full(self._folder.path):
            why = (
                f"It ended with exit code {ended.exit_code} while the disk that takes outputs was full: submit it "
                "again when there is room, with less for each container if its own outputs filled it."
            )
            # They are given up, and what is to be told needs room, too.
            remove_tree(self._folder.file(OUTPUTS))
        self._event("error_processing_submitting", exit_code=ended.exit_code)
        self._end("error", admin_error=why or f"Container exit code: {ended.exit_code}")
        if why:
            self._result["error"] = why
        self._event("error_processing_submitted")

    def _upload(self, ended: Ended) -> None:
        if disk_is_full(self._folder.path):
            self._warn(
                "The disk that takes outputs was full when it ended: they may be incomplete, although it ended well."
            )
        self._event("upload_submitting", exit_code=ended.exit_code)
        with _told("Its outputs could not be stored"):
            self._store_outputs()
        self._store_logs()
        self._event("upload_submitted")
        self._result["state"] = "complete"

    def _check_wanted(self) -> None:
        if self._folder.is_canceled():
            raise JobCanceledError("The job was canceled.")
        if self._stop.asked:
            raise WorkerStoppedError(
                "Its worker was told to end, as when the machine is shut down. Submit it again."
            )

    def _event(self, state: str, **fields: object) -> None:
        with _told("Its progress could not be recorded"):
            self._audience.tell({"state": state, "time": now(), **fields})

    def _fetch(self) -> None:
        for name in TRANSIENT:
            os.mkdir(self._folder.file(name), 0o700)
        inputs = self._folder.file(INPUTS)

        def fetch(entry: Input) -> None:
            target = _below(inputs, entry.place)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            self._objects.fetch(entry.path, target, entry.crc64nvme)

        self._each(fetch, self._plan.inputs)
        if self._plan.manifest_name is not None:
            text = self._container.place(self._plan.manifest_text)
            # Written as it is: an end of line is no business of ours.
            with open(_below(inputs, self._plan.manifest_name), "xb") as file:
                file.write(text.encode())

    def _each(self, do: Callable[[_Item], None], items: Iterable[_Item]) -> None:
        """Fetch or store several objects: at once, where a server has them and not this machine's disk."""
        objects = self._objects
        lanes = objects.lanes if isinstance(objects, S3Objects) else Lanes(1)
        lanes.each(do, items, self._check_wanted)

    def _execute(self) -> Ended:
        with _told("Its program could not be started"):
            logs = [
                BoundedLog(self._folder.file(f"{stream}.txt"), self._plan.log_limit)
                for stream in STREAMS
            ]
            with ExitStack() as undo:
                undo.callback(self._container.remove)
                process = self._container.start(self._pause)
                undo.pop_all()
        watch = Watch(self._container, process, self._folder, self._plan, logs)
        try:
            self._event("job_submitted")
            with self._audience.watching():
                ended = watch.until_ended(self._stop)
        finally:
            # Whatever happens to us, nothing of the container is left to itself.
            watch.clear_up()
        for stream, log in zip(STREAMS, logs):
            log.close()
            if log.problem:
                self._warn(
                    f"Its {stream} is incomplete, for it could not be written: {log.problem}"
                )
        return ended

    def _store_outputs(self) -> None:
        root = self._folder.file(OUTPUTS)
        found = collect(root)
        if found.odd:
            self._warn("Not stored, for they are links or no regular files: " + _named(found.odd))
        stored = self._result["outputs"] = []
        paths = {place: f"{self._plan.output_dir}/{place}" for place in found.files}
        faults = {place: fault for place, path in paths.items() if (fault := fault_in_path(path))}

        def store(place: str) -> None:
            info = self._objects.store(os.path.join(root, place), paths[place])
            stored.append({"file": paths[place], "crc64nvme": info.crc64nvme})

        try:
            self._each(store, [place for place in paths if place not in faults])
        finally:
            stored.sort(key=itemgetter("file"))
        if faults:
            named = _named([f"{place!r} ({fault})" for place, fault in faults.items()])
            raise ContainerFailedError(
                f"Files of these names cannot be objects: {named}. Have the program name them "
                "otherwise. The other outputs were stored"
            )

    def _warn(self, sentence: str) -> None:
        self._result.setdefault("warnings", []).append(sentence)

    def _store_logs(self) -> None:
        with _told("Its logs could not be stored"):
            for stream in STREAMS:
                path = self._folder.file(f"{stream}.txt")
                if os.path.exists(path) and os.path.getsize(path):
                    self._objects.store(path, self._plan.log_paths[stream], LOG_TYPE)


class _told:  # noqa: N801 - reads as a word of the language, as contextlib's do
    """Turns what the store and the operating system refuse into a sentence that says at what."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno == errno.E2BIG:
            raise ContainerFailedError(TOO_LONG) from error
        if isinstance(error, OSError) and error.filename is not None:
            raise ContainerFailedError(
                f"{self._what}: {error.strerror}: '{error.filename}'."
            ) from error
        if isinstance(error, ContainerRuntimeError):
            raise ContainerFailedError(f"{error}") from error
        if isinstance(error, (DirectoryError, S3Error, OSError)):
            raise ContainerFailedError(f"{self._what}: {error}.") from error


def _below(root: str, place: str) -> str:
    if any(part in ("", ".", "..") for part in place.split("/")):
        raise ContainerFailedError(
            f"The input '{place}' cannot be placed: a part of its path is empty or a dot name."
        )
    return os.path.join(root, place)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
