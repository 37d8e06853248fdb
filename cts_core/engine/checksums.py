"""Computes checksums that users ask for, in the background: of many objects, and on after a restart.

A request is in the records. Each server takes leases on requests that run, one of each user at a time, and computes their
checksums, one object after the other; computing one twice does no harm. A lease saves double work.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus

from cts_core.concurrency import cancel_and_wait, run_in_pool, run_sized
from cts_core.engine.access import PathAccess
from cts_core.engine.idempotency import id_of_same, idempotency_of
from cts_core.errors import (
    ChecksumMismatchError,
    CTSError,
    UnauthorizedError,
    UnavailableError,
)
from cts_core.events.hub import Hub
from cts_core.identity.identity import User
from cts_core.model.checksums import (
    ChecksumRequest,
    ChecksumTask,
    ChecksumTasks,
    ComputationState,
    FileResult,
    RunningChecksums,
    TaskState,
)
from cts_core.model.event import ChecksumProgress
from cts_core.object_paths import ObjectPath
from cts_core.objects.store import ChecksumState, ObjectStore
from cts_core.records.store import RecordStore

log = logging.getLogger(__name__)

MAX_RUNNING = 10
"""Requests of one user that run."""
MAX_TASKS = 10
"""Requests, each of another user, that one server computes; others wait, or are computed by other servers."""
AT_ONCE = 2
"""Objects that one server reads for this at the same time."""
LEASE = timedelta(seconds=30)
"""The time until another server takes over the requests of a server that was killed."""
POLL_SECONDS = 2.0
"""Between looks for requests of other servers and for canceled ones."""
PAUSE_SECONDS = 10.0
"""The delay before a request goes on after an outage of the object store or of the records."""
TRIES = 3
"""Tries of an object that fails for another reason than the object itself, while the object store is up."""
NEXT_TRY_SECONDS = 30.0
"""The delay before the objects of a request that failed so are tried again, behind all others of it."""


def choose(
    running: Sequence[RunningChecksums], computed: Container[str], turns: Mapping[str, int]
) -> Sequence[str]:
    """Return the requests to compute, at most ``MAX_TASKS``: one of each user, the users in turn.

    ``running`` are those that may be had, oldest first. Those that are computed already go on; ``turns`` has a number
    by user, the lowest of whom comes first.
    """
    chosen: dict[str, str] = {}
    for each in sorted(running, key=lambda r: (r.id not in computed, turns.get(r.user, 0))):
        chosen.setdefault(each.user, each.id)
    return list(chosen.values())[:MAX_TASKS]


class Checksums:
    """Methods for users raise NoSuchChecksumsError, and UnauthorizedError for another user's request."""

    def __init__(
        self,
        store: RecordStore,
        objects: ObjectStore,
        access: PathAccess,
        hub: Hub,
        *,
        is_away: Callable[[], Awaitable[bool]],
    ) -> None:
        """``is_away`` tells whether the whole object store is, when it was unavailable for one object."""
        self._store = store
        self._objects = objects
        self._is_away = is_away
        self._access = access
        self._hub = hub
        self._owner = str(uuid.uuid4())
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By the id of a request, what computes it here."""
        self._ending: set[str] = set()
        """Requests of which every object has been computed here, and whose end is not yet stored and published."""
        self._turns: dict[str, int] = {}
        """By the user of requests that wait or are computed here: the number of the latest of them that began."""
        self._begun = 0
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the loop, which goes on with the requests that run."""
        self._loop = asyncio.create_task(self._run(), name="checksums")

    async def stop(self) -> None:
        """Stop; requests go on at another server, or at the next start."""
        held = list(self._tasks)
        await cancel_and_wait(self._loop, *self._tasks.values())
        with contextlib.suppress(CTSError):
            now = await self._store.now()
            await self._store.take_checksums(held, self._owner, now=now, until=now)

    async def request(
        self, user: User, request: ChecksumRequest, idempotency_key: str | None = None
    ) -> str:
        """Store a request for the checksums of objects that have none, and return its id.

        With an idempotency key, the same key and request give the same id. Raises PathInaccessibleError,
        TooManyRequestsError, and IllegalParameterError if the key was used for another request.
        """

        def results() -> list[FileResult]:
            return [
                FileResult(file=self._access.check_output(user, f.file), etag=f.etag)
                for f in request.files
            ]

        idempotency = await run_sized(
            len(request.files), idempotency_of, idempotency_key, request.model_dump_json
        )
        checked = await run_in_pool(results)
        task = ChecksumTask.model_construct(
            id=str(uuid.uuid4()),
            user=user.name,
            state=TaskState.RUNNING,
            created=await self._store.now(),
            files=checked,
        )
        holder = await self._store.add_checksums(
            task, max_running=MAX_RUNNING, idempotency=idempotency
        )
        if holder and idempotency:
            return id_of_same(holder, idempotency, "checksums")
        self._wake.set()
        return task.id

    async def list(self, user: User) -> ChecksumTasks:
        """Return the user's latest requests."""
        return ChecksumTasks(tasks=await self._store.list_checksums(user.name))

    async def get(self, user: User, task_id: str) -> ChecksumTask:
        """Return a request, and what became of each of its objects."""
        task = await self._store.get_checksums(task_id)
        if task.user != user.name:
            raise UnauthorizedError(f"User {user.name} may not access the request {task_id}")
        return task

    async def cancel(self, user: User, task_id: str) -> None:
        """Cancel a request; what is computed stays. One that is over stays as it is."""
        task = await self.get(user, task_id)
        if await self._store.end_checksums(task_id, TaskState.CANCELED):
            self._wake.set()
            self._publish(task.model_copy(update={"state": TaskState.CANCELED}), ())

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._advance()
            except CTSError as e:
                log.warning("Requests for checksums wait: %s", e)
            except Exception:  # a bug must not stop the loop for good
                log.exception("Looking for requests for checksums failed; it is tried again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()

    async def _advance(self) -> None:
        """Take leases on requests that run, renew those that are held, and compute these alone."""
        now = await self._store.now()
        running = await self._store.running_checksums(self._owner, now=now)
        users = {each.id: each.user for each in running}
        self._turns = {user: self._turns.get(user, 0) for user in users.values()}
        wanted = choose(running, self._tasks, self._turns)
        mine = await self._store.take_checksums(wanted, self._owner, now=now, until=now + LEASE)
        # One that is ending does not run any more, but its end is still to be published.
        for task_id in self._tasks.keys() - mine - self._ending:
            self._tasks[task_id].cancel()
        for task_id in wanted:
            if task_id in mine and task_id not in self._tasks:
                self._begin(task_id)
                self._turns[users[task_id]] = self._begun

    def _begin(self, task_id: str) -> None:
        task = asyncio.create_task(self._compute(task_id), name=f"checksums-{task_id}")
        self._begun += 1
        self._tasks[task_id] = task
        task.add_done_callback(functools.partial(self._forget, task_id))

    def _forget(self, task_id: str, _: asyncio.Task[None]) -> None:
        del self._tasks[task_id]
        self._ending.discard(task_id)
        # Another request may begin.
        self._wake.set()

    async def _compute(self, task_id: str) -> None:
        try:
            task = await self._store.get_checksums(task_id)
            await self._compute_files(task)
            self._ending.add(task_id)
            if await self._store.end_checksums(task_id, TaskState.ENDED):
                self._publish(task.model_copy(update={"state": TaskState.ENDED}), ())
        except CTSError as e:
            log.warning(
                "The checksums of request %s go on in %.0f s: %s", task_id, PAUSE_SECONDS, e
            )
            await asyncio.sleep(PAUSE_SECONDS)
        except Exception:  # a bug with one request must not stop the others
            log.exception("The checksums of request %s go on in %.0f s", task_id, PAUSE_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _compute_files(self, task: ChecksumTask) -> None:
        """Compute what a request waits for; objects that may succeed later come again behind all others. Raises CTSError."""
        waiting = [n for n, file in enumerate(task.files) if file.state is ComputationState.WAITING]
        for left in reversed(range(TRIES)):
            again = []
            for number in waiting:
                result = await self._result(task.files[number], is_last=not left)
                if result is None:
                    again.append(number)
                    continue
                task.files[number] = result
                await self._store.record_checksum(task.id, number, result)
                self._publish(task, (number,))
            if not again:
                return
            waiting = again
            await asyncio.sleep(NEXT_TRY_SECONDS)

    async def _result(self, file: FileResult, *, is_last: bool) -> FileResult | None:
        """Compute one checksum and return what became of it; None if another try may succeed, unless this is the last one."""
        try:
            crc64nvme = await self._write_once_up(ObjectPath(file.file), file.etag)
        except CTSError as e:
            if e.kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not is_last:
                return None
            error = e.message
        except Exception:  # a bug with one object must not stop the others
            log.exception("Computing the checksum of %s failed", file.file)
            if not is_last:
                return None
            error = f"The checksum of {file.file} could not be computed: ask an administrator, the log says why"
        else:
            return file.model_copy(update={"state": ComputationState.DONE, "crc64nvme": crc64nvme})
        return file.model_copy(update={"state": ComputationState.FAILED, "error": error})

    async def _write_once_up(self, path: ObjectPath, etag: str | None) -> str | None:
        """Do as ``_write``, and wait for the end of an outage of the whole store."""
        while True:
            try:
                async with self._slots:
                    return await self._write(path, etag)
            except UnavailableError as e:
                if not await self._is_away():
                    raise
                log.warning("Checksums go on in %.0f s: %s", PAUSE_SECONDS, e)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _write(self, path: ObjectPath, etag: str | None) -> str | None:
        (stored,) = await self._objects.head([path])
        if isinstance(stored, CTSError):
            raise stored
        # It may have got one since, from another server of ours, too, which changes the ETag at some stores.
        if stored.checksum is ChecksumState.STORED:
            return stored.crc64nvme
        if etag not in (None, stored.etag):
            raise ChecksumMismatchError(f"{path} has changed since it was chosen: look at it again")
        return (await self._objects.write_checksum(path, etag=stored.etag)).crc64nvme

    def _publish(self, task: ChecksumTask, changed: Sequence[int]) -> None:
        states = Counter(file.state for file in task.files)
        self._hub.publish_progress(
            ChecksumProgress(
                checksums_id=task.id,
                user=task.user,
                state=task.state,
                files=dict(states),
                changed=[(number, task.files[number].state) for number in changed],
            )
        )
