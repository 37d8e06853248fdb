"""The connection to MongoDB: one client with a bounded pool, and threads that parse documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pymongo
from bson import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidName,
    OperationFailure,
    PyMongoError,
)

from cts_core.concurrency import run_in_pool
from cts_core.config.sections import MongoSettings
from cts_core.errors import ConfigError, RecordTooLargeError, StorageFullError, UnavailableError
from cts_core.records.errors import records_closed, too_many_waiting
from cts_core.records.mongo import condition_wait
from cts_core.records.mongo.documents import RAW_CODEC
from cts_core.records.mongo.schema import prepare
from cts_core.worker.files import says_full

SMALL = 16 << 10
"""Bytes of documents that are converted in less time than their way to a thread and back takes."""
POOL = 50
"""The most connections to each server."""
MAX_WAITING = 10_000
"""Operations that may wait; more are refused."""
PREPARE_SECONDS = 900.0
"""Time limit of creating the indexes: on a database with millions of jobs that takes minutes, once."""
OLDEST = (5, 0)
"""The first version of MongoDB that has every feature in use."""

_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
_TOO_LARGE = (10334, 17419, 17420)
_OUT_OF_DISK_SPACE = 14031
_PROGRAMMING_ERRORS = (2, 9, 14, 28, 40, 52, 56, 66)
"""Codes of invalid requests, raised as they are: a retry would not help."""

_T = TypeVar("_T")
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)


@dataclass(frozen=True)
class Collections:
    """The collections of the store. Jobs, containers, and what became of objects may be large, or many: they are read as raw BSON and parsed in a thread."""

    jobs: AsyncCollection[RawBSONDocument]
    subjobs: AsyncCollection[RawBSONDocument]
    exitcodes: AsyncCollection[dict[str, Any]]
    images: AsyncCollection[dict[str, Any]]
    refdata: AsyncCollection[dict[str, Any]]
    sites: AsyncCollection[dict[str, Any]]
    users: AsyncCollection[dict[str, Any]]
    tokens: AsyncCollection[dict[str, Any]]
    checksums: AsyncCollection[dict[str, Any]]
    checksum_files: AsyncCollection[RawBSONDocument]
    store: AsyncCollection[dict[str, Any]]

    @classmethod
    def of(cls, db: AsyncDatabase[dict[str, Any]]) -> Collections:
        """Return the collections of a database."""
        raw = db.with_options(codec_options=RAW_CODEC)
        return cls(
            jobs=raw["jobs"],
            subjobs=raw["subjobs"],
            exitcodes=db["exitcodes"],
            images=db["images"],
            refdata=db["refdata"],
            sites=db["sites"],
            users=db["cts_users"],
            tokens=db["cts_worker_tokens"],
            checksums=db["cts_checksums"],
            checksum_files=raw["cts_checksum_files"],
            store=db["cts_store"],
        )

    async def now(self) -> datetime:
        """Return the time by MongoDB's clock, which is that of ``$$NOW``."""
        hello = await self.sites.database.command("hello", codec_options=_CODEC)
        time: datetime = hello["localTime"]
        return time

    async def parse(
        self, function: Callable[[Sequence[RawBSONDocument]], _T], found: Sequence[RawBSONDocument]
    ) -> _T:
        """Return what a function makes of these documents; it is called in a thread if they are large."""
        return await self.convert(sum(len(each.raw) for each in found), lambda: function(found))

    async def convert(self, size: int, function: Callable[[], _T]) -> _T:
        """Return the result of a function that reads or makes documents of about so many bytes; it is called in a thread if they are large."""
        if size <= SMALL:
            return function()
        return await run_in_pool(function)


class Connection:
    """A client that is usable between ``open`` and ``close``."""

    def __init__(self, settings: MongoSettings) -> None:
        self._settings = settings
        self._client: AsyncMongoClient[dict[str, Any]] | None = None
        self._collections: Collections | None = None
        self._waiting = 0
        self._is_idle = asyncio.Event()

    async def open(self) -> None:
        """Connect, and make the database a record store. Raises ConfigError, UnavailableError."""
        condition_wait.install()
        try:
            self._client = await self._connect()
            database = self._database(self._client)
            with pymongo.timeout(PREPARE_SECONDS):
                await prepare(database)
            self._collections = Collections.of(database)
        except BaseException as e:
            await self.close()
            if isinstance(e, PyMongoError):
                raise self._translate_at_open(e) from e
            raise

    async def close(self) -> None:
        """Finish the operations that wait, then close every connection."""
        client, self._client, self._collections = self._client, None, None
        while self._waiting:
            self._is_idle.clear()
            await self._is_idle.wait()
        if client is not None:
            await client.close()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Collections]:
        """Provide the collections for one operation. Raises UnavailableError, RecordTooLargeError.

        A cancellation inside it takes effect at its end: before Python 3.12 ``asyncio.wait_for``, by which pymongo
        sends, may lose it.
        """
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        if (collections := self._collections) is None:
            raise records_closed()
        if self._waiting >= MAX_WAITING:
            raise too_many_waiting()
        self._waiting += 1
        try:
            yield collections
        except DocumentTooLarge as e:
            # Raised before anything is sent, and not a PyMongoError.
            raise too_large() from e
        except PyMongoError as e:
            error = self._translate(e)
            if error is e:
                raise
            raise error from e
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._is_idle.set()
            if task and task.cancelling() > cancels:
                raise asyncio.CancelledError

    async def _connect(self) -> AsyncMongoClient[dict[str, Any]]:
        # The settings lack the database in which the user is defined: KBase's is the same one, others' is often admin.
        url = self._settings.host.lower()
        sources = (self._settings.db, "admin") if self._settings.user else (None,)
        if "authsource=" in url:
            sources = (None,)
        for source in sources[:-1]:
            try:
                return await self._log_in(source)
            except OperationFailure as e:
                if e.code != _AUTHENTICATION_FAILED:
                    raise
        return await self._log_in(sources[-1])

    async def _log_in(self, auth_source: str | None) -> AsyncMongoClient[dict[str, Any]]:
        milliseconds = int(self._settings.timeout_s * 1000)
        login: dict[str, Any] = {}
        if self._settings.user:
            login["username"] = self._settings.user
            login["password"] = self._settings.password.get_secret_value()
        if auth_source:
            login["authSource"] = auth_source
        try:
            client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
                self._settings.host,
                appname="cts",
                maxPoolSize=POOL,
                retryWrites=self._settings.retry_writes,
                timeoutMS=milliseconds,
                serverSelectionTimeoutMS=milliseconds,
                connectTimeoutMS=milliseconds,
                **login,
            )
        except (ConfigurationError, ValueError) as e:
            raise ConfigError(f"mongo.host: '{self._settings.host}' cannot be used: {e}") from e
        try:
            version = (await client.server_info())["versionArray"]
            # A ping needs no rights on the database, so that it checks the login alone.
            await client.admin.command("ping")
        except BaseException:
            await client.close()
            raise
        if tuple(version[:2]) < OLDEST:
            await client.close()
            raise ConfigError(
                f"mongo.host: MongoDB {'.'.join(map(str, version[:3]))} at {self._settings.host} is too old: "
                f"{'.'.join(map(str, OLDEST))} or later is needed"
            )
        return client

    def _database(self, client: AsyncMongoClient[dict[str, Any]]) -> AsyncDatabase[dict[str, Any]]:
        # A majority: a write that has returned survives the election of another primary.
        return client.get_database(
            self._settings.db, codec_options=_CODEC, write_concern=WriteConcern("majority", j=True)
        )

    def _translate_at_open(self, error: PyMongoError) -> Exception:
        host, db, user = self._settings.host, self._settings.db, self._settings.user
        if isinstance(error, InvalidName):
            return ConfigError(f"mongo.db: '{db}' cannot be the name of a database")
        if isinstance(error, OperationFailure):
            if error.code == _AUTHENTICATION_FAILED:
                return ConfigError(
                    f"mongo.user, mongo.password: MongoDB at {host} refuses the login of user '{user}'"
                )
            if error.code == _UNAUTHORIZED:
                who = f"user '{user}' has" if user else "there is no mongo.user, and others have"
                return ConfigError(
                    f"mongo.user: {who} no right to read, write and index the database {db} at {host}"
                )
        if isinstance(error, ConnectionFailure):
            return UnavailableError(f"mongo.host: MongoDB at {host} cannot be reached: {error}")
        return self._translate(error)

    def _translate(self, error: PyMongoError) -> Exception:
        if isinstance(error, DuplicateKeyError):
            return error
        if _code(error) in _TOO_LARGE:
            return too_large()
        if _code(error) in _PROGRAMMING_ERRORS:
            return error
        reason = _reason(error)
        if _code(error) == _OUT_OF_DISK_SPACE or says_full(reason):
            return StorageFullError(
                f"MongoDB at {self._settings.host}, which keeps the job records, has no space left: free some and try "
                "again"
            )
        return UnavailableError(
            f"The job records on MongoDB at {self._settings.host} cannot be used now: {reason}"
        )


def too_large() -> RecordTooLargeError:
    """Return the error for a job that is larger than a document may be."""
    return RecordTooLargeError(
        "The job is larger than MongoDB can keep (16 MiB, its files included): give it fewer files, or shorter "
        "paths"
    )


def _reason(error: PyMongoError) -> str:
    """Return the message of the server, without its whole reply."""
    reply = error.details if isinstance(error, OperationFailure) else None
    return str((reply or {}).get("errmsg") or error)


def _code(error: PyMongoError) -> int | None:
    return error.code if isinstance(error, OperationFailure) else None
