"""The service that stages reference data for the site ``kbase``, on a machine whose disk the nodes mount.

CTS requests reference data; the service claims it at CTS, stages it, and reports the end to CTS. Requests are kept in
files until CTS has accepted the report: kill the service at any point, start it again, and every staging goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from cts_core.backoff import Backoff, KeyedBackoff
from cts_core.clock import utc_now
from cts_core.config.settings import Settings
from cts_core.errors import (
    AuthenticationError,
    ConfigError,
    CTSError,
    NoSuchRefdataError,
    RefdataStateError,
    UnavailableError,
    UnsupportedError,
)
from cts_core.identity.identity import Credentials, Identity, Role
from cts_core.model.refdata import (
    ENDED,
    ReferenceDataState,
    StagedFile,
    StagedRefdata,
    StagingStatus,
)
from cts_core.model.service import REFDATA_SERVICE_NAME, Readiness, Root
from cts_core.model.site import SiteName
from cts_core.objects.store import ObjectStore
from cts_core.observability.health import (
    Health,
    MonitoredDependency,
    identity_dependency,
    object_store_dependency,
)
from cts_core.observability.instrument import IDENTITY, OBJECTS, instrument
from cts_core.observability.metrics import Metrics
from cts_core.refdata.folders import RefdataFolders
from cts_core.refdata.stager import Stager
from cts_core.refdata_service.cts_client import CLUSTER, CTSUpdates, RequestedRefdata
from cts_core.refdata_service.pending import PendingRequests
from cts_core.version import VERSION, git_hash
from cts_core.worker.archives import Limits

log = logging.getLogger(__name__)

MAX_PENDING = 1000
"""Requests that may be pending; further ones are refused until later."""
CYCLE_SECONDS = 1.0
"""Between cycles over the pending requests."""
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 2.0, 120.0
"""Delays between retries while CTS is down; they double."""
CTS_DEPENDENCY = "cts"
"""The name of CTS among the dependencies."""
_STAGING_FOLDER, _PENDING_FOLDER = ".cts-staging", ".cts-asked"
"""Folders beside the data: no id begins with a dot."""


class RefdataService:
    """The service without its front end. Call ``start`` and ``stop`` on the event loop that uses it."""

    def __init__(
        self, settings: Settings, *, identity: Identity, objects: ObjectStore, cts: CTSUpdates
    ) -> None:
        self.settings = settings
        self._metrics = Metrics(preset=settings.preset.value, group=settings.group)
        self._health = Health(
            [
                object_store_dependency(settings, objects),
                identity_dependency(identity),
                MonitoredDependency(CTS_DEPENDENCY, cts.check, is_needed=False),
            ]
        )
        listeners = (self._health, self._metrics)
        self.identity = instrument(identity, IDENTITY, *listeners)
        self._objects = instrument(objects, OBJECTS, *listeners)
        self._cts = instrument(cts, CTS_DEPENDENCY, *listeners)
        section = settings.refdata
        data = Path(section.local_path)
        self._folders = RefdataFolders(
            data=data, meta=Path(section.metadata_path), staging=data / _STAGING_FOLDER
        )
        self._requests = PendingRequests(data / _PENDING_FOLDER)
        limits = Limits(bytes=section.max_bytes, entries=section.max_entries, free=section.min_free)
        self._stager = Stager(self._folders, limits, self._objects)
        self._pending: dict[str, RequestedRefdata] = {}
        self._claimed: set[str] = set()
        """Pending requests that were claimed at CTS."""
        self._accepting: dict[str, asyncio.Task[None]] = {}
        self._backoff = KeyedBackoff(Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS))
        self._wake = asyncio.Event()
        self._running = AsyncExitStack()

    @classmethod
    def from_settings(cls, settings: Settings, identity: Identity, objects: ObjectStore) -> Self:
        """Return a service that stages for the CTS that the settings name."""
        return cls(
            settings,
            identity=identity,
            objects=objects,
            cts=CTSUpdates(settings.refdata),
        )

    async def start(self) -> None:
        """Resume all pending requests. Raises ConfigError, and leaves nothing open then."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._cts.close)
            stack.push_async_callback(self.identity.close)
            await self.identity.open()
            await self._check_token()
            await self._objects.open()
            stack.push_async_callback(self._objects.close)
            try:
                await asyncio.to_thread(self._folders.make)
                pending = await asyncio.to_thread(lambda: list(self._requests.read()))
            except (OSError, ValueError) as e:
                raise ConfigError(
                    f"refdata.local_path, refdata.metadata_path: they cannot be used: {e}"
                ) from e
            self._pending = {refdata.id: refdata for refdata in pending}
            stack.push_async_callback(self._stager.close)
            task = asyncio.create_task(self._run(), name="refdata-service")
            stack.push_async_callback(self._stop, task)
            self._running = stack.pop_all()

    async def _check_token(self) -> None:
        token = self.settings.refdata.cts_token.get_secret_value()
        try:
            user = await self.identity.identify(Credentials(f"Bearer {token}"))
        except UnavailableError as e:
            log.warning("Whether refdata.cts_token is good is not known: %s", e)
        except AuthenticationError as e:
            raise ConfigError(f"refdata.cts_token: KBase's auth service refuses it: {e}") from e
        else:
            if Role.REFDATA_SERVICE not in user.roles:
                raise ConfigError(
                    f"refdata.cts_token: its user {user.name} lacks the role {self.settings.kbase.refdata_role}, "
                    "without which CTS takes no reports"
                )

    async def stop(self) -> None:
        """Stop; the next start resumes the pending requests."""
        await self._running.aclose()

    async def _stop(self, task: asyncio.Task[None]) -> None:
        tasks = [task, *self._accepting.values()]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Requests of CTS.

    async def request(self, refdata_id: str, site: SiteName) -> None:
        """Accept a request to stage reference data, unless it is pending already.

        Raises UnsupportedError, NoSuchRefdataError, RefdataStateError and UnavailableError.
        """
        if site is not CLUSTER:
            raise UnsupportedError(
                f"Reference data is staged here for the site {CLUSTER.value}, not for {site.value}"
            )
        if refdata_id in self._pending:
            return
        accepting = self._accepting.get(refdata_id)
        if accepting is None:
            if len(self._pending) + len(self._accepting) >= MAX_PENDING:
                raise UnavailableError(
                    f"{MAX_PENDING} reference data wait here already: ask again later"
                )
            accepting = asyncio.create_task(self._accept(refdata_id), name=f"accept-{refdata_id}")
            self._accepting[refdata_id] = accepting
            accepting.add_done_callback(lambda _: self._accepting.pop(refdata_id, None))
        # A cancelled request must not cancel this, which others may await.
        await asyncio.shield(accepting)

    async def _accept(self, refdata_id: str) -> None:
        refdata = await self._cts.find(refdata_id)
        if refdata.has_ended:
            return
        # An earlier failure does not count any more.
        await self._stager.clean(refdata_id)
        try:
            await asyncio.to_thread(self._requests.add, refdata)
        except OSError as e:
            raise UnavailableError(f"What was asked for cannot be kept: {e}") from e
        try:
            await self._cts.update(refdata_id, ReferenceDataState.DOWNLOAD_SUBMITTED)
        except CTSError:
            await asyncio.to_thread(self._requests.remove, refdata_id)
            raise
        log.info("Reference data %s (%s) is to be staged", refdata_id, refdata.file)
        self._claimed.add(refdata_id)
        self._pending[refdata_id] = refdata
        self._wake.set()

    async def describe(self, refdata_id: str) -> StagedRefdata:
        """Return the state of a staging. Raises UnavailableError."""
        try:
            files = await asyncio.to_thread(self._list_files, refdata_id)
        except (OSError, ValueError, TypeError) as e:
            raise UnavailableError(f"The sums of {refdata_id} cannot be read: {e}") from e
        if files is not None:
            return StagedRefdata(status=StagingStatus.DONE, files=files)
        if refdata_id in self._pending:
            why = self._backoff.reason(refdata_id) or self._stager.why_waits(refdata_id)
            return StagedRefdata(status=StagingStatus.STAGING, waits_for=why)
        return StagedRefdata(status=StagingStatus.NONE)

    def _list_files(self, refdata_id: str) -> list[StagedFile] | None:
        sums = self._folders.sums(refdata_id)
        if sums is None:
            return None
        return [StagedFile(path=p, md5=s.md5, size=s.size) for p, s in sorted(sums.items())]

    # Staging.

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            for refdata in list(self._pending.values()):
                if self._backoff.is_due(refdata.id):
                    await self._advance(refdata)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CYCLE_SECONDS if self._pending else None):
                    await self._wake.wait()

    async def _advance(self, refdata: RequestedRefdata) -> None:
        try:
            if await self._is_finished(refdata):
                await self._remove(refdata.id)
        except Exception as e:  # unexpected errors must not stop the service
            delay = self._backoff.fail(refdata.id, str(e))
            trace = None if isinstance(e, CTSError | OSError) else e
            message = "Reference data %s waits and is tried again in %d s: %s"
            log.warning(message, refdata.id, delay, e, exc_info=trace)
        else:
            self._backoff.reset(refdata.id)

    async def _is_finished(self, refdata: RequestedRefdata) -> bool:
        """Stage it; return whether CTS has accepted the report of its end, or refuses reports."""
        try:
            if refdata.id not in self._claimed:
                await self._claim_again(refdata.id)
            report = await self._stager.stage(refdata)
            if report.state not in ENDED:
                return False
            await self._cts.update(refdata.id, report.state, report.error)
        except (NoSuchRefdataError, RefdataStateError, UnsupportedError) as e:
            log.warning("Reference data %s is given up, as CTS does not want it: %s", refdata.id, e)
        else:
            log.info("Reference data %s: %s", refdata.id, report.error or report.state.value)
        return True

    async def _claim_again(self, refdata_id: str) -> None:
        """Repeat the claim after a restart, which may have interrupted the first one."""
        # CTS may have recorded the claim: its state there matters only at the end.
        with contextlib.suppress(RefdataStateError):
            await self._cts.update(refdata_id, ReferenceDataState.DOWNLOAD_SUBMITTED)
        self._claimed.add(refdata_id)

    async def _remove(self, refdata_id: str) -> None:
        await asyncio.to_thread(self._requests.remove, refdata_id)
        await self._stager.clean(refdata_id)
        self._pending.pop(refdata_id)
        self._claimed.discard(refdata_id)

    # The interface for the front end, as that of an engine.

    def root(self) -> Root:
        """Return the service's self-description."""
        return Root(
            service_name=REFDATA_SERVICE_NAME,
            version=VERSION,
            git_hash=git_hash(),
            server_time=utc_now(),
            notes="CTS for Jupyter, staging reference data",
        )

    async def readiness(self) -> Readiness:
        """Return the state of each of the service's dependencies."""
        return await self._health.readiness()

    async def metrics(self) -> bytes:
        """Return the metrics of this process, in Prometheus' text format."""
        await self._health.readiness()
        return await self._metrics.text(None, self._health.states())

    def on_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request to a route of the front end's table; ``seconds`` is its duration."""
        self._metrics.on_request(method, route, status, seconds)
