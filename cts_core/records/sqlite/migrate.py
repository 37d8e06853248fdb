"""Opening a file as the SQLite record store: whose it is, and bringing it to the version of today."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from cts_core.errors import ConfigError, UnavailableError
from cts_core.records.sqlite.schema import APPLICATION_ID, VERSION, upgrade

JOURNAL_BYTES = 16 << 20
"""What is kept of the write-ahead log's file once a burst of writes is over."""
_RETRY_SECONDS = 0.05


def connect(path: Path, *, busy_seconds: float, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the file, which must exist. Raises sqlite3.Error.

    Transactions are begun and ended by hand. A write that finds the file locked waits ``busy_seconds``.
    """
    # Not created when it has vanished: an empty file in its place would look like a store without jobs.
    # Connections are handed from thread to thread, one at a time.
    db = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        db.execute(f"PRAGMA query_only = {int(read_only)}")
    except sqlite3.Error:
        db.close()
        raise
    db.row_factory = sqlite3.Row
    return db


def error_code(error: sqlite3.Error) -> int:
    """SQLite's primary code; SQLITE_ERROR for what Python's own module refuses."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another connection is in the way."""
    return error_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def prepare(path: Path, *, busy_seconds: float) -> None:
    """Make ``path`` a store of ours, as this version has it. Nothing of another program's file is changed.

    Raises ConfigError, and UnavailableError while another process keeps the file locked.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as e:
        raise ConfigError(
            f"home: the job records cannot be kept in {path}: {e.strerror}; choose a home that you can write to"
        ) from e
    try:
        db = connect(path, busy_seconds=busy_seconds)
        try:
            # One view for all that is asked: another process may be creating the tables right now.
            db.execute("BEGIN")
            version = _version(db, path)
            db.execute("COMMIT")
            _use_write_ahead_log(db, path, busy_seconds)
            if version < VERSION:
                _upgrade(db, path)
        finally:
            db.close()
    except sqlite3.Error as e:
        if error_code(e) == sqlite3.SQLITE_NOTADB:
            raise _foreign(path) from e
        if is_locked(e):
            raise UnavailableError(
                f"The job records in {path} are locked by another process: try again once it is done"
            ) from e
        raise ConfigError(f"home: the job records in {path} cannot be opened: {e}") from e


def _foreign(path: Path) -> ConfigError:
    return ConfigError(
        f"home: {path} is not a record file of CTS; choose another home, or move the file away"
    )


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The schema that the file has; 0 for an empty file."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (things,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, things) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID:
        raise _foreign(path)
    if version > VERSION:
        raise ConfigError(
            f"home: {path} was written by a newer CTS (schema {version}, this one knows {VERSION}): "
            "upgrade CTS, or choose another home"
        )
    return int(version)


def _use_write_ahead_log(db: sqlite3.Connection, path: Path, busy_seconds: float) -> None:
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as e:
            # SQLite does not wait by itself for the lock that this change needs.
            if not is_locked(e) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
    if mode != "wal":
        raise ConfigError(
            f"home: the file system of {path} cannot keep a write-ahead log (SQLite stays with '{mode}'); "
            "choose a home on a local disk"
        )


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    # Asked again: another process may have been first.
    upgrade(db, _version(db, path))
    db.execute("COMMIT")
