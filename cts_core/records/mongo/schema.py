"""The fields and indexes of the MongoDB record store, and their creation on a database that may have its own."""

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
"""The version of what CTS adds to the deployed service's layout."""
UPDATED = "_update_time"
CREATED = "transition_times.0.time"
LABELS = "_cts.labels"
OURS = "_cts.ours"
"""True on each job that this service drives, instead of the deployed service."""
UNSENT_SINCE = "_cts.unsent_since"
"""When the oldest unsent transition was recorded; absent when all are sent."""
KEY = "_cts.idempotency.key"
PARENT = "_cts.parent_id"
WAIT = "_cts.wait"
EXCLUSIVE_OUTPUT_DIR = "_cts.sole_folder"
"""The output folder of a job that claims it, so that no other job that does may have the same one."""

ENDED = [state.value for state in sorted(TERMINAL)]
LIVE = [state.value for state in JobState if state not in TERMINAL]
IS_LIVE = {"state": {"$in": LIVE}}
IS_OURS = {OURS: True}
IS_FOREIGN = {OURS: {"$ne": True}}

Keys = tuple[tuple[str, int], ...]
BY_ID: Keys = (("id", ASCENDING),)
BY_KEY: Keys = (("user", ASCENDING), (KEY, ASCENDING))
_FILTERS: Keys = tuple((name, ASCENDING) for name in ("state", "job_input.cluster", "image.name"))
# The fields of the order come first and those of the filters behind, so that the index alone decides what matches.
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
BY_NUMBER: Keys = (("id", ASCENDING), ("sub_id", ASCENDING))
BY_NUMBER_AND_STATE: Keys = (("id", ASCENDING), ("sub_id", ASCENDING), ("state", ASCENDING))
BY_EXCLUSIVE_OUTPUT_DIR: Keys = ((EXCLUSIVE_OUTPUT_DIR, ASCENDING),)
BY_PARENT: Keys = ((PARENT, ASCENDING), (CREATED, ASCENDING))
CHECKSUMS_OF_USER: Keys = (("user", ASCENDING), ("created", DESCENDING), ("id", DESCENDING))
CHECKSUM_SLOT = "slot"
"""The number of a running request for checksums among its user's, which no other one of them has."""
SLOTS_OF_USER: Keys = (("user", ASCENDING), (CHECKSUM_SLOT, ASCENDING))
CHECKSUM_KEY = "idempotency.key"
CHECKSUMS_BY_KEY: Keys = (("user", ASCENDING), (CHECKSUM_KEY, ASCENDING))
CHECKSUM_FILES: Keys = (("id", ASCENDING), ("number", ASCENDING))
RUNNING_CHECKSUMS: Keys = (("created", ASCENDING), ("id", ASCENDING))
# These two are partial: few jobs are uncleaned, or have unsent events. A hint by keys must match one index only, and
# the deployed service may have its own on the time of the update.
UNCLEANED: Keys = ((UPDATED, ASCENDING), ("state", ASCENDING), ("job_input.cluster", ASCENDING))
UNSENT: Keys = ((UNSENT_SINCE, ASCENDING),)


def of_user(keys: Keys) -> Keys:
    """Return the same keys behind the user: the same order among one user's jobs."""
    return (("user", ASCENDING), *keys)


@dataclass(frozen=True)
class Index:
    """An index that the store needs."""

    collection: str
    name: str
    keys: Keys
    options: Mapping[str, Any] = field(default_factory=dict)

    def is_met_by(self, existing: Mapping[str, Any]) -> bool:
        """Return whether an existing index does the same, whatever its name."""
        return tuple(existing["key"]) == self.keys and existing.get(
            "partialFilterExpression"
        ) == self.options.get("partialFilterExpression")


BY_RECORDING: Keys = (
    ("transition_times._recorded_at", ASCENDING),
    ("transition_times.time", ASCENDING),
)
_UNIQUE = {"unique": True}
# Names that begin with cts_ are ours, the others the deployed service's (docs/reference/contract.md §7).
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
    Index("subjobs", "id_1_sub_id_1", BY_NUMBER, _UNIQUE),
    Index("subjobs", "cts_state", BY_NUMBER_AND_STATE),
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
    Index("cts_checksums", "cts_id", BY_ID, _UNIQUE),
    Index("cts_checksums", "cts_user", CHECKSUMS_OF_USER),
    Index(
        "cts_checksums",
        "cts_running",
        RUNNING_CHECKSUMS,
        {"partialFilterExpression": {"state": "running"}},
    ),
    Index(
        "cts_checksums",
        "cts_slot",
        SLOTS_OF_USER,
        {**_UNIQUE, "partialFilterExpression": {CHECKSUM_SLOT: {"$exists": True}}},
    ),
    Index(
        "cts_checksums",
        "cts_idempotency",
        CHECKSUMS_BY_KEY,
        {**_UNIQUE, "partialFilterExpression": {CHECKSUM_KEY: {"$exists": True}}},
    ),
    Index("cts_checksum_files", "cts_number", CHECKSUM_FILES, _UNIQUE),
    Index("cts_worker_tokens", "cts_hash", (("hash", ASCENDING),), _UNIQUE),
    Index("cts_worker_tokens", "cts_until", (("until", ASCENDING),), {"expireAfterSeconds": 0}),
)


def literal(value: object) -> dict[str, Any]:
    """Return a value for a pipeline, in which text that begins with a dollar would otherwise be a field."""
    return {"$literal": value}


async def prepare(db: AsyncDatabase[dict[str, Any]]) -> None:
    """Make the database a record store: add missing indexes, and change nothing that exists.

    Raises ConfigError when a newer version of CTS wrote it, or an index of its own is not unique and must be.
    """
    await _check_version(db)
    for name in sorted({index.collection for index in INDEXES}):
        required = [index for index in INDEXES if index.collection == name]
        await _ensure(db[name], required)


async def upsert(
    collection: AsyncCollection[dict[str, Any]], which: dict[str, Any], update: dict[str, Any]
) -> None:
    """Update a document, or insert it, also when another server inserts it at the same moment."""
    try:
        await collection.update_one(which, update, upsert=True)
    except DuplicateKeyError:
        await collection.update_one(which, update, upsert=True)


async def _check_version(db: AsyncDatabase[dict[str, Any]]) -> None:
    # An upsert even where it exists: a login that may not write fails now.
    schema = {"_id": "schema"}
    await upsert(db["cts_store"], schema, {"$setOnInsert": {"version": VERSION}})
    stored = await db["cts_store"].find_one(schema)
    # A newer version stores the oldest one that may still run, while servers are upgraded one after the other.
    if stored and stored.get("oldest", stored["version"]) > VERSION:
        raise ConfigError(
            f"mongo.db: the database {db.name} was written by a newer CTS (schema {stored['version']}, this one "
            f"knows {VERSION}): upgrade CTS, or choose another database"
        )


async def _ensure(collection: AsyncCollection[dict[str, Any]], required: list[Index]) -> None:
    # MongoDB refuses an index on the same keys with another name or options: check the existing ones first.
    existing = await collection.index_information()
    missing = []
    for index in required:
        same = [name for name, other in existing.items() if index.is_met_by(other)]
        if not same:
            missing.append(index)
        elif index.options.get("unique") and not any(existing[name].get("unique") for name in same):
            raise ConfigError(
                f"mongo.db: the index {same[0]} of the collection {collection.name} in {collection.database.name} "
                "is not unique, as it must be: drop it, and start again"
            )
    if missing:
        await collection.create_indexes(
            [IndexModel(list(index.keys), name=index.name, **index.options) for index in missing]
        )
