"""The record store in one SQLite file. Any number of processes of one machine may share it."""

from __future__ import annotations

import asyncio
import datetime
import json
import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path

from cts_core.errors import ImageDigestExistsError, ImageTagExistsError, NoSuchContainerError
from cts_core.model.event import JobEvent
from cts_core.model.image import Image
from cts_core.model.record import (
    ContainerOutcome,
    ContainerRecord,
    ContainerTransition,
    Idempotency,
    JobOutcome,
    JobQuery,
    JobRecord,
    JobSummary,
)
from cts_core.model.site import Cluster
from cts_core.records import sqlite_rows as rows
from cts_core.records.sqlite_connection import Connections
from cts_core.records.sqlite_schema import create_or_check
from cts_core.records.store import IdempotentJob
from cts_core.states import TERMINAL, JobState
from cts_core.worker.failpoint import failpoint


class SQLiteStore:
    """See the port ``RecordStore``, whose methods these are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections = Connections(path)
        self._read = self._connections.read
        self._write = self._connections.write

    async def open(self) -> None:
        """See the port."""
        await asyncio.to_thread(create_or_check, self._path)
        self._connections.start()

    async def close(self) -> None:
        """See the port."""
        await asyncio.to_thread(self._connections.stop)

    # -- jobs ----------------------------------------------------------------------------------

    async def insert_job(
        self, job: JobRecord, *, containers: int, idempotency: Idempotency | None = None
    ) -> IdempotentJob | None:
        """See the port."""
        new = await asyncio.to_thread(rows.JobRows, job, containers)

        def insert(db: sqlite3.Connection) -> IdempotentJob | None:
            known = idempotency and rows.find_idempotent(db, job.user, idempotency.key)
            if not known:
                rows.insert_job(db, new, idempotency)
            return known or None

        failpoint("store:before")
        known = await self._write(insert)
        failpoint("store:after")
        return known

    async def find_idempotent(self, user: str, key: str) -> IdempotentJob | None:
        """See the port."""
        return await self._read(lambda db: rows.find_idempotent(db, user, key))

    async def get_job(self, job_id: str) -> JobRecord:
        """See the port."""

        def get(db: sqlite3.Connection) -> JobRecord:
            fields = rows.summary_fields(db, rows.job_row(db, job_id))
            files, outputs = db.execute(
                "SELECT input_files, outputs FROM job_files WHERE job_id = ?", (job_id,)
            ).fetchone()
            fields["job_input"]["input_files"] = json.loads(files)
            fields["outputs"] = json.loads(outputs) if outputs else None
            return JobRecord.model_validate(fields)

        return await self._read(get)

    async def get_summary(self, job_id: str) -> JobSummary:
        """See the port."""
        return await self._read(
            lambda db: JobSummary.model_validate(rows.summary_fields(db, rows.job_row(db, job_id)))
        )

    async def list_jobs(self, query: JobQuery) -> list[JobSummary]:
        """See the port."""
        where, values = rows.conditions(query)
        return await self._read(
            lambda db: rows.summaries(
                db,
                db.execute(
                    f"SELECT {rows.JOB_COLUMNS} FROM jobs {where} ORDER BY updated DESC, id LIMIT ?",
                    (*values, query.limit),
                ),
            )
        )

    async def live_jobs(self, cluster: Cluster | None = None) -> list[JobSummary]:
        """See the port."""
        where, values = ("AND cluster = ?", [cluster.value]) if cluster else ("", [])
        return await self._read(
            lambda db: rows.summaries(
                db,
                db.execute(
                    f"SELECT {rows.JOB_COLUMNS} FROM jobs WHERE live = 1 {where} ORDER BY created, id",
                    values,
                ),
            )
        )

    async def transition(
        self,
        job_id: str,
        expected: JobState,
        new: JobState,
        *,
        time: datetime.datetime,
        trans_id: str,
        outcome: JobOutcome | None = None,
    ) -> bool:
        """See the port."""

        def move(db: sqlite3.Connection) -> bool:
            if rows.job_row(db, job_id)[2] != expected.value:
                return False
            seq, last, user = db.execute(
                "SELECT seq, time, user FROM transitions WHERE job_id = ? ORDER BY seq DESC LIMIT 1",
                (job_id,),
            ).fetchone()
            when = max(last, rows.time_text(time))
            db.execute(
                "UPDATE jobs SET state = ?, live = ?, updated = ? WHERE id = ?",
                (new.value, new not in TERMINAL, when, job_id),
            )
            db.execute(
                f"INSERT INTO transitions (seq, {rows.EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (seq + 1, job_id, user, new.value, when, trans_id, rows.now_text()),
            )
            if outcome is not None:
                rows.add_outcome(db, job_id, outcome)
            return True

        return await self._write(move)

    async def add_outcome(self, job_id: str, outcome: JobOutcome) -> None:
        """See the port."""
        await self._write(lambda db: rows.add_outcome(db, job_id, outcome))

    async def mark_cleaned(self, job_id: str) -> None:
        """See the port."""
        await self._write(lambda db: rows.execute(db, "UPDATE jobs SET cleaned = 1 WHERE id = ?", (job_id,)))

    async def ended_jobs(self, before: datetime.datetime, *, limit: int = 100) -> list[JobSummary]:
        """See the port."""
        return await self._read(
            lambda db: rows.summaries(
                db,
                db.execute(
                    f"SELECT {rows.JOB_COLUMNS} FROM jobs WHERE live = 0 AND cleaned = 0 AND updated < ? "
                    "ORDER BY updated LIMIT ?",
                    (rows.time_text(before), limit),
                ),
            )
        )

    async def take_leases(
        self,
        job_ids: Collection[str],
        owner: str,
        *,
        now: datetime.datetime,
        until: datetime.datetime,
    ) -> set[str]:
        """See the port."""

        def take(db: sqlite3.Connection) -> set[str]:
            return {
                job_id
                for job_id in job_ids
                if db.execute(
                    "UPDATE jobs SET lease_owner = ?, lease_until = ? WHERE id = ? AND "
                    "(lease_owner IS NULL OR lease_owner = ? OR lease_until < ?)",
                    (owner, rows.time_text(until), job_id, owner, rows.time_text(now)),
                ).rowcount
            }

        return await self._write(take)

    # -- containers ----------------------------------------------------------------------------

    async def containers(self, job_id: str) -> list[ContainerRecord]:
        """See the port."""

        def get(db: sqlite3.Connection) -> list[ContainerRecord]:
            rows.job_row(db, job_id)
            found = db.execute(
                "SELECT sub_id, state, transition_times, outcome FROM containers "
                "WHERE job_id = ? ORDER BY sub_id",
                (job_id,),
            )
            return [
                ContainerRecord(
                    id=job_id,
                    sub_id=number,
                    state=state,
                    transition_times=json.loads(times),
                    **json.loads(outcome),
                )
                for number, state, times, outcome in found
            ]

        return await self._read(get)

    async def container_states(self, job_id: str) -> list[JobState]:
        """See the port."""

        def get(db: sqlite3.Connection) -> list[JobState]:
            rows.job_row(db, job_id)
            found = db.execute(
                "SELECT state FROM containers WHERE job_id = ? ORDER BY sub_id", (job_id,)
            )
            return [JobState(state) for (state,) in found]

        return await self._read(get)

    async def transition_container(
        self,
        job_id: str,
        number: int,
        expected: JobState,
        steps: Sequence[ContainerTransition],
        *,
        outcome: ContainerOutcome | None = None,
    ) -> bool:
        """See the port."""

        def move(db: sqlite3.Connection) -> bool:
            row = db.execute(
                "SELECT state, transition_times, outcome FROM containers "
                "WHERE job_id = ? AND sub_id = ?",
                (job_id, number),
            ).fetchone()
            if row is None:
                raise NoSuchContainerError(f"Job {job_id} has no container {number}")
            state, times, known = row[0], json.loads(row[1]), json.loads(row[2])
            if state != expected.value:
                return False
            for step in steps:
                when = max(times[-1]["time"], rows.time_text(step.time))
                times.append({"state": step.state.value, "time": when})
            known |= rows.set_fields(outcome)
            db.execute(
                "UPDATE containers SET state = ?, transition_times = ?, outcome = ? "
                "WHERE job_id = ? AND sub_id = ?",
                (times[-1]["state"], json.dumps(times), json.dumps(known), job_id, number),
            )
            return True

        return await self._write(move)

    # -- events --------------------------------------------------------------------------------

    async def unsent(self, *, limit: int = 100) -> list[JobEvent]:
        """See the port."""
        return await self._read(
            lambda db: rows.events(
                db.execute(
                    f"SELECT {rows.EVENT_COLUMNS} FROM transitions JOIN (SELECT job_id AS id, min(seq) AS oldest "
                    "FROM transitions INDEXED BY transitions_unsent WHERE notif_sent = 0 "
                    "GROUP BY job_id LIMIT ?) ON job_id = id AND seq = oldest ORDER BY recorded_at",
                    (limit,),
                )
            )
        )

    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        """See the port."""
        await self._write(
            lambda db: rows.execute(
                db,
                "UPDATE transitions SET notif_sent = 1 WHERE job_id = ? AND trans_id = ?",
                (job_id, trans_id),
            )
        )

    async def events(
        self,
        *,
        since: datetime.datetime,
        user: str | None = None,
        job_id: str | None = None,
        limit: int = 1000,
    ) -> list[JobEvent]:
        """See the port."""
        filters = {"user = ?": user, "job_id = ?": job_id}
        where = "".join(f" AND {test}" for test, value in filters.items() if value is not None)
        values = [value for value in filters.values() if value is not None]

        def get(db: sqlite3.Connection) -> list[JobEvent]:
            query = f"SELECT {rows.EVENT_COLUMNS} FROM transitions WHERE recorded_at %s ?{where} ORDER BY recorded_at, job_id, seq"
            page = db.execute(f"{query % '>='} LIMIT ?", (rows.time_text(since), *values, limit)).fetchall()
            if len(page) == limit and page[0][-1] == page[-1][-1]:
                # One instant fills the page: without all of it the reader could never get past it.
                page = db.execute(query % "=", (page[0][-1], *values)).fetchall()
            return rows.events(page)

        return await self._read(get)

    # -- images and sites ----------------------------------------------------------------------

    async def add_image(self, image: Image) -> None:
        """See the port."""

        def add(db: sqlite3.Connection) -> None:
            tag = image.tag or None
            if tag and rows.find_image(db, image.name, "tag", tag):
                raise ImageTagExistsError(f"The image {image.name} with tag '{tag}' exists already")
            if rows.find_image(db, image.name, "digest", image.digest):
                raise ImageDigestExistsError(
                    f"The image {image.name} with digest {image.digest} exists already"
                )
            db.execute(
                "INSERT INTO images (name, digest, tag, image) VALUES (?, ?, ?, ?)",
                (image.name, image.digest, tag, image.model_dump_json()),
            )

        await self._write(add)

    async def find_image(self, name: str, *, digest: str | None, tag: str | None) -> Image | None:
        """See the port."""
        column, value = ("digest", digest) if digest else ("tag", tag)
        return await self._read(lambda db: rows.find_image(db, name, column, value))

    async def list_images(self) -> list[Image]:
        """See the port."""
        return await self._read(
            lambda db: [
                Image.model_validate_json(text)
                for (text,) in db.execute("SELECT image FROM images ORDER BY name, tag, digest")
            ]
        )

    async def delete_image(self, name: str, *, digest: str) -> bool:
        """See the port."""
        return await self._write(
            lambda db: db.execute(
                "DELETE FROM images WHERE name = ? AND digest = ?", (name, digest)
            ).rowcount
            > 0
        )

    async def inactive_sites(self) -> set[Cluster]:
        """See the port."""
        return await self._read(
            lambda db: {Cluster(c) for (c,) in db.execute("SELECT cluster FROM inactive_sites")}
        )

    async def set_site_active(self, cluster: Cluster, *, active: bool) -> None:
        """See the port."""
        statement = (
            "DELETE FROM inactive_sites WHERE cluster = ?"
            if active
            else "INSERT OR IGNORE INTO inactive_sites (cluster) VALUES (?)"
        )
        await self._write(lambda db: rows.execute(db, statement, (cluster.value,)))
