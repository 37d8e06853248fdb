"""The tables of the SQLite record store, and opening a file as one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cts_core.errors import ConfigError

APPLICATION_ID = 0x43545331
"""Marks a file as ours ("CTS1")."""
VERSION = 1
BUSY_SECONDS = 20.0
"""How long a write waits for another process's before it is given up."""

_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    cluster TEXT NOT NULL,
    state TEXT NOT NULL,
    live INTEGER NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    cleaned INTEGER NOT NULL DEFAULT 0,
    labels TEXT NOT NULL,
    summary TEXT NOT NULL,      -- JSON of all but input files, outputs, transitions and the columns here
    outcome TEXT NOT NULL,      -- JSON of JobOutcome without outputs
    idempotency_key TEXT,
    body_hash TEXT,
    lease_owner TEXT,
    lease_until TEXT
) WITHOUT ROWID;
CREATE UNIQUE INDEX jobs_by_key ON jobs (user, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_live ON jobs (cluster, created) WHERE live = 1;
CREATE INDEX jobs_by_user ON jobs (user, updated DESC, id);
CREATE INDEX jobs_by_update ON jobs (updated DESC, id);
CREATE INDEX jobs_uncleaned ON jobs (updated) WHERE live = 0 AND cleaned = 0;

-- The large parts of a job, which status, listings and advance never read.
CREATE TABLE job_files (
    job_id TEXT PRIMARY KEY REFERENCES jobs (id),
    input_files TEXT NOT NULL,
    outputs TEXT
) WITHOUT ROWID;

CREATE TABLE transitions (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,
    time TEXT NOT NULL,
    trans_id TEXT NOT NULL UNIQUE,
    notif_sent INTEGER NOT NULL DEFAULT 0,
    recorded_at TEXT NOT NULL,
    user TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
) WITHOUT ROWID;
CREATE INDEX transitions_by_user ON transitions (user, recorded_at);
CREATE INDEX transitions_by_record ON transitions (recorded_at);
CREATE INDEX transitions_unsent ON transitions (job_id, seq) WHERE notif_sent = 0;

CREATE TABLE containers (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    sub_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    transition_times TEXT NOT NULL,
    outcome TEXT NOT NULL,      -- JSON of ContainerOutcome
    PRIMARY KEY (job_id, sub_id)
) WITHOUT ROWID;
CREATE INDEX container_states ON containers (job_id, sub_id, state);

CREATE TABLE images (
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    tag TEXT,
    image TEXT NOT NULL,        -- JSON of Image
    PRIMARY KEY (name, digest)
) WITHOUT ROWID;
CREATE UNIQUE INDEX images_by_tag ON images (name, tag);

CREATE TABLE inactive_sites (cluster TEXT PRIMARY KEY) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection as every one of the store's is. Raises sqlite3.Error."""
    # Connections are handed from thread to thread, one at a time.
    db = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def create_or_check(path: Path) -> None:
    """Make the file a store of ours, or see that it is one. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = connect(path)
    except (OSError, sqlite3.Error) as e:
        raise ConfigError(f"home: the records cannot be kept in {path}: {e}") from e
    try:
        _create_or_check(db, path)
    except sqlite3.Error as e:
        raise ConfigError(f"home: {path} is not a record store of CTS, or is damaged: {e}") from e
    finally:
        db.close()


def _create_or_check(db: sqlite3.Connection, path: Path) -> None:
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ConfigError(
            f"home: the file system of {path} cannot keep a write-ahead log (SQLite says '{mode}'); "
            "choose a home on a local disk"
        )
    db.execute("BEGIN IMMEDIATE")
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0 and application == 0:
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
    elif application != APPLICATION_ID:
        raise ConfigError(f"home: {path} is an SQLite file of another program; choose another home")
    elif version > VERSION:
        raise ConfigError(
            f"home: {path} was written by a newer CTS (schema {version}, this one knows {VERSION}); upgrade CTS"
        )
    db.execute("COMMIT")
