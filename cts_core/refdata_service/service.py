"""The service that stages reference data for the site ``kbase``, on a machine whose disk the nodes mount.

CTS asks for reference data; it is claimed there, staged, and its end reported there. What was asked for is kept in
files until CTS has taken the report: kill the service anywhere, start it again, and every staging goes on.
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
from cts_core.engine import adapters
from cts_core.engine.health import (
    Health,
    MonitoredDependency,
    identity_dependency,
    object_store_dependency,
)
from cts_core.engine.instrument import IDENTITY, OBJECTS, instrument
from cts_core.engine.metrics import Metrics
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
from cts_core.refdata.folders import RefdataFolders
from cts_core.refdata.stager import Stager
from cts_core.refdata_service.cts_client import CLUSTER, TaskService, WantedRefdata
from cts_core.refdata_service.pending import AskedFiles
from cts_core.version import VERSION, git_hash
from cts_core.worker.archives import Limits

log = logging.getLogger(__name__)

MAX_ASKED = 1000
"""Reference data that wait to be staged or reported; who asks for more is told to come again."""
LOOK_SECONDS = 1.0
"""Between looks at what is under way."""
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 2.0, 120.0
"""Seconds between tries while CTS is away; they double from the first to the longest."""
TASK_SERVICE = "cts"
"""CTS among the dependencies."""
_STAGING, _ASKED = ".cts-staging", ".cts-asked"
"""Folders beside the data: no id begins with a dot."""


class RefdataService:
    """``start`` and ``stop`` it on the event loop that uses it."""

    def __init__(
        self, settings: Settings, *, identity: Identity, objects: ObjectStore, cts: TaskService
    ) -> None:
        self.settings = settings
        self._metrics = Metrics(preset=settings.preset.value, group=settings.group)
        self._health = Health(
            [
                object_store_dependency(settings, objects),
                identity_dependency(identity),
                MonitoredDependency(TASK_SERVICE, cts.check, is_needed=False),
            ]
        )
        listeners = (self._health, self._metrics)
        self.identity = instrument(identity, IDENTITY, *listeners)
        self._objects = instrument(objects, OBJECTS, *listeners)
        self._cts = instrument(cts, TASK_SERVICE, *listeners)
        chosen = settings.refdata
        data = Path(chosen.local_path)
        self._folders = RefdataFolders(
            data=data, meta=Path(chosen.metadata_path), staging=data / _STAGING
        )
        self._files = AskedFiles(data / _ASKED)
        limits = Limits(bytes=chosen.max_bytes, entries=chosen.max_entries, free=chosen.min_free)
        self._stager = Stager(self._folders, limits, self._objects)
        self._asked: dict[str, WantedRefdata] = {}
        self._claimed: set[str] = set()
        """Of those, the ones that CTS knows we have begun."""
        self._taking: dict[str, asyncio.Task[None]] = {}
        self._backoff = KeyedBackoff(Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS))
        self._wake = asyncio.Event()
        self._running = AsyncExitStack()

    @classmethod
    def from_settings(cls, settings: Settings, identity: Identity) -> Self:
        """A service on the adapters that the settings name."""
        return cls(
            settings,
            identity=identity,
            objects=adapters.object_store(settings),
            cts=TaskService(settings.refdata),
        )

    async def start(self) -> None:
        """Take up everything where it is. Raises ConfigError, leaving nothing open."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._cts.close)
            stack.push_async_callback(self.identity.close)
            await self.identity.open()
            await self._check_token()
            await self._objects.open()
            stack.push_async_callback(self._objects.close)
            try:
                await asyncio.to_thread(self._folders.make)
                found = await asyncio.to_thread(lambda: list(self._files.read()))
            except (OSError, ValueError) as e:
                raise ConfigError(
                    f"refdata.local_path, refdata.metadata_path: they cannot be used: {e}"
                ) from e
            self._asked = {refdata.id: refdata for refdata in found}
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
        """Stop; the next start finds what is under way."""
        await self._running.aclose()

    async def _stop(self, task: asyncio.Task[None]) -> None:
        tasks = [task, *self._taking.values()]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What is asked.

    async def ask(self, refdata_id: str, cluster: SiteName) -> None:
        """Begin to stage it, unless that was begun.

        Raises UnsupportedError, NoSuchRefdataError, RefdataStateError and UnavailableError.
        """
        if cluster is not CLUSTER:
            raise UnsupportedError(
                f"Reference data is staged here for the site {CLUSTER.value}, not for {cluster.value}"
            )
        if refdata_id in self._asked:
            return
        taking = self._taking.get(refdata_id)
        if taking is None:
            if len(self._asked) + len(self._taking) >= MAX_ASKED:
                raise UnavailableError(
                    f"{MAX_ASKED} reference data wait here already: ask again later"
                )
            taking = asyncio.create_task(self._take(refdata_id), name=f"take-{refdata_id}")
            self._taking[refdata_id] = taking
            taking.add_done_callback(lambda _: self._taking.pop(refdata_id, None))
        # It is not one request's own, which may be canceled.
        await asyncio.shield(taking)

    async def _take(self, refdata_id: str) -> None:
        refdata = await self._cts.find(refdata_id)
        if refdata.has_ended:
            return
        # How it failed before, if it did, counts no more.
        await self._stager.clean(refdata_id)
        try:
            await asyncio.to_thread(self._files.add, refdata)
        except OSError as e:
            raise UnavailableError(f"What was asked for cannot be kept: {e}") from e
        try:
            await self._cts.update(refdata_id, ReferenceDataState.DOWNLOAD_SUBMITTED)
        except CTSError:
            await asyncio.to_thread(self._files.remove, refdata_id)
            raise
        log.info("Reference data %s (%s) is to be staged", refdata_id, refdata.file)
        self._claimed.add(refdata_id)
        self._asked[refdata_id] = refdata
        self._wake.set()

    async def describe(self, refdata_id: str) -> StagedRefdata:
        """How far it is. Raises UnavailableError."""
        try:
            files = await asyncio.to_thread(self._list_files, refdata_id)
        except (OSError, ValueError, TypeError) as e:
            raise UnavailableError(f"The sums of {refdata_id} cannot be read: {e}") from e
        if files is not None:
            return StagedRefdata(status=StagingStatus.DONE, files=files)
        if refdata_id in self._asked:
            why = self._backoff.reason(refdata_id) or self._stager.why_waits(refdata_id)
            return StagedRefdata(status=StagingStatus.STAGING, waits_for=why)
        return StagedRefdata(status=StagingStatus.NONE)

    def _list_files(self, refdata_id: str) -> list[StagedFile] | None:
        sums = self._folders.sums(refdata_id)
        if sums is None:
            return None
        return [StagedFile(path=p, md5=s.md5, size=s.size) for p, s in sorted(sums.items())]

    # What is done.

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            for refdata in list(self._asked.values()):
                if self._backoff.is_due(refdata.id):
                    await self._go_on(refdata)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self._asked else None):
                    await self._wake.wait()

    async def _go_on(self, refdata: WantedRefdata) -> None:
        try:
            if await self._is_settled(refdata):
                await self._forget(refdata.id)
        except Exception as e:  # what nobody foresaw must not end the service's work
            delay = self._backoff.fail(refdata.id, str(e))
            trace = None if isinstance(e, CTSError | OSError) else e
            told = "Reference data %s waits and is tried again in %d s: %s"
            log.warning(told, refdata.id, delay, e, exc_info=trace)
        else:
            self._backoff.reset(refdata.id)

    async def _is_settled(self, refdata: WantedRefdata) -> bool:
        """Whether CTS knows how it ended, or wants to know nothing of it."""
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
        """After a restart, which may have come before CTS had heard of it."""
        # CTS may know it: how far it is there is seen at its end.
        with contextlib.suppress(RefdataStateError):
            await self._cts.update(refdata_id, ReferenceDataState.DOWNLOAD_SUBMITTED)
        self._claimed.add(refdata_id)

    async def _forget(self, refdata_id: str) -> None:
        await asyncio.to_thread(self._files.remove, refdata_id)
        await self._stager.clean(refdata_id)
        self._asked.pop(refdata_id)
        self._claimed.discard(refdata_id)

    # What a front asks of it, as of an engine.

    def root(self) -> Root:
        """What the service says of itself."""
        return Root(
            service_name=REFDATA_SERVICE_NAME,
            version=VERSION,
            git_hash=git_hash(),
            server_time=utc_now(),
            notes="CTS for Jupyter, staging reference data",
        )

    async def readiness(self) -> Readiness:
        """Whether each of the service's dependencies can be used."""
        return await self._health.readiness()

    async def metrics(self) -> bytes:
        """The figures of this process, in Prometheus' text format."""
        await self._health.readiness()
        return await self._metrics.text(None, self._health.states())

    def on_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A front has answered a request to this route of its table, after so long."""
        self._metrics.on_request(method, route, status, seconds)
