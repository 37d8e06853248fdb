"""The text of a job that a search looks through, case-folded. The columns are ``words`` and ``error_words``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping

_PAGE = 1000
_ALL = """
SELECT id, labels, json_extract(outcome, '$.error'), cluster, json_extract(job_input, '$.image'),
    json_extract(image, '$.name'), json_extract(job_input, '$.output_dir')
FROM jobs
"""


def search_text(job_id: str, labels: Mapping[str, str], texts: Iterable[str]) -> str:
    """Return the part of the search text that is known when a job is submitted."""
    pairs = (f"{key}={value}" for key, value in labels.items())
    return "\n".join((job_id, *texts, *pairs)).casefold()


def fill_columns(db: sqlite3.Connection) -> None:
    """Compute the search text of every stored job: the second step of the schema."""
    cursor = db.execute(_ALL)
    while page := cursor.fetchmany(_PAGE):
        db.executemany(
            "UPDATE jobs SET words = ?, error_words = ? WHERE id = ?",
            [
                (search_text(job_id, json.loads(labels), texts), (error or "").casefold(), job_id)
                for job_id, labels, error, *texts in page
            ],
        )
