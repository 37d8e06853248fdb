"""The tables of the SQLite record store, as migrations from each version of them to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from cts_core.records.sqlite import search_text

APPLICATION_ID = 0x43545331
"""Marks a file as ours ("CTS1")."""
LIVE = "state NOT IN ('complete', 'error', 'canceled')"
"""True of a job that has not ended. The partial indexes serve queries that say exactly this."""
UNCLEANED = "cleaned = 0 AND state IN ('complete', 'error', 'canceled')"
"""True of an ended job that left something at its site. The partial index serves queries that say exactly this."""

# Times are microseconds since 1970: they sort, and lose nothing. Large JSON has tables of its own, so that reading
# a job's state never pages through its files.
_TO_1 = (
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
)

# Columns have defaults, so that a server of version 1 that runs meanwhile can still insert.
_TO_2 = (
    "ALTER TABLE jobs ADD COLUMN parent_id TEXT",
    "ALTER TABLE jobs ADD COLUMN words TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN error_words TEXT NOT NULL DEFAULT ''",
    "DROP INDEX jobs_by_user",
    "DROP INDEX jobs_by_update",
    "CREATE INDEX updated_jobs_of_user ON jobs (user, updated, id)",
    "CREATE INDEX created_jobs_of_user ON jobs (user, created, id)",
    "CREATE INDEX updated_jobs ON jobs (updated, id)",
    "CREATE INDEX created_jobs ON jobs (created, id)",
    "CREATE INDEX jobs_by_state ON jobs (cluster, state, user)",
    f"CREATE INDEX live_jobs_of_user ON jobs (user) WHERE {LIVE}",
    """
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL REFERENCES jobs (id),
        entry TEXT NOT NULL
    )
    """,
    "CREATE INDEX audit_of_job ON audit (job_id)",
    "CREATE TABLE last_looks (user TEXT PRIMARY KEY, time INTEGER NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE refdata (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        file TEXT NOT NULL UNIQUE,
        registered_on INTEGER NOT NULL,
        refdata TEXT NOT NULL
    )
    """,
    "CREATE INDEX refdata_by_age ON refdata (registered_on, seq)",
)

_TO_3 = ("CREATE INDEX resubmissions ON jobs (parent_id, created) WHERE parent_id IS NOT NULL",)

_TO_4 = (
    """
    CREATE TABLE worker_tokens (
        hash TEXT PRIMARY KEY,
        job_id TEXT NOT NULL REFERENCES jobs (id),
        number INTEGER NOT NULL,
        until INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX worker_tokens_by_end ON worker_tokens (until)",
    """
    CREATE TABLE worker_claims (
        job_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        claim TEXT NOT NULL,
        PRIMARY KEY (job_id, number),
        FOREIGN KEY (job_id, number) REFERENCES containers (job_id, number)
    ) WITHOUT ROWID
    """,
)

_TO_5 = (
    "ALTER TABLE jobs ADD COLUMN sole_folder TEXT",
    "CREATE UNIQUE INDEX sole_folders ON jobs (sole_folder) WHERE sole_folder IS NOT NULL",
)

_TO_6 = ("ALTER TABLE jobs ADD COLUMN wait TEXT",)

_TO_7 = (
    "CREATE TABLE instance (id TEXT PRIMARY KEY) WITHOUT ROWID",
    "INSERT INTO instance VALUES (lower(hex(randomblob(16))))",
)

_TO_8 = (
    """
    CREATE TABLE checksums (
        id TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        created INTEGER NOT NULL,
        state TEXT NOT NULL,
        owner TEXT,
        until INTEGER
    )
    """,
    "CREATE INDEX checksums_of_user ON checksums (user, created, id)",
    "CREATE INDEX running_checksums ON checksums (created, id) WHERE state = 'running'",
    """
    CREATE TABLE checksum_files (
        task_id TEXT NOT NULL REFERENCES checksums (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        result TEXT NOT NULL,
        PRIMARY KEY (task_id, number)
    ) WITHOUT ROWID
    """,
)

_TO_9 = (
    "ALTER TABLE checksums ADD COLUMN idempotency_key TEXT",
    "ALTER TABLE checksums ADD COLUMN body_hash TEXT",
    """
    CREATE UNIQUE INDEX checksums_by_key ON checksums (user, idempotency_key)
    WHERE idempotency_key IS NOT NULL
    """,
)

_Migration = tuple[Sequence[str], Callable[[sqlite3.Connection], None] | None]
_MIGRATIONS: Sequence[_Migration] = (
    (_TO_1, None),
    (_TO_2, search_text.fill_columns),
    (_TO_3, None),
    (_TO_4, None),
    (_TO_5, None),
    (_TO_6, None),
    (_TO_7, None),
    (_TO_8, None),
    (_TO_9, None),
)
"""The migration from each version n to n + 1: statements, and a function for what they cannot compute."""
VERSION = len(_MIGRATIONS)


def upgrade(db: sqlite3.Connection, version: int) -> None:
    """Bring the tables from a version (0: none) to ``VERSION``, inside the caller's transaction."""
    for statements, compute in _MIGRATIONS[version:]:
        for statement in statements:
            db.execute(statement)
        if compute is not None:
            compute(db)
    db.execute(f"PRAGMA user_version = {VERSION}")
