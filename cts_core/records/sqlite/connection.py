"""The connections to the SQLite store: one writer that groups commits, and a few readers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from cts_core.errors import StorageFullError, UnavailableError
from cts_core.records.errors import records_closed, too_many_waiting
from cts_core.records.sqlite.disk_reserve import DiskReserve
from cts_core.records.sqlite.migrate import connect, error_code, is_locked, prepare

READERS = 4
"""Threads that read a few rows at a time. Reads of many rows have one of their own, so that a job's status does not wait behind a page of jobs."""
MAX_WAITING = 10_000
"""Operations that may wait; more are refused."""
MAX_GROUP = 500
"""Writes that share one commit at the most."""
BUSY_SECONDS = 10.0
"""Time limit for a write to wait for another process's."""

_PROGRAMMING_ERRORS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""Raised as they are: a retry would not help."""

_T = TypeVar("_T")
Operation = Callable[[sqlite3.Connection], _T]
_Write = tuple[Operation[Any], Future[Any]]


class Connections:
    """Runs operations on the database file, each as if in a transaction of its own.

    A connection on which SQLite failed is closed, and the next operation opens another: the store recovers once a
    full disk has space again, or a lock is released.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="cts-records-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="cts-records-reader")
        # More threads would only take turns holding Python's lock, while they make models of the rows.
        self._pages = ThreadPoolExecutor(1, thread_name_prefix="cts-records-pages")
        self._writes: deque[_Write] = deque()
        self._writing: sqlite3.Connection | None = None
        self._idle: deque[sqlite3.Connection] = deque()
        self._waiting = 0
        self._is_open = False
        self._reserve = DiskReserve(path.with_suffix(".reserve"))

    async def open(self) -> None:
        """Create the file, or check and migrate it. Raises ConfigError, UnavailableError."""
        self._is_open = True
        try:
            await self.run(self._prepare)
            await self.run(self._reserve.allocate)
        except BaseException:
            await self.close()
            raise

    def _prepare(self) -> None:
        if self._reserve.is_allocated and self._reserve.is_write_refused():
            # SQLite needs some space to open a file.
            self._reserve.release()
        prepare(self._path, busy_seconds=self._busy_seconds)

    async def close(self) -> None:
        """Finish the operations that wait, then close every connection."""
        self._is_open = False
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._pages.shutdown()
        for db in (self._writing, *self._idle):
            if db is not None:
                db.close()

    async def run(self, function: Callable[[], _T]) -> _T:
        """Run a function that would block the event loop in a thread of the readers."""
        return await self._run_in(self._readers, function)

    async def read(self, operation: Operation[_T]) -> _T:
        """Run an operation that reads a few rows in a read transaction. Raises UnavailableError."""
        return await self._run_in(self._readers, lambda: self._read(operation))

    async def read_page(self, operation: Operation[_T]) -> _T:
        """Run an operation that reads a page of rows, or a whole job, in a read transaction. Raises UnavailableError."""
        return await self._run_in(self._pages, lambda: self._read(operation))

    async def _run_in(self, threads: ThreadPoolExecutor, function: Callable[[], _T]) -> _T:
        self._admit()
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, function)
        finally:
            self._waiting -= 1

    def check_room(self) -> None:
        """Raise StorageFullError when the disk has no space for new jobs."""
        if not self._reserve.allocate():
            raise _disk_full()

    async def write(self, operation: Operation[_T]) -> _T:
        """Run an operation in a write transaction; it is durable when this returns.

        Raises UnavailableError or StorageFullError if nothing was written. A caller that is cancelled while
        it waits does not learn whether its operation was run.
        """
        self._admit()
        future: Future[_T] = Future()
        self._writes.append((operation, future))
        self._writer.submit(self._write_group)
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._waiting -= 1

    def _admit(self) -> None:
        if not self._is_open:
            raise records_closed()
        if self._waiting >= MAX_WAITING:
            raise too_many_waiting()
        self._waiting += 1

    def _read(self, operation: Operation[_T]) -> _T:
        db: sqlite3.Connection | None = None
        try:
            db = self._acquire_reader()
            db.execute("BEGIN")
            try:
                return operation(db)
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        except sqlite3.Error as e:
            if db is not None:
                db.close()
                db = None
            raise self._translate(e) from e
        finally:
            if db is not None:
                self._idle.append(db)

    def _acquire_reader(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect(read_only=True)

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        return connect(self._path, busy_seconds=self._busy_seconds, read_only=read_only)

    def _write_group(self) -> None:
        # Each write schedules a call of this. The first call takes all that wait, and the others find nothing.
        group: list[_Write] = []
        while self._writes and len(group) < MAX_GROUP:
            write = self._writes.popleft()
            if write[1].set_running_or_notify_cancel():
                group.append(write)
        if not group:
            return
        operations = [operation for operation, _ in group]
        try:
            results = self._commit(operations)
        except (sqlite3.Error, MemoryError) as e:
            results = [_Failure(e)] * len(group)
        else:
            self._reserve.allocate()
        for (_, future), result in zip(group, results, strict=True):
            if isinstance(result, _Failure):
                future.set_exception(self._translate(result.error))
            else:
                future.set_result(result)

    def _commit(self, operations: list[Operation[Any]]) -> list[Any]:
        try:
            return self._try(operations)
        except sqlite3.Error as e:
            if not (self._reserve.is_allocated and self._is_disk_full(e)):
                raise
        self._reserve.release()
        return self._try(operations)

    def _try(self, operations: list[Operation[Any]]) -> list[Any]:
        try:
            self._writing = self._writing or self._connect()
            if not self._reserve.is_allocated:
                # The log is restarted, instead of growing, only once all of it is checkpointed into the file.
                self._writing.execute("PRAGMA wal_checkpoint").fetchall()
            return _commit(self._writing, operations)
        except (sqlite3.Error, MemoryError):
            if self._writing is not None:
                self._writing.close()
                self._writing = None
            raise

    def _translate(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error) or isinstance(error, _PROGRAMMING_ERRORS):
            return error
        if self._is_disk_full(error):
            return _disk_full()
        if is_locked(error):
            return UnavailableError(
                f"The job records in {self._path} are locked by another process: try again later"
            )
        return UnavailableError(f"The job records in {self._path} cannot be used now: {error}")

    def _is_disk_full(self, error: sqlite3.Error) -> bool:
        code = error_code(error)
        # SQLite has no code of its own for a quota, nor for a file that it cannot create.
        return code == sqlite3.SQLITE_FULL or (
            code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
            and self._reserve.is_write_refused()
        )


def _disk_full() -> StorageFullError:
    return StorageFullError(
        "The disk that holds the job records (home) is full: free some space and try again"
    )


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _commit(db: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Any]:
    """Return what each operation returned, or its _Failure. Raises what made all of them fail."""
    # One commit, hence one fsync, for all that waited. Savepoints isolate the operations' failures.
    db.execute("BEGIN IMMEDIATE")
    results: list[Any] = []
    for operation in operations:
        db.execute("SAVEPOINT operation")
        try:
            results.append(operation(db))
        except Exception as e:
            if not db.in_transaction:
                raise  # SQLite has rolled back everything, as it does when the disk is full
            db.execute("ROLLBACK TO operation")
            results.append(_Failure(e))
        db.execute("RELEASE operation")
    db.execute("COMMIT")
    return results
