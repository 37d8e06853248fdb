"""How the SQLite store is reached: one writer that groups commits, and a few readers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from cts_core.errors import ResourceUnavailableError, UnavailableError
from cts_core.records.sqlite.disk_reserve import Reserve
from cts_core.records.sqlite.migrate import connect, error_code, is_locked, prepare

READERS = 4
MAX_WAITING = 10_000
"""Operations that may wait; more than that are refused."""
MAX_GROUP = 500
"""Writes that share one commit at the most."""
BUSY_SECONDS = 10.0
"""How long a write waits for another process's before it is given up."""

_FAULTS_OF_OURS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""Raised as they are: trying again would not help."""

_T = TypeVar("_T")
Operation = Callable[[sqlite3.Connection], _T]
_Write = tuple[Operation[Any], Future[Any]]


class Connections:
    """Runs operations on the database file, each as if in a transaction of its own.

    A connection on which SQLite failed is closed, and the next operation opens another: once a full disk
    has room again, or a lock is gone, the store works on.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="cts-records-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="cts-records-reader")
        self._writes: deque[_Write] = deque()
        self._writing: sqlite3.Connection | None = None
        self._idle: deque[sqlite3.Connection] = deque()
        self._waiting = 0
        self._is_open = False
        self._reserve = Reserve(path.with_suffix(".reserve"))

    async def open(self) -> None:
        """Create the file, or check it. Raises ConfigError and UnavailableError."""
        self._is_open = True
        try:
            await self.run(lambda: prepare(self._path, busy_seconds=self._busy_seconds))
            await self.run(self._reserve.keep)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what waits, then close every connection."""
        self._is_open = False
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        for db in (self._writing, *self._idle):
            if db is not None:
                db.close()

    async def run(self, function: Callable[[], _T]) -> _T:
        """Run what would keep the event loop busy among the readers."""
        self._admit()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, function)
        finally:
            self._waiting -= 1

    async def read(self, operation: Operation[_T]) -> _T:
        """Run a reading operation on a consistent view. Raises UnavailableError."""
        return await self.run(lambda: self._read(operation))

    def check_room(self) -> None:
        """Raise ResourceUnavailableError when the disk has room only for what is under way."""
        self._reserve.keep()
        if self._reserve.is_short:
            raise self._full()

    async def write(self, operation: Operation[_T]) -> _T:
        """Run a writing operation; durable when this returns.

        Raises UnavailableError or ResourceUnavailableError, and then nothing was written. A caller that
        is cancelled while it waits does not learn whether its operation was run.
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
            raise UnavailableError("The job records are closed: the service is stopping")
        if self._waiting >= MAX_WAITING:
            raise UnavailableError("Too much waits for the job records: try again later")
        self._waiting += 1

    def _read(self, operation: Operation[_T]) -> _T:
        db: sqlite3.Connection | None = None
        try:
            db = self._take_reader()
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

    def _take_reader(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect(read_only=True)

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        return connect(self._path, busy_seconds=self._busy_seconds, read_only=read_only)

    def _write_group(self) -> None:
        # Every write asks for a group; the first of them takes all that wait, the others find nothing.
        group: list[_Write] = []
        while self._writes and len(group) < MAX_GROUP:
            write = self._writes.popleft()
            if write[1].set_running_or_notify_cancel():
                group.append(write)
        if not group:
            return
        operations = [operation for operation, _ in group]
        try:
            answers = self._commit(operations)
        except (sqlite3.Error, MemoryError) as e:
            answers = [_Failure(e)] * len(group)
        else:
            self._reserve.keep()
        for (_, future), answer in zip(group, answers, strict=True):
            if isinstance(answer, _Failure):
                future.set_exception(self._translate(answer.error))
            else:
                future.set_result(answer)

    def _commit(self, operations: list[Operation[Any]]) -> list[Any]:
        try:
            return self._try(operations)
        except sqlite3.Error as e:
            if error_code(e) != sqlite3.SQLITE_FULL or not self._reserve.is_kept:
                raise
        self._reserve.release()
        return self._try(operations)

    def _try(self, operations: list[Operation[Any]]) -> list[Any]:
        try:
            self._writing = self._writing or self._connect()
            if not self._reserve.is_kept:
                # Else the log grows: once all of it is in the file, it is used from its start again.
                self._writing.execute("PRAGMA wal_checkpoint").fetchall()
            return _commit(self._writing, operations)
        except (sqlite3.Error, MemoryError):
            if self._writing is not None:
                self._writing.close()
                self._writing = None
            raise

    def _full(self) -> ResourceUnavailableError:
        return ResourceUnavailableError(
            f"The disk that holds {self._path} is full: free some space and try again"
        )

    def _translate(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error) or isinstance(error, _FAULTS_OF_OURS):
            return error
        if error_code(error) == sqlite3.SQLITE_FULL:
            return self._full()
        if is_locked(error):
            return UnavailableError(
                f"The job records in {self._path} are locked by another process: try again later"
            )
        return UnavailableError(f"The job records in {self._path} cannot be used now: {error}")


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _commit(db: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Any]:
    """What each operation returned, or its _Failure. Raises what made all of them fail."""
    # One commit, hence one fsync, for all that waited; a savepoint keeps each one's failure its own.
    db.execute("BEGIN IMMEDIATE")
    answers: list[Any] = []
    for operation in operations:
        db.execute("SAVEPOINT operation")
        try:
            answers.append(operation(db))
        except Exception as e:
            if not db.in_transaction:
                raise  # SQLite has rolled back all of it, as it does when the disk is full
            db.execute("ROLLBACK TO operation")
            answers.append(_Failure(e))
        db.execute("RELEASE operation")
    db.execute("COMMIT")
    return answers
