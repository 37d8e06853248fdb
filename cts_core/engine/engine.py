"""Wires the engine: which adapter stands behind which port, and in which order they start and stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Self

from cts_core.clock import utc_now
from cts_core.config.settings import Settings
from cts_core.engine import adapters
from cts_core.engine.access import PathAccess
from cts_core.engine.admin import AdminJobs
from cts_core.engine.cleaner import Cleaner
from cts_core.engine.driver import Advance
from cts_core.engine.files import Files
from cts_core.engine.health import Health, watch_ports
from cts_core.engine.images import Images
from cts_core.engine.instrument import EVENTS, IDENTITY, OBJECTS, RECORDS, observed, site_name
from cts_core.engine.jobs import Jobs
from cts_core.engine.limits import Limits
from cts_core.engine.logs import Logs
from cts_core.engine.metrics import Metrics
from cts_core.engine.outputs import Outputs
from cts_core.engine.reaper import Strays
from cts_core.engine.refdata import Refdata
from cts_core.engine.refdata_staging import Staging
from cts_core.engine.resubmit import Resubmissions
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.submit import Submissions
from cts_core.engine.updates import ContainerUpdates
from cts_core.engine.worker_tokens import WorkerSupply
from cts_core.engine.workers import Nodes
from cts_core.errors import ConfigError, CTSError
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
from cts_core.records.store import RecordStore
from cts_core.sites.null import NullSite
from cts_core.sites.site import Site
from cts_core.version import VERSION, git_hash

log = logging.getLogger(__name__)


class Engine:
    """All of CTS but its fronts. ``start`` and ``stop`` it on the event loop that uses it."""

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
        self._health = Health(watch_ports(settings, identity, store, objects, sites, topic=topic))
        listeners = (self._health, self._metrics)
        self.identity = identity = observed(identity, IDENTITY, *listeners)
        self._store = store = observed(store, RECORDS, *listeners)
        self._objects = objects = observed(objects, OBJECTS, *listeners)
        sites = {c: observed(site, site_name(c), *listeners) for c, site in sites.items()}
        self._access = PathAccess(settings.allowed_paths, settings.log_dir)
        self.hub = Hub(store, settings.limits)
        self._topic = topic
        publisher = HubFirst(self.hub, topic) if topic else self.hub
        self._outbox = Outbox(store, observed(publisher, EVENTS, *listeners))
        self._metrics.watch_events(self._outbox, self.hub, topic)
        # In test mode there are jobs for every site, and those that are canceled end.
        runners = {c: NullSite(c) for c in SiteName if settings.test_mode} | sites
        self._drivers = {
            cluster: Advance(
                runner,
                store,
                objects,
                self._outbox,
                self.hub,
                log_dir=settings.log_dir,
                starts_jobs=not settings.test_mode,
            )
            for cluster, runner in runners.items()
        }
        self.sites = SiteDirectory(sites, store)
        self._cleaner = Cleaner(
            store,
            self.sites,
            age=timedelta(days=settings.clean_age_days),
            interval=timedelta(hours=settings.clean_frequency_hours),
        )
        self._runs_programs = settings.local.shared or identity.single_user
        self.images = Images(
            store,
            registries,
            takes_programs=self._runs_programs,
            contact=settings.contact,
        )
        self._staging = Staging(store, sites)
        self._strays = Strays(store, sites)
        self.refdata = Refdata(store, objects, self.sites, on_change=self._staging.nudge)
        self.updates = ContainerUpdates(store, self.sites, on_change=self._changed)
        self.supply = WorkerSupply(store, objects, log_dir=settings.log_dir)
        self.nodes = Nodes(
            store,
            self.updates,
            self.supply,
            log_dir=settings.log_dir,
            signer=adapters.worker_signer(settings),
            make_plan=adapters.node_plans(settings),
        )
        self.files = Files(objects, self._access)
        self.jobs = Jobs(store, on_change=self._changed)
        self.admin = AdminJobs(store, self.sites, publisher, self._outbox, on_change=self._changed)
        self.outputs = Outputs(store)
        self.logs = Logs(store, objects, self.sites, log_dir=settings.log_dir)
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
            on_stored=self._changed,
        )
        self.resubmissions = Resubmissions(store, objects, self.submissions, self._access)
        self._running = AsyncExitStack()

    @classmethod
    def from_settings(cls, settings: Settings, identity: Identity) -> Self:
        """An engine on the adapters that the settings name."""
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
        """Open every port and take up every job where it is. Raises ConfigError, leaving nothing open."""
        # Programs of this machine are refused by what the settings say of the identity: both must agree.
        isolates = self.settings.local.isolates and not self.settings.takes_programs
        if self.sites.find(SiteName.LOCAL) and not (self._runs_programs or isolates):
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
            await self._objects.open()
            stack.push_async_callback(self._objects.close)
            await self._probe()
            await self.hub.start()
            stack.push_async_callback(self.hub.close)
            if self._topic is not None:
                await self._topic.open(self.hub.wake)
                stack.push_async_callback(self._topic.close)
            await self._outbox.start()
            stack.push_async_callback(self._outbox.stop)
            for driver in self._drivers.values():
                await driver.start()
                stack.push_async_callback(driver.stop)
            await self._staging.start()
            stack.push_async_callback(self._staging.stop)
            await self._strays.start()
            stack.push_async_callback(self._strays.stop)
            await self._cleaner.start()
            stack.push_async_callback(self._cleaner.stop)
            self._running = stack.pop_all()

    async def _probe(self) -> None:
        """Raise ConfigError unless logs and outputs can be stored."""
        for setting, folder in self._access.settled_folders():
            try:
                await self._objects.probe(folder)
            except CTSError as e:
                raise ConfigError(f"{setting}: {folder} cannot be written: {e}") from e

    async def stop(self) -> None:
        """Stop in the reverse order. Containers go on; the next start finds them."""
        await self._running.aclose()

    def _changed(self, job_id: str) -> None:
        self._outbox.wake()
        for driver in self._drivers.values():
            driver.hint(job_id)

    async def look_at(self, job_id: str) -> None:
        """Somebody, anybody, says that something happened to this job: look there. Raises NoSuchJobError."""
        await self._store.get_summary(job_id)
        self._changed(job_id)

    def root(self) -> Root:
        """What the service says of itself."""
        return Root(
            service_name=SERVICE_NAME,
            version=VERSION,
            git_hash=git_hash(),
            server_time=utc_now(),
            notes=f"CTS for Jupyter, {self.settings.preset.value} preset",
        )

    async def readiness(self) -> Readiness:
        """Whether each of the service's dependencies can be used."""
        return await self._health.readiness()

    async def metrics(self) -> bytes:
        """The figures of this process and of the store, in Prometheus' text format."""
        # Asked before, as for /ready: what calls have told may be of hours ago.
        await self._health.readiness()
        return await self._metrics.text(self._store, self._health.states())

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A front has answered a request to this route of its table, after so long."""
        self._metrics.requested(method, route, status, seconds)

    def whoami(self, user: User) -> WhoAmI:
        """What the service knows of its caller."""
        return WhoAmI(
            user=user.name,
            roles=[CTSRole.FULL_ADMIN] if user.is_admin else [],
            allowed_paths=[
                AllowedPath(path=folder, perm=PathPermission.WRITE)
                for folder in self._access.folders(user)
            ],
        )
