"""The query plans of MongoDB: which index a query uses, and what sorts.

Two things are checked, since the server of these tests uses an index but sorts afterwards (``tests/services/mongo.py``):
its ``explain`` says which index is used; and by MongoDB's own rule an index gives the requested order if the fields of
that order follow in it right behind fields that are all compared with one value.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from pymongo import AsyncMongoClient
from pymongo.database import Database
from pymongo.monitoring import CommandListener

from cts_core.model.record import JobPosition, JobQuery, JobSort
from cts_core.model.site import SiteName
from cts_core.records.mongo import connection
from cts_core.records.mongo.schema import INDEXES
from cts_core.records.mongo.store import MongoStore
from cts_core.states import JobState
from tests.harness.factories import DIGEST, NOON, make_job_record
from tests.harness.records import walk

pytestmark = pytest.mark.slow

Command = Mapping[str, Any]
Call = Callable[[MongoStore], Awaitable[object]]
JOBS = 60
ONE = "44444444-0000-4000-8000-000000000000"


class Commands(CommandListener):
    """Records the commands on the collections."""

    def __init__(self) -> None:
        self.sent: list[Command] = []

    def started(self, event: Any) -> None:
        if event.command_name in ("find", "aggregate", "update", "delete", "count", "distinct"):
            self.sent.append(dict(event.command))

    def succeeded(self, event: Any) -> None:
        """Nothing to record."""

    def failed(self, event: Any) -> None:
        """Nothing to record."""


@pytest.fixture
def commands(monkeypatch) -> Commands:
    listener = Commands()
    client = functools.partial(AsyncMongoClient, event_listeners=[listener])
    monkeypatch.setattr(connection, "AsyncMongoClient", client)
    return listener


@pytest.fixture
async def store(commands, mongo_settings) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongo_settings)
    await store.open()
    for number in range(JOBS):
        job = make_job_record(user=f"user{number % 3}", time=NOON + timedelta(seconds=number))
        await store.insert_job(job, containers=2)
        if number % 2:
            await walk(store, job.id)
    await store.insert_job(make_job_record(id=ONE, user="ana"), containers=2)
    commands.sent.clear()
    yield store
    await store.close()


def query_of(command: Command) -> dict[str, Any]:
    """Return the query that a command begins with, in the form that ``explain`` takes."""
    if "find" in command:
        kept = ("find", "filter", "sort", "hint", "skip", "limit", "projection")
    elif "aggregate" in command:
        kept = ("aggregate", "pipeline", "hint", "cursor")
    else:
        (collection,) = (command[name] for name in ("update", "delete") if name in command)
        (change,) = command.get("updates") or command["deletes"]
        hint = {"hint": change["hint"]} if "hint" in change else {}
        return {"find": collection, "filter": change["q"], **hint}
    return {name: command[name] for name in kept if name in command}


def nodes(plan: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(plan, Mapping):
        yield plan
        for part in plan.values():
            yield from nodes(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from nodes(part)


def indexes_used(db: Database, query: dict[str, Any]) -> set[str]:
    """Return the indexes that the query uses."""
    plan = db.command("explain", query, verbosity="queryPlanner")["queryPlanner"]
    found = list(nodes(plan))
    assert "Seq Scan" not in {node.get("Node Type") for node in found}, query
    return {node["Index Name"] for node in found if "Index Name" in node}


def order_of(query: dict[str, Any]) -> list[tuple[str, int]]:
    """Return the order of the documents."""
    stages = [stage["$sort"] for stage in query.get("pipeline", ()) if "$sort" in stage]
    return list((query.get("sort") or (stages[0] if stages else {})).items())


def is_ordered_by(query: dict[str, Any], index: str) -> bool:
    """Return whether the index gives the requested order."""
    condition = query.get("filter", {})
    single = {
        field
        for part in (condition, *condition.get("$and", ()))
        for field, value in part.items()
        if not field.startswith("$") and not isinstance(value, dict)
    }
    (keys,) = (
        list(declared.keys)
        for declared in INDEXES
        if (declared.collection, declared.name) == (query["find"], index)
    )
    order = order_of(query)
    while keys and keys[0][0] in single and keys[0][0] != order[0][0]:
        keys.pop(0)
    return keys[: len(order)] in (order, [(field, -direction) for field, direction in order])


class Plan(NamedTuple):
    """The plan of a query: the index that it uses, and what sorts: the index, the server, or nothing."""

    index: str
    order: str


def plan_of(db: Database, command: Command) -> Plan:
    query = query_of(command)
    indexes = indexes_used(db, query)
    assert len(indexes) == 1, (indexes, query)
    (index,) = indexes
    if "subjobs" in query.values() and index == "cts_state":
        index = CONTAINER.index  # either does: the one begins with the other
    if not order_of(query):
        return Plan(index, "any")
    return Plan(index, "index" if "find" in query and is_ordered_by(query, index) else "sorted")


def listing(**query: Any) -> Call:
    return lambda store: store.list_jobs(JobQuery(**query))


EVERYTHING = {"cluster": SiteName.LOCAL, "states": [JobState.COMPLETE], "image_name": "host/tool"}
LATER = {"position": JobPosition(NOON + timedelta(seconds=30), ONE)}
UPDATED, USERS = Plan("cts_updated", "index"), Plan("cts_user_updated", "index")
CREATED, USERS_CREATED = Plan("cts_created", "index"), Plan("cts_user_created", "index")
LABELS = Plan("cts_labels", "index")
JOB, CONTAINER = Plan("id_1", "any"), Plan("id_1_sub_id_1", "any")
BY_STATE, RECORDED = Plan("cts_state", "any"), Plan("cts_recorded", "sorted")
TABLE: dict[str, tuple[Call, list[Plan]]] = {
    "all jobs": (listing(), [UPDATED]),
    "all jobs, filtered": (listing(**EVERYTHING), [UPDATED]),
    "all jobs, oldest first": (listing(ascending=True, ended=False), [UPDATED]),
    "all jobs of a time": (listing(after=NOON, before=NOON + timedelta(seconds=9)), [UPDATED]),
    "all jobs, a later page": (listing(**LATER, **EVERYTHING), [UPDATED]),
    "a user's jobs": (listing(user="user1"), [USERS]),
    "a user's jobs, filtered": (listing(user="user1", **EVERYTHING), [USERS]),
    "a user's jobs that ended since": (listing(user="user1", ended=True, after=NOON), [USERS]),
    "a user's jobs, a later page": (listing(user="user1", **LATER, **EVERYTHING), [USERS]),
    "a user's jobs, oldest first, a later page": (
        listing(user="user1", ascending=True, **LATER),
        [USERS],
    ),
    "by creation": (listing(sort=JobSort.CREATED), [CREATED]),
    "by creation, a later page": (listing(sort=JobSort.CREATED, **LATER), [CREATED]),
    "a user's by creation": (listing(sort=JobSort.CREATED, user="user1"), [USERS_CREATED]),
    "a user's by creation, a later page": (
        listing(sort=JobSort.CREATED, user="user1", ascending=True, **LATER, **EVERYTHING),
        [USERS_CREATED],
    ),
    "by label": (listing(user="user1", labels={"a": "1"}, **EVERYTHING), [LABELS]),
    "by labels, a later page": (listing(labels={"a": "1", "b": "2"}, **LATER), [LABELS]),
    # First the oldest position of the search, then the search.
    "by text": (listing(user="user1", text="tool", searched=5), [USERS, USERS]),
    "counts": (lambda s: s.count_jobs(), [BY_STATE]),
    "a user's counts": (lambda s: s.count_jobs("user1"), [BY_STATE]),
    # Live jobs are few enough to be sorted by the store, unsent ones of another program by the server.
    "advance": (lambda s: s.live_jobs(SiteName.LOCAL, owner="server"), [BY_STATE]),
    "all live jobs": (lambda s: s.live_jobs(), [BY_STATE]),
    "not adopted": (lambda s: s.unadopted_jobs(), [BY_STATE]),
    "resubmissions": (
        lambda s: s.resubmissions([ONE], limit=10),
        [Plan("cts_parent", "sorted")],
    ),
    "a user's live containers": (
        lambda s: s.live_containers("user1"),
        [BY_STATE, CONTAINER],
    ),
    "containers of a user's live jobs": (
        lambda s: s.live_containers_at_most("user1"),
        [BY_STATE],
    ),
    "to be cleaned": (
        lambda s: s.ended_jobs(NOON, [SiteName.LOCAL]),
        [Plan("cts_to_clean", "index")],
    ),
    "ended of some": (lambda s: s.ended_among([ONE], NOON), [JOB]),
    "outbox": (lambda s: s.unsent(), [Plan("cts_unsent", "index"), Plan("cts_unsent", "sorted")]),
    # A page of transitions from a time on: they are unwound from their jobs, and sorted.
    "events": (lambda s: s.events(since=NOON + timedelta(seconds=50)), [RECORDED]),
    "a user's events": (
        lambda s: s.events(since=NOON, user="user1"),
        [Plan("cts_user_recorded", "sorted")],
    ),
    "a job's events": (lambda s: s.events(since=NOON, job_id=ONE), [Plan("id_1", "sorted")]),
    "leases": (
        lambda s: s.take_leases([ONE], "server", now=NOON, until=NOON),
        [JOB, JOB],
    ),
    "a job": (lambda s: s.get_job(ONE), [JOB]),
    "a job's summary": (lambda s: s.get_summary(ONE), [JOB]),
    "summaries of jobs": (lambda s: s.get_summaries([ONE, "none"]), [JOB]),
    "a job to act upon": (lambda s: s.get_drivable(ONE), [JOB]),
    "a key": (lambda s: s.find_idempotent("ana", "key"), [Plan("cts_idempotency", "any")]),
    "a job's containers": (lambda s: s.containers(ONE), [Plan("id_1_sub_id_1", "index")]),
    "a container": (lambda s: s.container(ONE, 1), [CONTAINER]),
    "states of containers": (lambda s: s.container_states(ONE), [Plan("id_1_sub_id_1", "index")]),
    "states of many": (
        lambda s: s.states_of_containers([ONE]),
        [Plan("id_1_sub_id_1", "index")],
    ),
    "a transition": (
        lambda s: s.transition(
            ONE, JobState.CREATED, JobState.DOWNLOAD_SUBMITTED, time=NOON, trans_id="t"
        ),
        [JOB],
    ),
    "a container's transition": (
        lambda s: s.transition_container(ONE, 0, JobState.DOWNLOAD_SUBMITTED, []),
        [CONTAINER],
    ),
    "a container's claim": (lambda s: s.find_claim(ONE, 1), [CONTAINER]),
    "claims": (lambda s: s.claims(ONE), [CONTAINER]),
    "acknowledged": (lambda s: s.mark_sent(ONE, "t"), [JOB]),
    "cleaned": (lambda s: s.mark_cleaned(ONE), [JOB]),
    "an image by its tag": (
        lambda s: s.find_image("host/tool", digest=None, tag="latest"),
        [Plan("UNIQUE_IMAGE_TAG_INDEX", "any")],
    ),
    "an image by its digest": (
        lambda s: s.find_image("host/tool", digest=DIGEST, tag=None),
        [Plan("UNIQUE_IMAGE_DIGEST_INDEX", "any")],
    ),
    "requests for checksums that run": (
        lambda s: s.running_checksums("server", now=NOON),
        [Plan("cts_running", "index")],
    ),
    "a user's requests for checksums": (
        lambda s: s.list_checksums("ana"),
        [Plan("cts_user", "index")],
    ),
    "last look": (lambda s: s.last_look("ana"), [Plan("cts_user", "any")]),
}
"""Every query on collections that grow. Images, reference data and sites are few, and read whole."""


async def test_every_query_uses_an_index(store, commands, db):
    found = {}
    for name, (ask, _) in TABLE.items():
        commands.sent.clear()
        await ask(store)
        found[name] = [plan_of(db, command) for command in commands.sent]
    assert found == {name: plans for name, (_, plans) in TABLE.items()}


async def test_every_hint_matches_one_index(store, db):
    # MongoDB refuses a hint by keys that match several.
    db["jobs"].create_index([("_update_time", 1)], name="deployed")
    for name in {index.collection for index in INDEXES}:
        keys = [tuple(found["key"]) for found in db[name].index_information().values()]
        assert len(keys) == len(set(keys)), keys


@pytest.mark.parametrize(
    ("condition", "order", "index", "is_given"),
    [
        ({}, {"_update_time": -1, "id": -1}, "cts_updated", True),
        ({}, {"_update_time": 1, "id": 1}, "cts_updated", True),
        ({}, {"_update_time": 1, "id": -1}, "cts_updated", False),
        ({"user": "a"}, {"_update_time": -1}, "cts_user_updated", True),
        ({"user": {"$in": ["a", "b"]}}, {"_update_time": -1}, "cts_user_updated", False),
        ({"user": "a"}, {"state": 1}, "cts_user_updated", False),
    ],
)
def test_which_index_gives_which_order(condition, order, index, is_given):
    query = {"find": "jobs", "filter": condition, "sort": order}
    assert is_ordered_by(query, index) is is_given
