"""``cts jobs`` beside a newer CTS on one database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cts_core.model.base import utc_now
from cts_core.records.mongo import MongoStore
from cts_core.sections import MongoSettings
from tests.factories import make_job_record

from .conftest import Run

pytestmark = pytest.mark.slow


async def test_stuck_lists_all_but_what_is_beyond_it(
    mongo, mongo_settings: MongoSettings, run: Run
) -> None:
    store = MongoStore(mongo_settings)
    await store.open()
    ours, theirs = (make_job_record(time=utc_now() - timedelta(hours=1)) for _ in range(2))
    for job in (ours, theirs):
        await store.insert_job(job, containers=1)
    await store.close()
    with mongo.client() as client:
        db = client[mongo_settings.db]
        db["jobs"].update_one({"id": theirs.id}, {"$set": {"job_input.cluster": "moon"}})
    password = mongo_settings.password.get_secret_value()
    records = {"CTS_RECORDS": "mongo", "CTS_MONGO__HOST": mongo_settings.host,
        "CTS_MONGO__DB": mongo_settings.db, "CTS_MONGO__USER": mongo_settings.user,
        "CTS_MONGO__PASSWORD": password,
    }  # fmt: skip
    shown = await asyncio.to_thread(run, "jobs", "stuck", "--for", "0s", more=records)
    assert shown.returncode == 1, shown.stderr
    assert ours.id in shown.stdout
    assert "is not acknowledged" in shown.stdout
    assert theirs.id not in shown.stdout
