"""The tables of the SQLite record store, and opening a file as one."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from cts_core.errors import ConfigError, UnavailableError

APPLICATION_ID = 0x43545331
"""Marks a file as ours ("CTS1")."""
VERSION = 1
LIVE = "state NOT IN ('complete', 'error', 'canceled')"
"""True of a job that has not ended. The partial index serves queries that say exactly this."""
UNCLEANED = "cleaned = 0 AND state IN ('complete', 'error', 'canceled')"
"""True of an ended job that left something at its site; again, the index's very words."""
JOURNAL_BYTES = 16 << 20
"""What is kept of the write-ahead log's file once a burst of writes is over."""
_RETRY_SECONDS = 0.05

# Times are microseconds since 1970: they sort, and lose nothing. Large JSON has tables of its own, so that what
# reads a job's state never pages through its files.
SCHEMA = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        cluster TEXT NOT NULL,
        state TEXT NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        cleaned INTEGER NOT NULL DEFAULT 0,
        input_file_count INTEGER NOT NULL,
        labels TEXT NOT NULL,
        admin_meta TEXT NOT NULL,
        image TEXT NOT NULL,
        job_input TEXT NOT NULL,
        outcome TEXT NOT NULL,
        idempotency_key TEXT,
        body_hash TEXT
    )
    """,
    f"CREATE INDEX live_jobs ON jobs (cluster, created) WHERE {LIVE}",
    f"CREATE INDEX uncleaned_jobs ON jobs (updated) WHERE {UNCLEANED}",
    "CREATE INDEX jobs_by_user ON jobs (user, updated)",
    "CREATE INDEX jobs_by_update ON jobs (updated)",
    """
    CREATE UNIQUE INDEX jobs_by_key ON jobs (user, idempotency_key)
    WHERE idempotency_key IS NOT NULL
    """,
    "CREATE TABLE job_inputs (job_id TEXT PRIMARY KEY REFERENCES jobs (id), files TEXT NOT NULL)",
    "CREATE TABLE job_outputs (job_id TEXT PRIMARY KEY REFERENCES jobs (id), files TEXT NOT NULL)",
    """
    CREATE TABLE leases (
        job_id TEXT PRIMARY KEY REFERENCES jobs (id),
        owner TEXT NOT NULL,
        until INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE transitions (
        seq INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL REFERENCES jobs (id),
        state TEXT NOT NULL,
        time INTEGER NOT NULL,
        trans_id TEXT NOT NULL UNIQUE,
        notif_sent INTEGER NOT NULL,
        recorded_at INTEGER NOT NULL
    )
    """,
    "CREATE INDEX transitions_of_job ON transitions (job_id, recorded_at)",
    "CREATE INDEX recorded_transitions ON transitions (recorded_at)",
    "CREATE INDEX unsent_transitions ON transitions (recorded_at) WHERE notif_sent = 0",
    """
    CREATE TABLE containers (
        job_id TEXT NOT NULL REFERENCES jobs (id),
        number INTEGER NOT NULL,
        state TEXT NOT NULL,
        transition_times TEXT NOT NULL,
        outcome TEXT NOT NULL,
        PRIMARY KEY (job_id, number)
    )
    """,
    "CREATE INDEX container_states ON containers (job_id, number, state)",
    """
    CREATE TABLE container_outputs (
        job_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        files TEXT NOT NULL,
        PRIMARY KEY (job_id, number),
        FOREIGN KEY (job_id, number) REFERENCES containers (job_id, number)
    )
    """,
    """
    CREATE TABLE images (
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        tag TEXT NOT NULL,
        image TEXT NOT NULL,
        PRIMARY KEY (name, digest),
        UNIQUE (name, tag)
    )
    """,
    "CREATE TABLE inactive_sites (cluster TEXT PRIMARY KEY) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


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
    """Make ``path`` a store of ours, or see that it is one. Nothing of another program's file is changed.

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
            is_new = _is_new(db, path)
            db.execute("COMMIT")
            _use_write_ahead_log(db, path, busy_seconds)
            if is_new:
                _create(db, path)
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


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (things,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, things) == (0, 0, 0):
        return True
    if application != APPLICATION_ID:
        raise _foreign(path)
    if version > VERSION:
        raise ConfigError(
            f"home: {path} was written by a newer CTS (schema {version}, this one knows {VERSION}): "
            "upgrade CTS, or choose another home"
        )
    return False


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


def _create(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    # Another process may have been first.
    if _is_new(db, path):
        for statement in SCHEMA:
            db.execute(statement)
    db.execute("COMMIT")
