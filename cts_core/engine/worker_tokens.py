"""What workers elsewhere are given: a token for each container, and the code that they run."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

from pydantic import SecretStr

from cts_core.clock import utc_now
from cts_core.errors import CTSError, NotFoundError, PathNotFoundError
from cts_core.model.record import JobSummary
from cts_core.model.worker import ContainerId
from cts_core.object_paths import join_path
from cts_core.objects.store import ObjectStore
from cts_core.records.store import RecordStore

PREFIX = "cts-worker."
"""Begins our tokens, so that nobody takes them for another's; the rest is random."""
LIFETIME = timedelta(days=30)
"""As long as a container may wait in a queue, and run; its token ends with its job."""
MAX_KEPT = 20_000
"""Tokens of the latest starts that are kept here for the next try, as a pool may be full for long."""
_FOLDER = "cts-worker"
"""Below the folder of logs, where no user writes."""
_NAME = re.compile(r"cts-worker-[0-9a-f]{16}\.(sh|tgz)")


def hash_of(token: str) -> str:
    """By what the records know a token. It is random and long: no salt makes it harder to guess."""
    return hashlib.sha256(token.encode()).hexdigest()


class WorkerSupply:
    """Keeps every version of the workers' code, as a container that waits needs that of its submission."""

    def __init__(self, store: RecordStore, objects: ObjectStore, *, log_dir: str) -> None:
        self._store = store
        self._objects = objects
        self._folder = join_path(log_dir, _FOLDER)
        self._issued: OrderedDict[str, list[SecretStr]] = OrderedDict()

    async def issue(self, job: JobSummary) -> list[SecretStr]:
        """A token for each container of a job, by number; the same again while they are kept. Raises NoSuchJobError."""
        if job.id in self._issued:
            return self._issued[job.id]
        count = job.job_input.num_containers
        tokens = [PREFIX + secrets.token_urlsafe(32) for _ in range(count)]
        now = utc_now()
        numbers = {hash_of(token): number for number, token in enumerate(tokens)}
        await self._store.add_worker_tokens(job.id, numbers, now=now, until=now + LIFETIME)
        issued = self._issued[job.id] = [SecretStr(token) for token in tokens]
        while sum(map(len, self._issued.values())) > MAX_KEPT:
            self._issued.popitem(last=False)
        return issued

    async def find(self, token: str) -> ContainerId | None:
        """The container that a token stands for, while its job lives."""
        return await self._store.find_worker_token(hash_of(token), now=utc_now())

    async def holders(self, job_id: str) -> dict[int, str]:
        """By number, the processes that have claimed containers of a job."""
        claims = await self._store.claims(job_id)
        return {number: claim.process for number, claim in claims.items()}

    async def publish(self, files: Mapping[str, bytes]) -> None:
        """Have these files, whose names say what is in them, to be read. Raises what the object store raises."""
        found = await self._objects.head([self._path(name) for name in files])
        for (name, content), known in zip(files.items(), found, strict=True):
            # It may have gone since the last time: logs are often removed by their age.
            if isinstance(known, PathNotFoundError):
                await self._objects.write(self._path(name), _whole(content))
            elif isinstance(known, CTSError):
                raise known

    async def open(self, name: str) -> tuple[int, AsyncIterator[bytes]]:
        """The size in bytes and the content of a published file. Raises NotFoundError, UnavailableError."""
        unknown = f"This service has no file '{name}' for workers"
        if not _NAME.fullmatch(name):
            raise NotFoundError(unknown)
        (known,) = await self._objects.head([self._path(name)])
        if isinstance(known, PathNotFoundError):
            raise NotFoundError(unknown) from known
        if isinstance(known, CTSError):
            raise known
        return known.size, self._objects.read(self._path(name))

    def _path(self, name: str) -> str:
        return join_path(self._folder, name)


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
