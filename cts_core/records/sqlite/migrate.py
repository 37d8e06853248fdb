"""Opens a file as the SQLite record store: checks that it is one, and migrates it to the current version."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from cts_core.errors import ConfigError, UnavailableError
from cts_core.records.sqlite.schema import APPLICATION_ID, VERSION, upgrade

JOURNAL_BYTES = 16 << 20
"""Size to which the file of the write-ahead log shrinks after a burst of writes."""
_RETRY_SECONDS = 0.05


def connect(path: Path, *, busy_seconds: float, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection to the file, which must exist. Raises sqlite3.Error.

    The caller begins and ends transactions. A write that finds the file locked waits ``busy_seconds``.
    """
    # mode=rw creates nothing: an empty file in the place of one that vanished would look like a store without jobs.
    # check_same_thread=False: connections are handed from thread to thread, one at a time.
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
    """Return SQLite's primary error code; SQLITE_ERROR for what Python's own module refuses."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def is_locked(error: sqlite3.Error) -> bool:
    """Return whether another connection held a lock."""
    return error_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def prepare(path: Path, *, busy_seconds: float) -> None:
    """Create the store in ``path``, or migrate it to this version. Another program's file is not changed.

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
            # In one transaction: another process may be creating the tables right now.
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
            raise _not_ours(path) from e
        if is_locked(e):
            raise UnavailableError(
                f"The job records in {path} are locked by another process: try again once it is done"
            ) from e
        raise ConfigError(f"home: the job records in {path} cannot be opened: {e}") from e


def _not_ours(path: Path) -> ConfigError:
    return ConfigError(
        f"home: {path} is not a record file of CTS; choose another home, or move the file away"
    )


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of the file; 0 for an empty file. Raises ConfigError."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (entities,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, entities) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID:
        raise _not_ours(path)
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
            # SQLite's own busy timeout does not cover the lock that this change needs.
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
    # Read again under the lock: another process may have migrated it meanwhile.
    upgrade(db, _version(db, path))
    db.execute("COMMIT")
