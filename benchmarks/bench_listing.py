"""Benchmark of pages of jobs: with 1,000,000 jobs of 1,000 users at most 1.5 times as long as with 1,000 jobs.

On SQLite, and with fewer jobs on the stand-in for MongoDB (root needed), which takes a minute to store 50,000. A finished job
is stored and template_id. Pages have 100 jobs, each of another user, from the two stores alternately. The lower quartiles are
compared, since a busy machine slows down some pages of both. Pages over all users are those of admins: the stand-in, which
sorts after the index scan, cannot show what they cost. ``bench_listing.py sqlite`` or ``mongo`` measures one of the two.
"""

from __future__ import annotations

import asyncio
import copy
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness import report, run, size

from cts_core.model.record import JobQuery
from cts_core.records.mongo.store import MongoStore
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.records.store import RecordStore
from cts_core.states import JobState
from tests.harness.factories import make_job_record
from tests.harness.records import walk
from tests.services.mongo import MongoServer

SMALL, LARGE, USERS = size((1_000, 1_000_000, 1_000), (1_000, 5_000, 5))
MONGO_JOBS = size(50_000, 2_000)
PAGE = 100
SAMPLES = size(200, 4)
BATCH = 1_000
AIM = 1.5


def job_id(number: int) -> str:
    """Return an id whose order is not that of time, as with random ids."""
    return f"{number * 2654435761 % 2**32:08x}-0000-4000-8000-{number:012x}"


def user(number: int, users: int) -> str:
    return f"user{number % users:04}"


async def template(store: RecordStore) -> str:
    """Insert a job with all its transitions, of a user who is not listed; return its id."""
    job = make_job_record(user="template", files=3)
    await store.insert_job(job, containers=1)
    await walk(store, job.id)
    return job.id


def fill_sqlite(path: Path, template_id: str, count: int, users: int) -> None:
    """Copy a job, a second apart, all before the original: a server tells its subscribers of what is of now or later."""
    later = f"(i - {count + 1}) * 1000000"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -2000000")
        db.create_function("job_id", 1, job_id, deterministic=True)
        changed = {
            "id": "job_id(i)",
            "user": f"printf('user%04d', i % {users})",
            "created": f"created + {later}",
            "updated": f"updated + {later}",
        }
        names = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
        values = ", ".join(changed.get(name, name) for name in names)
        numbers = f"WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {count})"
        db.execute(
            f"{numbers} INSERT INTO jobs ({', '.join(names)}) SELECT {values} FROM numbers, jobs WHERE id = ?",
            (template_id,),
        )
        db.execute(
            f"{numbers} INSERT INTO transitions (job_id, state, time, trans_id, notif_sent, recorded_at) "
            f"SELECT job_id(i), state, time + {later}, i || '-' || seq, 1, recorded_at + {later} "
            "FROM numbers, transitions WHERE job_id = ? ORDER BY i, seq",
            (template_id,),
        )


def fill_mongo(db: Any, template_id: str, count: int, users: int) -> None:
    document = db["jobs"].find_one({"id": template_id}, {"_id": 0})
    del document["_cts"]["unsent_since"]
    for first in range(1, count + 1, BATCH):
        batch = []
        for number in range(first, min(first + BATCH, count + 1)):
            job = copy.deepcopy(document) | {"id": job_id(number), "user": user(number, users)}
            later = timedelta(seconds=number - count - 1)
            job["_update_time"] += later
            for index, step in enumerate(job["transition_times"]):
                step |= {"trans_id": f"{number}-{index}", "notif_sent": True}
                step["time"] += later
                step["_recorded_at"] += later
            batch.append(job)
        db["jobs"].insert_many(batch, ordered=False)


async def _measure(store: RecordStore, query: JobQuery) -> float:
    start = time.perf_counter()
    page = await store.list_jobs(query)
    took = time.perf_counter() - start
    assert len(page.jobs) == query.limit
    return took


async def compare(
    kind: str, small: RecordStore, large: RecordStore, users_of_large: int, *, of_all: bool
) -> None:
    random.seed(1)
    some = [user(n, users_of_large) for n in random.choices(range(users_of_large), k=SAMPLES)]
    pages: dict[str, dict[str, Any]] = {
        "first page": {},
        "first page of a state": {"states": frozenset({JobState.COMPLETE})},
        "fifth page": {"later": 4},
        "last page": {"later": SMALL // PAGE - 1} if kind == "SQLite" else {"ascending": True},
    }
    cases = {f"{name} of a user": (query, some) for name, query in pages.items()}
    if of_all:
        cases |= {f"{name} of all": (query, [None] * SAMPLES) for name, query in pages.items()}
    for name, (query, users) in cases.items():
        took: dict[RecordStore, list[float]] = {small: [], large: []}
        for user_name in users:
            for store in (small, large):
                owner = user_name if user_name is None or store is large else user(0, 1)
                listing = JobQuery(
                    user=owner, limit=PAGE, **{k: v for k, v in query.items() if k != "later"}
                )
                for _ in range(query.get("later", 0)):
                    listing = replace(listing, position=(await store.list_jobs(listing)).next)
                took[store].append(await _measure(store, listing))
        quick = [statistics.quantiles(took[store])[0] for store in (small, large)]
        report(
            f"{kind}, {name}",
            f"{quick[1] / quick[0]:.2f} times as long (at most {AIM}; {quick[0] * 1000:.1f} and {quick[1] * 1000:.1f} ms)",
            page_ms=quick[1] * 1000,
            ratio=quick[1] / quick[0],
        )


async def on_sqlite(folder: Path) -> None:
    stores = []
    for name, count, users in (("small", SMALL, 1), ("large", LARGE, USERS)):
        path = folder / f"{name}.sqlite"
        store = SQLiteStore(path)
        await store.open()
        template_id = await template(store)
        start = time.perf_counter()
        fill_sqlite(path, template_id, count, users)
        print(f"SQLite: {count:,} jobs stored in {time.perf_counter() - start:.0f} s", flush=True)
        stores.append(store)
    await compare("SQLite", *stores, USERS, of_all=True)
    for store in stores:
        await store.close()


async def on_mongo(folder: Path) -> None:
    server = MongoServer(folder / "mongo")
    server.start()
    try:
        stores = []
        for name, count, users in (("small", SMALL, 1), ("large", MONGO_JOBS, MONGO_JOBS // SMALL)):
            store = MongoStore(server.settings(name))
            await store.open()
            template_id = await template(store)
            start = time.perf_counter()
            with server.client() as client:
                fill_mongo(client[name], template_id, count, users)
            print(
                f"MongoDB: {count:,} jobs stored in {time.perf_counter() - start:.0f} s", flush=True
            )
            stores.append(store)
        await compare("MongoDB", *stores, MONGO_JOBS // SMALL, of_all=False)
        for store in stores:
            await store.close()
    finally:
        server.stop()


async def main(kinds: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name:
        if "sqlite" in kinds:
            await on_sqlite(Path(name))
        if "mongo" in kinds:
            await on_mongo(Path(name))


if __name__ == "__main__":
    run(lambda: asyncio.run(main(sys.argv[1:] or ["sqlite", "mongo"])))
