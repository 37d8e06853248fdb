"""The engine: wires adapters to ports and parts to each other, and starts and stops them in order."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Self

from cts_core.clock import utc_now
from cts_core.concurrency import cancel_and_wait
from cts_core.config.settings import Settings
from cts_core.engine import adapters
from cts_core.engine.access import PathAccess
from cts_core.engine.admin import AdminJobs
from cts_core.engine.checksums import Checksums
from cts_core.engine.cleaner import Cleaner
from cts_core.engine.driver import Driver
from cts_core.engine.files import Files
from cts_core.engine.images import Images
from cts_core.engine.jobs import Jobs
from cts_core.engine.limits import Limits
from cts_core.engine.logs import Logs
from cts_core.engine.outputs import Outputs
from cts_core.engine.reaper import Reaper
from cts_core.engine.refdata import Refdata
from cts_core.engine.refdata_staging import RefdataStaging
from cts_core.engine.resubmit import Resubmissions
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.submit import Submissions
from cts_core.engine.updates import ContainerUpdates
from cts_core.engine.why import Explanations
from cts_core.engine.worker_code import WorkerCode
from cts_core.engine.worker_tokens import WorkerTokens
from cts_core.engine.workers import Workers
from cts_core.errors import ConfigError, CTSError, StorageFullError
from cts_core.events.hub import Hub
from cts_core.events.outbox import Outbox
from cts_core.events.publisher import HubFirst, Topic
from cts_core.identity.identity import Identity, User
from cts_core.images.source import ImageSource
from cts_core.model.service import (
    SERVICE_NAME,
    AllowedPath,
    CTSRole,
    PathPermission,
    Readiness,
    Root,
    WhoAmI,
)
from cts_core.model.site import SiteName
from cts_core.objects.store import ObjectStore
from cts_core.observability.clock import CHECK_SECONDS, ClockCheck
from cts_core.observability.health import (
    Health,
    client_warnings,
    clients_of,
    engine_dependencies,
)
from cts_core.observability.instrument import (
    CLOCK,
    EVENTS,
    IDENTITY,
    OBJECTS,
    RECORDS,
    instrument,
    site_name,
)
from cts_core.observability.metrics import Metrics
from cts_core.records.store import RecordStore
from cts_core.sites.null import NullSite
from cts_core.sites.site import Site
from cts_core.version import VERSION, git_hash

log = logging.getLogger(__name__)


class Engine:
    """All of CTS without a front end. Call ``start`` and ``stop`` on the event loop that uses it."""

    def __init__(
        self,
        settings: Settings,
        *,
        identity: Identity,
        store: RecordStore,
        objects: ObjectStore,
        registries: ImageSource,
        sites: Mapping[SiteName, Site],
        topic: Topic | None = None,
    ) -> None:
        self.settings = settings
        self._metrics = Metrics(preset=settings.preset.value, group=settings.group)
        self._clock = ClockCheck(store)
        self._metrics.add_clock(self._clock)
        # SQLite's clock is this machine's own.
        self._watches_clock = settings.records == "mongo"
        self._health = Health(
            engine_dependencies(
                settings,
                identity,
                store,
                objects,
                sites,
                topic=topic,
                clock=self._clock if self._watches_clock else None,
            ),
            self._warnings,
        )
        self.clients = functools.partial(clients_of, sites)
        """Returns the clients by which sites are used, by site, as far as they are known."""
        self._metrics.add_client_metrics(self.clients)
        listeners = (self._health, self._metrics)
        self.identity = identity = instrument(identity, IDENTITY, *listeners)
        self._store = store = instrument(store, RECORDS, *listeners)
        self._objects = objects = instrument(objects, OBJECTS, *listeners)
        sites = {c: instrument(site, site_name(c), *listeners) for c, site in sites.items()}
        self._access = PathAccess(settings.allowed_paths, settings.log_folder)
        self.hub = Hub(store, settings.limits)
        self._topic = topic
        publisher = HubFirst(self.hub, topic) if topic else self.hub
        self._outbox = Outbox(
            store,
            instrument(publisher, EVENTS, *listeners),
            sends_foreign=settings.kafka.send_foreign,
        )
        self._metrics.add_event_metrics(self._outbox, self.hub, topic)
        # In test mode jobs of every site are accepted, and a driver for each lets canceled jobs end.
        runners = {c: NullSite(c) for c in SiteName if settings.test_mode} | sites
        self._drivers = {
            site: Driver(
                runner,
                store,
                objects,
                self._outbox,
                self.hub,
                log_dir=settings.log_folder,
                starts_jobs=not settings.test_mode,
            )
            for site, runner in runners.items()
        }
        self.sites = SiteDirectory(sites, store)
        self._cleaner = Cleaner(
            store,
            self.sites,
            age=timedelta(days=settings.clean_age_days),
            interval=timedelta(hours=settings.clean_frequency_hours),
        )
        self._takes_programs = settings.local.shared or identity.single_user
        self.images = Images(
            store,
            registries,
            takes_programs=self._takes_programs,
            contact=settings.contact,
        )
        self._refdata_staging = RefdataStaging(store, sites)
        self._reaper = Reaper(store, sites)
        self.refdata = Refdata(store, objects, self.sites, on_change=self._refdata_staging.wake)
        self.updates = ContainerUpdates(store, self.sites, on_change=self._wake_drivers)
        self.worker_tokens = WorkerTokens(store)
        self.worker_code = WorkerCode(objects, log_dir=settings.log_folder)
        self.workers = Workers(
            store,
            self.updates,
            self.worker_tokens,
            log_dir=settings.log_folder,
            signer=adapters.worker_signer(settings),
            make_plan=adapters.worker_plan_maker(settings),
        )
        self.files = Files(objects, self._access)
        self.checksums = Checksums(
            store,
            objects,
            self._access,
            self.hub,
            is_away=functools.partial(self._health.is_down, OBJECTS),
        )
        self.jobs = Jobs(
            store, self.sites, are_imported=topic is not None, on_change=self._wake_drivers
        )
        self.admin = AdminJobs(
            store, self.sites, publisher, self._outbox, on_change=self._wake_drivers
        )
        self.outputs = Outputs(store)
        self.logs = Logs(store, objects, self.sites, log_dir=settings.log_folder)
        self.submissions = Submissions(
            store,
            objects,
            self.sites,
            self.images,
            self._access,
            limits=Limits(settings.limits, store),
            refdata=self.refdata,
            max_cpu_hours=settings.max_cpu_hours,
            asks_sites=not settings.test_mode,
            on_stored=self._wake_drivers,
        )
        self.explanations = Explanations(
            store, self.sites, self.logs, max_cpu_hours=settings.max_cpu_hours
        )
        self.resubmissions = Resubmissions(store, objects, self.submissions, self._access)
        self._instance = ""
        """The id of the records, once they are open."""
        self._running = AsyncExitStack()

    def _warnings(self) -> list[str]:
        before = timedelta(hours=self.settings.jaws.client_warning_h)
        return client_warnings(self.clients(), before, utc_now())

    @classmethod
    def from_settings(cls, settings: Settings, identity: Identity) -> Self:
        """Return an engine on the adapters that the settings name."""
        store, objects = adapters.record_store(settings), adapters.object_store(settings)
        return cls(
            settings,
            identity=identity,
            store=store,
            objects=objects,
            registries=adapters.image_source(settings),
            sites=adapters.sites(settings, store, objects),
            topic=adapters.topic(settings),
        )

    async def start(self) -> None:
        """Open every port and resume every job. Raises ConfigError, and leaves nothing open then."""
        # The settings decide whether programs of this machine are refused: the identity must agree with them.
        isolates = self.settings.local.isolates and not self.settings.takes_programs
        if self.sites.find(SiteName.LOCAL) and not (self._takes_programs or isolates):
            raise ConfigError(
                "sites: local runs programs without isolation, and this identity lets several people in; "
                "take local out of sites, use an identity of one person, set local.runtime to docker or podman for "
                "images of registries alone, or set local.shared"
            )
        if self.settings.test_mode:
            log.warning("test_mode is on: jobs are stored and never started")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.identity.close)
            await self.identity.open()
            await self._store.open()
            stack.push_async_callback(self._store.close)
            self._instance = await self._store.instance()
            await self._objects.open()
            stack.push_async_callback(self._objects.close)
            await self._probe()
            if self._watches_clock:
                watch = asyncio.create_task(self._health.watch(CLOCK, CHECK_SECONDS), name="clock")
                stack.push_async_callback(cancel_and_wait, watch)
            await self.hub.start()
            stack.push_async_callback(self.hub.close)
            if self._topic is not None:
                await self._topic.open(self.hub.wake)
                stack.push_async_callback(self._topic.close)
            await self.checksums.start()
            stack.push_async_callback(self.checksums.stop)
            await self._outbox.start()
            stack.push_async_callback(self._outbox.stop)
            for driver in self._drivers.values():
                await driver.start()
                stack.push_async_callback(driver.stop)
            await self._refdata_staging.start()
            stack.push_async_callback(self._refdata_staging.stop)
            await self._reaper.start()
            stack.push_async_callback(self._reaper.stop)
            await self._cleaner.start()
            stack.push_async_callback(self._cleaner.stop)
            self._running = stack.pop_all()

    async def _probe(self) -> None:
        """Raise ConfigError unless logs and outputs can be written."""
        for setting, folder in self._access.shared_folders():
            try:
                await self._objects.probe(folder)
            except StorageFullError as e:
                # Jobs that are there can be looked at and canceled, and go on once there is space.
                log.error("%s: %s cannot be written now: %s", setting, folder, e)  # noqa: TRY400 - one plain line
            except CTSError as e:
                raise ConfigError(f"{setting}: {folder} cannot be written: {e}") from e

    async def end_streams(self) -> None:
        """End every stream of events, and every wait for a log. Later ones are refused, or do not wait."""
        await self.hub.close()
        self.logs.close()

    async def stop(self) -> None:
        """Stop everything in reverse order. Containers go on; the next start finds them."""
        await self._running.aclose()

    def _wake_drivers(self, job_id: str) -> None:
        self._outbox.wake()
        for driver in self._drivers.values():
            driver.wake(job_id)

    async def on_job_callback(self, job_id: str) -> None:
        """Handle an unauthenticated callback that something happened to a job: reconcile it now. Raises NoSuchJobError."""
        job = await self._store.get_summary(job_id)
        if driver := self._drivers.get(job.cluster):
            driver.nudge(job_id)

    def root(self) -> Root:
        """Return the service's self-description."""
        return Root(
            service_name=SERVICE_NAME,
            version=VERSION,
            git_hash=git_hash(),
            # Clients have events replayed from this time on.
            server_time=self._clock.now(),
            notes=f"CTS for Jupyter, {self.settings.preset.value} preset",
            instance=self._instance,
        )

    async def now(self) -> datetime:
        """Return the time by the record store's clock, from which streams of events go on. Raises UnavailableError."""
        return await self._store.now()

    async def readiness(self) -> Readiness:
        """Return the state of each of the service's dependencies."""
        return await self._health.readiness()

    async def metrics(self) -> bytes:
        """Return the metrics of this process and of the record store, in Prometheus' text format."""
        # Probes first, as /ready does: the last call to a dependency may be hours old.
        await self._health.readiness()
        return await self._metrics.text(self._store, self._health.states())

    def on_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request to a route of the front end's table; ``seconds`` is its duration."""
        self._metrics.on_request(method, route, status, seconds)

    def whoami(self, user: User) -> WhoAmI:
        """Return what the service knows about its caller."""
        return WhoAmI(
            user=user.name,
            roles=[CTSRole.FULL_ADMIN] if user.is_admin else [],
            allowed_paths=[
                AllowedPath(path=folder, perm=PathPermission.WRITE)
                for folder in self._access.folders(user)
            ],
            instance=self._instance,
        )
