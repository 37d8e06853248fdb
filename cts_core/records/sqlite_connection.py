"""How the SQLite store is reached: one writer that groups commits, and a few readers."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from cts_core.errors import CTSError, ResourceUnavailableError, UnavailableError
from cts_core.records.sqlite_schema import connect

READERS = 4
MAX_WAITING = 10_000
"""Writes that may wait for the writer; one more waits for a place."""
MAX_GROUP = 500
"""Writes that share one commit at the most."""

_T = TypeVar("_T")
Operation = Callable[[sqlite3.Connection], _T]


def _unavailable(error: sqlite3.Error) -> CTSError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return ResourceUnavailableError(
            "The disk that holds the records of CTS is full: free some space and try again"
        )
    return UnavailableError(f"The records of CTS cannot be used now: {error}")


class Connections:
    """Runs operations on the database, each in a transaction of its own as far as anybody can see."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writes: queue.Queue[tuple[Operation[Any], Future[Any]] | None] = queue.Queue(
            MAX_WAITING
        )
        self._writer = threading.Thread(target=self._write_forever, name="cts-records-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="cts-records-reader")
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._opened: list[sqlite3.Connection] = []

    def start(self) -> None:
        """Start the writer."""
        self._writer.start()

    def stop(self) -> None:
        """Finish what waits, then close every connection. Blocks."""
        self._writes.put(None)
        self._writer.join()
        self._readers.shutdown()
        for db in self._opened:
            db.close()

    async def read(self, operation: Operation[_T]) -> _T:
        """Run a reading operation on a consistent view. Raises UnavailableError."""
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._read, operation
        )

    def _read(self, operation: Operation[_T]) -> _T:
        try:
            try:
                db = self._idle.get_nowait()
            except queue.Empty:
                db = connect(self._path)
                self._opened.append(db)
            try:
                db.execute("BEGIN")
                return operation(db)
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                self._idle.put(db)
        except sqlite3.Error as e:
            raise _unavailable(e) from e

    async def write(self, operation: Operation[_T]) -> _T:
        """Run a writing operation; durable when this returns. Raises UnavailableError."""
        future: Future[_T] = Future()
        try:
            self._writes.put_nowait((operation, future))
        except queue.Full:
            await asyncio.to_thread(self._writes.put, (operation, future))
        return await asyncio.wrap_future(future)

    def _write_forever(self) -> None:
        db: sqlite3.Connection | None = None
        while (first := self._writes.get()) is not None:
            group = [first]
            stopping = False
            while len(group) < MAX_GROUP and not stopping:
                try:
                    more = self._writes.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stopping = True
                else:
                    group.append(more)
            try:
                db = db or connect(self._path)
                self._commit(db, group)
            except sqlite3.Error as e:
                for _, future in group:
                    if not future.done():
                        future.set_exception(_unavailable(e))
                if db is not None:
                    db.close()
                    db = None
            if stopping:
                break
        if db is not None:
            db.close()

    def _commit(
        self, db: sqlite3.Connection, group: list[tuple[Operation[Any], Future[Any]]]
    ) -> None:
        # One commit, hence one fsync, for all that waited; a savepoint keeps each one's failure its own.
        db.execute("BEGIN IMMEDIATE")
        answers: list[tuple[Future[Any], Any]] = []
        for operation, future in group:
            if not future.set_running_or_notify_cancel():
                continue
            db.execute("SAVEPOINT one")
            try:
                answers.append((future, operation(db)))
            except Exception as e:  # noqa: BLE001 - what fails is its caller's; the writer goes on
                db.execute("ROLLBACK TO one")
                future.set_exception(e)
            db.execute("RELEASE one")
        db.execute("COMMIT")
        for future, answer in answers:
            future.set_result(answer)
