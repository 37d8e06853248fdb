"""The words of a job that the SQLite store looks through for a text, folded so that case does not matter."""

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


def job_words(job_id: str, labels: Mapping[str, str], texts: Iterable[str]) -> str:
    """What a job can be found by from its beginning."""
    pairs = (f"{key}={value}" for key, value in labels.items())
    return "\n".join((job_id, *texts, *pairs)).casefold()


def fill_in(db: sqlite3.Connection) -> None:
    """Work the words out for all jobs that are there."""
    cursor = db.execute(_ALL)
    while page := cursor.fetchmany(_PAGE):
        db.executemany(
            "UPDATE jobs SET words = ?, error_words = ? WHERE id = ?",
            [
                (job_words(job_id, json.loads(labels), texts), (error or "").casefold(), job_id)
                for job_id, labels, error, *texts in page
            ],
        )
