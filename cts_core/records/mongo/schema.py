"""The indexes of the Mongo record store, and making them on a database that may have indexes of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from cts_core.errors import ConfigError
from cts_core.states import TERMINAL, JobState

VERSION = 1
"""Of what we add to the deployed service's layout."""
UPDATED = "_update_time"
CREATED = "transition_times.0.time"
LABELS = "_cts.labels"
OURS = "_cts.ours"
"""True on each job that is ours to drive."""
UNSENT_SINCE = "_cts.unsent_since"
"""When the oldest unsent transition was recorded; absent when all are sent."""
KEY = "_cts.idempotency.key"
PARENT = "_cts.parent_id"
EXCLUSIVE_OUTPUT_DIR = "_cts.sole_folder"
"""The output folder of a job that no other such job may have."""

ENDED = [state.value for state in sorted(TERMINAL)]
LIVE = [state.value for state in JobState if state not in TERMINAL]
IS_LIVE = {"state": {"$in": LIVE}}
IS_OURS = {OURS: True}
IS_FOREIGN = {OURS: {"$ne": True}}

Keys = tuple[tuple[str, int], ...]
BY_ID: Keys = (("id", ASCENDING),)
BY_KEY: Keys = (("user", ASCENDING), (KEY, ASCENDING))
_FILTERS: Keys = tuple((name, ASCENDING) for name in ("state", "job_input.cluster", "image.name"))
# What a listing filters by stands behind what it is ordered by, so that the index alone tells what matches.
BY_UPDATE: Keys = ((UPDATED, DESCENDING), ("id", DESCENDING), *_FILTERS)
BY_CREATION: Keys = ((CREATED, DESCENDING), ("id", DESCENDING), *_FILTERS)
BY_LABEL: Keys = (
    (LABELS, ASCENDING),
    (UPDATED, DESCENDING),
    ("id", DESCENDING),
    ("user", ASCENDING),
    *_FILTERS,
)
BY_STATE: Keys = (("state", ASCENDING), ("user", ASCENDING), ("job_input.cluster", ASCENDING))
BY_EXCLUSIVE_OUTPUT_DIR: Keys = ((EXCLUSIVE_OUTPUT_DIR, ASCENDING),)
BY_PARENT: Keys = ((PARENT, ASCENDING), (CREATED, ASCENDING))
# These two hold only the few jobs that are still to be cleaned, or told of. Who names an index by its keys must name
# one alone: the deployed service may have its own on the time of the update.
UNCLEANED: Keys = ((UPDATED, ASCENDING), ("state", ASCENDING), ("job_input.cluster", ASCENDING))
UNSENT: Keys = ((UNSENT_SINCE, ASCENDING),)


def of_user(keys: Keys) -> Keys:
    """The same order among one user's jobs."""
    return (("user", ASCENDING), *keys)


@dataclass(frozen=True)
class Index:
    """An index that the store needs."""

    collection: str
    name: str
    keys: Keys
    options: Mapping[str, Any] = field(default_factory=dict)

    def is_met_by(self, existing: Mapping[str, Any]) -> bool:
        """Whether an index that is there already serves, whatever its name."""
        return tuple(existing["key"]) == self.keys and existing.get(
            "partialFilterExpression"
        ) == self.options.get("partialFilterExpression")


BY_RECORDING: Keys = (
    ("transition_times._recorded_at", ASCENDING),
    ("transition_times.time", ASCENDING),
)
_UNIQUE = {"unique": True}
# The first of each name is the deployed service's own (contract, facts §7); ours begin with cts_.
INDEXES = (
    Index("jobs", "id_1", BY_ID, _UNIQUE),
    Index(
        "jobs",
        "cts_idempotency",
        BY_KEY,
        {**_UNIQUE, "partialFilterExpression": {KEY: {"$exists": True}}},
    ),
    Index("jobs", "cts_updated", BY_UPDATE),
    Index("jobs", "cts_user_updated", of_user(BY_UPDATE)),
    Index("jobs", "cts_created", BY_CREATION),
    Index("jobs", "cts_user_created", of_user(BY_CREATION)),
    Index(
        "jobs",
        "cts_labels",
        BY_LABEL,
        {"partialFilterExpression": {LABELS: {"$exists": True}}},
    ),
    Index("jobs", "cts_state", BY_STATE),
    Index(
        "jobs",
        "cts_to_clean",
        UNCLEANED,
        {"partialFilterExpression": {"cleaned": False}},
    ),
    Index(
        "jobs",
        "cts_unsent",
        UNSENT,
        {"partialFilterExpression": {"transition_times.notif_sent": False}},
    ),
    Index(
        "jobs",
        "cts_parent",
        BY_PARENT,
        {"partialFilterExpression": {PARENT: {"$exists": True}}},
    ),
    Index(
        "jobs",
        "cts_sole_folder",
        BY_EXCLUSIVE_OUTPUT_DIR,
        {**_UNIQUE, "partialFilterExpression": {EXCLUSIVE_OUTPUT_DIR: {"$exists": True}}},
    ),
    Index("jobs", "cts_recorded", BY_RECORDING),
    Index("jobs", "cts_user_recorded", of_user(BY_RECORDING)),
    Index("subjobs", "id_1_sub_id_1", (("id", ASCENDING), ("sub_id", ASCENDING)), _UNIQUE),
    Index(
        "subjobs",
        "cts_state",
        (("id", ASCENDING), ("sub_id", ASCENDING), ("state", ASCENDING)),
    ),
    Index("exitcodes", "id_1", (("id", ASCENDING),), _UNIQUE),
    Index(
        "images",
        "UNIQUE_IMAGE_DIGEST_INDEX",
        (("name", ASCENDING), ("digest", ASCENDING)),
        _UNIQUE,
    ),
    Index(
        "images",
        "UNIQUE_IMAGE_TAG_INDEX",
        (("name", ASCENDING), ("tag", ASCENDING)),
        {**_UNIQUE, "sparse": True},
    ),
    Index("refdata", "id_1", (("id", ASCENDING),), _UNIQUE),
    Index("refdata", "file_1", (("file", ASCENDING),)),
    Index("sites", "site_1", (("site", ASCENDING),), _UNIQUE),
    Index("cts_users", "cts_user", (("user", ASCENDING),), _UNIQUE),
    Index("cts_worker_tokens", "cts_hash", (("hash", ASCENDING),), _UNIQUE),
    Index("cts_worker_tokens", "cts_until", (("until", ASCENDING),), {"expireAfterSeconds": 0}),
)


def literal(value: object) -> dict[str, Any]:
    """A value in a pipeline, whatever it looks like: text that begins with a dollar is no field there."""
    return {"$literal": value}


async def prepare(db: AsyncDatabase[dict[str, Any]]) -> None:
    """Make the database a store of ours: add what is missing, change nothing that is there.

    Raises ConfigError when it is newer than us, or has an index that does not keep apart what must be.
    """
    await _check_version(db)
    for name in sorted({index.collection for index in INDEXES}):
        wanted = [index for index in INDEXES if index.collection == name]
        await _ensure(db[name], wanted)


async def upsert(
    collection: AsyncCollection[dict[str, Any]], which: dict[str, Any], update: dict[str, Any]
) -> None:
    """Update a document, or insert it, also when another server inserts it at the same moment."""
    try:
        await collection.update_one(which, update, upsert=True)
    except DuplicateKeyError:
        await collection.update_one(which, update, upsert=True)


async def _check_version(db: AsyncDatabase[dict[str, Any]]) -> None:
    # Asked to write even where it is there: a user who may not write is found out now.
    schema = {"_id": "schema"}
    await upsert(db["cts_store"], schema, {"$setOnInsert": {"version": VERSION}})
    known = await db["cts_store"].find_one(schema)
    # A newer version says up to how old a one may still go on, while servers are upgraded one after the other.
    if known and known.get("oldest", known["version"]) > VERSION:
        raise ConfigError(
            f"mongo.db: the database {db.name} was written by a newer CTS (schema {known['version']}, this one "
            f"knows {VERSION}): upgrade CTS, or choose another database"
        )


async def _ensure(collection: AsyncCollection[dict[str, Any]], wanted: list[Index]) -> None:
    # An index on the same keys with another name or options would be refused: what is there is looked at first.
    existing = await collection.index_information()
    missing = []
    for index in wanted:
        met = [name for name, found in existing.items() if index.is_met_by(found)]
        if not met:
            missing.append(index)
        elif index.options.get("unique") and not any(existing[name].get("unique") for name in met):
            raise ConfigError(
                f"mongo.db: the index {met[0]} of the collection {collection.name} in {collection.database.name} "
                "is not unique, as it must be: drop it, and start again"
            )
    if missing:
        await collection.create_indexes(
            [IndexModel(list(index.keys), name=index.name, **index.options) for index in missing]
        )
