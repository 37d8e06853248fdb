"""The logs of containers: their paths in the object store, and reading them on behalf of a user."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cts_core.engine.access import check_owner
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.transitions import check_number
from cts_core.errors import (
    CTSError,
    IllegalParameterError,
    NoLogsError,
    PathNotFoundError,
)
from cts_core.identity.identity import User
from cts_core.model.record import JobSummary
from cts_core.object_paths import FolderPath, ObjectPath
from cts_core.objects.store import ObjectStore
from cts_core.records.store import RecordStore
from cts_core.sites.site import Log, LogStream
from cts_core.states import TERMINAL


def log_path(log_dir: FolderPath, job_id: str, number: int, stream: LogStream) -> ObjectPath:
    """Return the path of the object that holds one log of a container."""
    return log_dir.file(job_id, stream.file_name(number))


class Logs:
    """Reads logs from the site while it has them, then from the object store."""

    def __init__(
        self, store: RecordStore, objects: ObjectStore, sites: SiteDirectory, *, log_dir: FolderPath
    ) -> None:
        self._store = store
        self._objects = objects
        self._sites = sites
        self._log_dir = log_dir

    async def open(
        self,
        user: User,
        job_id: str,
        number: int,
        stream: LogStream,
        *,
        seek: int = 0,
        length: int | None = None,
    ) -> Log:
        """Return a container's log from byte ``seek`` on, in any state of the job.

        Raises NoSuchJobError, UnauthorizedError, IllegalParameterError for a container that the job does not have and for
        a ``seek`` past the end of a finished log, NoLogsError while no byte of the container's output is stored.
        """
        job = check_owner(user, await self._store.get_summary(job_id))
        check_number(job, number, IllegalParameterError)
        log = await self._find_log(job, number, stream, seek, length)
        if log is None or log.size == 0:
            (other,) = set(LogStream) - {stream}
            other_log = await self._find_log(job, number, other, 0, 1)
            if other_log is None or other_log.size == 0:
                raise NoLogsError(f"Job ID {job_id} has no logs available")
            log = log or Log(size=0, ended=job.state in TERMINAL, body=_empty())
        if seek and log.ended and seek >= log.size:
            raise IllegalParameterError(f"Cannot seek to byte {seek}: the log has {log.size} bytes")
        return log

    async def tail(
        self, user: User, job_id: str, number: int, stream: LogStream, length: int
    ) -> tuple[int, bytes]:
        """Return the size of a container's log in bytes, and its last ``length`` bytes. Raises what ``open`` raises."""
        size = (await self.open(user, job_id, number, stream, length=1)).size
        if size == 0:
            return 0, b""
        log = await self.open(
            user, job_id, number, stream, seek=max(size - length, 0), length=length
        )
        return size, b"".join([piece async for piece in log.body])

    async def _find_log(
        self, job: JobSummary, number: int, stream: LogStream, seek: int, length: int | None
    ) -> Log | None:
        site = self._sites.find(job.cluster)
        if site is not None:
            log = await site.open_log(job.id, number, stream, seek=seek, length=length)
            if log is not None:
                return log
        # While a container runs, its worker uploads the log so far again and again.
        container = await self._store.container(job.id, number)
        path = log_path(self._log_dir, job.id, number, stream)
        (stored,) = await self._objects.head([path])
        if isinstance(stored, PathNotFoundError):
            return None
        if isinstance(stored, CTSError):
            raise stored
        return Log(
            size=stored.size,
            ended=job.state in TERMINAL or container.state in TERMINAL,
            body=self._objects.read(path, seek=seek, length=length),
        )


async def _empty() -> AsyncIterator[bytes]:
    return
    yield b""  # makes this a generator
