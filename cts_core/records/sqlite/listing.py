"""Lists and counts jobs in SQLite, by statements that walk an index in the order of the listing.

Also keeps each user's read marker: the time until which the user has seen what ended.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cts_core.model.preview import JobPage
from cts_core.model.record import JobCount, JobPosition, JobQuery, JobSort
from cts_core.model.site import SiteName
from cts_core.records.sqlite import jobs, rows
from cts_core.states import TERMINAL, JobState

COUNT = "SELECT count(*) FROM jobs WHERE cluster = :cluster AND state = :state"
COUNT_OF_USER = f"{COUNT} AND user = :user"


@dataclass
class Listing:
    """A query as a statement and the values of its parameters."""

    column: str
    """The column that it is sorted by, before the id."""
    ascending: bool
    conditions: list[str] = field(default_factory=lambda: ["TRUE"])
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, query: JobQuery) -> Listing:
        """Translate everything but the text and the position of a query."""
        column = "created" if query.sort is JobSort.CREATED else "updated"
        listing = cls(column, query.ascending)
        for condition, values in _filters(query):
            listing.add(condition, **values)
        return listing

    def add(self, condition: str, **values: object) -> None:
        """Add a condition and the values of its parameters."""
        self.conditions.append(condition)
        self.values |= values

    def add_text(self, text: str) -> None:
        """Keep only jobs in whose search text this occurs, whatever its case."""
        self.add("(instr(words, :text) OR instr(error_words, :text))", text=text.casefold())

    def start_after(self, time: int, job_id: str) -> None:
        """Keep only what comes after this position; ``time`` in microseconds since 1970."""
        direction = ">" if self.ascending else "<"
        self.add(f"({self.column}, id) {direction} (:time, :id)", time=time, id=job_id)

    def start_at_least(self, time: int, job_id: str) -> None:
        """Drop what is older than this position; ``time`` in microseconds since 1970."""
        self.add(f"({self.column}, id) >= (:floor, :floor_id)", floor=time, floor_id=job_id)

    @property
    def statement(self) -> str:
        """Selects the jobs of the listing, at most ``:limit`` of them."""
        return f"{jobs.JOB} {self._where(ascending=self.ascending)} LIMIT :limit"

    @property
    def floor_statement(self) -> str:
        """Selects the position of the ``:searched``-th latest job, and that of the next one if there is one."""
        where = self._where(ascending=False)
        return f"SELECT {self.column}, id FROM jobs {where} LIMIT 2 OFFSET :searched - 1"  # noqa: S608 - the names are ours

    def _where(self, *, ascending: bool) -> str:
        direction = "ASC" if ascending else "DESC"
        conditions = " AND ".join(self.conditions)
        return f"WHERE {conditions} ORDER BY {self.column} {direction}, id {direction}"


def _filters(query: JobQuery) -> Iterator[tuple[str, dict[str, object]]]:
    # A plus keeps SQLite from using an index of that column: walking the index of the order avoids a sort.
    if query.user is not None:
        yield "user = :user", {"user": query.user}
    if query.cluster is not None:
        yield "+cluster = :cluster", {"cluster": query.cluster.value}
    if query.states:
        yield f"+state IN {rows.state_list(query.states)}", {}
    if query.ended is not None:
        yield f"+state {'IN' if query.ended else 'NOT IN'} {rows.state_list(TERMINAL)}", {}
    updated = "updated" if query.sort is JobSort.UPDATED else "+updated"
    if query.after is not None:
        yield f"{updated} >= :after", {"after": rows.to_number(query.after)}
    if query.before is not None:
        yield f"{updated} < :before", {"before": rows.to_number(query.before)}
    for name in ("name", "tag", "digest"):
        if (value := getattr(query, f"image_{name}")) is not None:
            yield f"json_extract(image, '$.{name}') = :image_{name}", {f"image_{name}": value}
    if query.labels:
        yield _LABELS, {"labels": json.dumps(query.labels)}


_LABELS = """
NOT EXISTS (
    SELECT 1 FROM json_each(:labels) AS required WHERE NOT EXISTS (
        SELECT 1 FROM json_each(jobs.labels) AS label
        WHERE label.key = required.key AND label.value = required.value
    )
)
"""


def page(db: sqlite3.Connection, query: JobQuery) -> JobPage:
    """Return a page of the jobs that match."""
    listing = Listing.of(query)
    oldest = None
    if query.text:
        oldest = _search_latest(db, listing, query.text, query.searched)
    if query.position is not None:
        listing.start_after(rows.to_number(query.position.time), query.position.job_id)
    # One more than the page holds, to see whether there is another page.
    matches = db.execute(listing.statement, {**listing.values, "limit": query.limit + 1}).fetchall()
    shown = matches[: query.limit]
    return JobPage(
        jobs=jobs.listed(db, shown),
        next=_position(shown[-1], listing.column) if len(matches) > len(shown) else None,
        searched_until=oldest,
    )


def _position(row: sqlite3.Row, column: str) -> JobPosition:
    return JobPosition(rows.to_time(row[column]), row["id"])


def _search_latest(
    db: sqlite3.Connection, listing: Listing, text: str, searched: int
) -> datetime | None:
    """Limit the listing to matches among the latest ``searched`` jobs; return the time of the oldest if others are left out."""
    floor = db.execute(listing.floor_statement, {**listing.values, "searched": searched}).fetchall()
    is_cut = len(floor) > 1
    if is_cut:
        listing.start_at_least(*floor[0])
    listing.add_text(text)
    return rows.to_time(floor[0][listing.column]) if is_cut else None


def counts(db: sqlite3.Connection, user: str | None) -> list[JobCount]:
    """Return how many jobs there are by site and state, of one user or of all."""
    statement = COUNT if user is None else COUNT_OF_USER
    job_counts = []
    for site in SiteName:
        for state in JobState:
            values = {"cluster": site.value, "state": state.value, "user": user}
            (count,) = db.execute(statement, values).fetchone()
            if count:
                job_counts.append(JobCount(site, state, count))
    return job_counts


LABEL_KEYS = """
SELECT DISTINCT label.key FROM (
    SELECT labels FROM jobs WHERE user = ? ORDER BY updated DESC, id DESC LIMIT ?
) AS latest CROSS JOIN json_each(latest.labels) AS label
"""


def label_keys(db: sqlite3.Connection, user: str, latest: int) -> list[str]:
    """Return the keys of the labels of the user's ``latest`` jobs, sorted."""
    return sorted(row["key"] for row in db.execute(LABEL_KEYS, (user, latest)))


def set_last_look(db: sqlite3.Connection, user: str, time: datetime) -> None:
    """Move the user's read marker forward to this time; it never moves back."""
    db.execute(
        "INSERT INTO last_looks (user, time) VALUES (?, ?) "
        "ON CONFLICT (user) DO UPDATE SET time = max(time, excluded.time)",
        (user, rows.to_number(time)),
    )


def last_look(db: sqlite3.Connection, user: str) -> datetime | None:
    """Return the user's read marker."""
    row = db.execute("SELECT time FROM last_looks WHERE user = ?", (user,)).fetchone()
    return rows.to_time(row["time"]) if row else None
