"""Reads the id of a SQLite record store."""

from __future__ import annotations

import sqlite3


def read(db: sqlite3.Connection) -> str:
    """Return the id, which was made with the tables."""
    (instance,) = db.execute("SELECT id FROM instance").fetchone()
    return str(instance)
