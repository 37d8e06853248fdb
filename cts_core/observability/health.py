"""Health of the service's dependencies: known from the calls to them, and probed if these say nothing.

A call may fail for what was asked for, for too many calls at once, or for one user's quota, so that it never shows by itself
that a dependency is down or full: the dependency's own probe decides. Otherwise a user's odd key would take every server out of rotation.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from cts_core.clock import utc_now
from cts_core.config.settings import Settings
from cts_core.errors import StorageFullError, UnavailableError
from cts_core.events.publisher import Topic
from cts_core.identity.identity import Identity
from cts_core.model.service import Dependency, DependencyState, Readiness, ReadyStatus
from cts_core.model.site import SiteName
from cts_core.objects.store import ObjectStore
from cts_core.observability.clock import ClockCheck
from cts_core.observability.instrument import (
    CLOCK,
    EVENTS,
    IDENTITY,
    OBJECTS,
    RECORDS,
    PortCall,
    site_name,
)
from cts_core.records.store import RecordStore
from cts_core.sites.site import ClientInfo, HasClient, Site

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
"""A dependency whose state is no older than this is not probed again."""
PROBE_TIMEOUT_SECONDS = 5.0
"""Seconds that a dependency may take to respond to a probe."""
NO_RESPONSE = "it did not answer in time"
_TROUBLE = {DependencyState.DOWN, DependencyState.FULL}


@dataclass
class MonitoredDependency:
    """One dependency and its state.

    ``probe`` raises UnavailableError if it is down, and StorageFullError if it is full; None if only its calls show its
    state. ``probe_room`` raises StorageFullError, too, and is asked besides after a call that found no space.
    """

    name: str
    probe: Callable[[], Awaitable[object]] | None
    is_needed: bool
    """True if no request can be served without it."""
    success_means_up: bool = True
    """A successful call shows that it is up; false if results may come from a cache."""
    probe_room: Callable[[], Awaitable[object]] | None = None
    may_be_full: bool = False
    """Whether something found no space since the last probe: what succeeds without any says nothing then."""
    state: DependencyState = DependencyState.UNKNOWN
    since: datetime = field(default_factory=utc_now)
    error: str | None = None
    updated: float = float("-inf")
    """When its state was found, by the monotonic clock; a state that is in doubt is as old as can be."""


class Health:
    """The state of every dependency. Listens to the calls to ports."""

    def __init__(
        self,
        dependencies: Iterable[MonitoredDependency],
        warn: Callable[[], list[str]] = list,
    ) -> None:
        """``warn`` returns what will keep something from being used soon."""
        self._dependencies = {dependency.name: dependency for dependency in dependencies}
        self._warn = warn
        self._probing = asyncio.Lock()

    def on_call(self, call: PortCall) -> None:
        """Derive the state of a dependency from a call to it."""
        dependency = self._dependencies.get(call.port)
        if dependency is None:
            return
        if isinstance(call.error, StorageFullError):
            dependency.may_be_full = True
            dependency.updated = float("-inf")
        elif call.outage is not None:
            if dependency.probe is None:
                self._set_state(dependency, DependencyState.DOWN, str(call.outage) or NO_RESPONSE)
            elif dependency.state is not DependencyState.DOWN:
                dependency.updated = float("-inf")
        elif dependency.probe is not None and dependency.state is DependencyState.UNKNOWN:
            # A read that succeeds says nothing of the room: the first state is the probe's.
            pass
        elif dependency.success_means_up and not dependency.may_be_full:
            self._set_state(dependency, DependencyState.UP)

    def states(self) -> dict[str, DependencyState]:
        """Return the current states, by name."""
        return {dependency.name: dependency.state for dependency in self._dependencies.values()}

    async def readiness(self) -> Readiness:
        """Return the state of all dependencies; probe those whose state is old."""
        async with self._probing:
            await asyncio.gather(*map(self._refresh, self._dependencies.values()))
        dependencies = [
            Dependency(
                name=dependency.name,
                state=dependency.state,
                needed=dependency.is_needed,
                since=dependency.since,
                error=dependency.error,
            )
            for dependency in self._dependencies.values()
        ]
        status = ReadyStatus.READY
        if any(each.state in _TROUBLE for each in dependencies):
            status = ReadyStatus.DEGRADED
        if any(each.needed and each.state is DependencyState.DOWN for each in dependencies):
            status = ReadyStatus.NOT_READY
        return Readiness(status=status, dependencies=dependencies, warnings=self._warn())

    async def is_down(self, name: str) -> bool:
        """Return whether one dependency is down; probe it if its state is old."""
        dependency = self._dependencies[name]
        async with self._probing:
            await self._refresh(dependency)
        return dependency.state is DependencyState.DOWN

    async def watch(self, name: str, interval: float) -> None:
        """Probe one dependency again and again, so that the log has its changes also where nobody asks."""
        while True:
            async with self._probing:
                await self._probe(self._dependencies[name])
            await asyncio.sleep(interval)

    async def _refresh(self, dependency: MonitoredDependency) -> None:
        if dependency.updated < time.monotonic() - FRESH_SECONDS:
            await self._probe(dependency)

    async def _probe(self, dependency: MonitoredDependency) -> None:
        if dependency.probe is None:
            return
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                await dependency.probe()
                if dependency.may_be_full and dependency.probe_room is not None:
                    await dependency.probe_room()
        except TimeoutError:
            self._set_state(dependency, DependencyState.DOWN, NO_RESPONSE)
        except UnavailableError as e:
            self._set_state(dependency, DependencyState.DOWN, str(e))
        except StorageFullError as e:
            dependency.may_be_full = True
            self._set_state(dependency, DependencyState.FULL, str(e))
        except Exception:  # a bug must not hide the state of the others
            log.exception("Probing %s failed", dependency.name)
            self._set_state(
                dependency, DependencyState.UNKNOWN, "asking it failed: the log says how"
            )
        else:
            dependency.may_be_full = False
            self._set_state(dependency, DependencyState.UP)

    def _set_state(
        self, dependency: MonitoredDependency, state: DependencyState, error: str | None = None
    ) -> None:
        dependency.updated = time.monotonic()
        if state is not dependency.state:
            if {state, dependency.state} & _TROUBLE:
                level = logging.ERROR if state is DependencyState.FULL else logging.WARNING
                why = f": {error}" if error else " again"
                log.log(level, "%s is %s%s", dependency.name, state.value, why)
            dependency.state, dependency.since = state, utc_now()
        dependency.error = error


@runtime_checkable
class Checkable(Protocol):
    """An adapter that can check the server behind it."""

    async def check(self) -> None:
        """Raise UnavailableError if it is down."""


def engine_dependencies(
    settings: Settings,
    identity: Identity,
    store: RecordStore,
    objects: ObjectStore,
    sites: Mapping[SiteName, Site],
    *,
    topic: Topic | None = None,
    clock: ClockCheck | None = None,
) -> list[MonitoredDependency]:
    """Return the dependencies of an engine, each with the name of its port."""

    async def probe_records() -> None:
        await store.inactive_sites()
        await store.check_room()

    return [
        MonitoredDependency(RECORDS, probe_records, is_needed=True),
        object_store_dependency(settings, objects),
        identity_dependency(identity),
        *([MonitoredDependency(CLOCK, clock.check, is_needed=False)] if clock else []),
        *([MonitoredDependency(EVENTS, topic.check, is_needed=False)] if topic else []),
        *(
            MonitoredDependency(
                site_name(name), functools.partial(_probe_site, site), is_needed=False
            )
            for name, site in sites.items()
        ),
    ]


def clients_of(sites: Mapping[SiteName, Site]) -> dict[SiteName, ClientInfo]:
    """Return the clients by which sites are used, as far as they have some."""
    clients = {}
    for name, site in sites.items():
        if isinstance(site, HasClient):
            # It is not known before the site was reached for the first time.
            with contextlib.suppress(UnavailableError):
                clients[name] = site.client()
    return clients


def client_warnings(
    clients: Mapping[SiteName, ClientInfo], before: timedelta, now: datetime
) -> list[str]:
    """Return a sentence for each client that ends so soon that its owner has to renew it now."""
    # Several sites may share one.
    ending = {client: name for name, client in clients.items()}
    return [
        f"The client {client.client_id}, by which the site {name.value} is used, "
        f"{'expires' if client.expires_at > now else 'has expired'} at {client.expires_at:%Y-%m-%d %H:%M} UTC: renew it, and put "
        "the new one into the file jaws.sfapi_cred_path"
        for client, name in ending.items()
        if client.expires_at - now < before
    ]


def object_store_dependency(settings: Settings, objects: ObjectStore) -> MonitoredDependency:
    """Return the object store as a dependency."""

    async def probe() -> None:
        # Whether the object exists does not matter.
        (result,) = await objects.head([settings.log_folder.file(".ready")])
        if isinstance(result, UnavailableError):
            raise result

    return MonitoredDependency(
        OBJECTS,
        probe,
        is_needed=True,
        probe_room=functools.partial(objects.probe, settings.log_folder),
    )


def identity_dependency(identity: Identity) -> MonitoredDependency:
    """Return the identity service as a dependency."""
    return MonitoredDependency(
        IDENTITY,
        identity.check if isinstance(identity, Checkable) else None,
        is_needed=True,
        success_means_up=not isinstance(identity, Checkable),
    )


async def _probe_site(site: Site) -> None:
    description = await site.describe()
    if not description.available:
        raise UnavailableError(description.unavailable_reason or "it takes no jobs")
