"""Whether each dependency of the service can be used: seen from the calls to it, and asked when there are none."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from cts_core.clock import utc_now
from cts_core.config.settings import Settings
from cts_core.engine.instrument import EVENTS, IDENTITY, OBJECTS, RECORDS, PortCall, site_name
from cts_core.errors import UnavailableError
from cts_core.events.publisher import Topic
from cts_core.identity.identity import Identity
from cts_core.model.service import Dependency, DependencyState, Readiness, ReadyStatus
from cts_core.model.site import SiteName
from cts_core.objects.store import ObjectStore
from cts_core.records.store import RecordStore
from cts_core.sites.site import Site

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
"""A dependency that has been heard of since is not asked again."""
ASK_SECONDS = 5.0
"""How long a dependency may take to answer when it is asked."""
SILENT = "it did not answer in time"


@dataclass
class Watched:
    """One dependency. ``ask`` raises UnavailableError when it is away; None: only its calls tell."""

    name: str
    ask: Callable[[], Awaitable[object]] | None
    is_needed: bool
    """Whether no request can be served without it."""
    answers_tell: bool = True
    """Whether a call that went well shows that it is there; not so where answers come from a cache."""
    state: DependencyState = DependencyState.UNKNOWN
    since: datetime = field(default_factory=utc_now)
    error: str | None = None
    heard: float = float("-inf")


class Health:
    """The state of every dependency. A listener of the ports' calls."""

    def __init__(self, dependencies: Iterable[Watched]) -> None:
        self._watched = {watched.name: watched for watched in dependencies}
        self._asking = asyncio.Lock()

    def called(self, call: PortCall) -> None:
        """See ``CallListener``."""
        watched = self._watched.get(call.port)
        if watched is None:
            return
        if call.outage is not None:
            self._note(watched, DependencyState.DOWN, str(call.outage) or SILENT)
        elif watched.answers_tell:
            self._note(watched, DependencyState.UP)

    def states(self) -> dict[str, DependencyState]:
        """What is known now, by name."""
        return {watched.name: watched.state for watched in self._watched.values()}

    async def readiness(self) -> Readiness:
        """The state of all, those asked that have not been heard of lately."""
        async with self._asking:
            stale = time.monotonic() - FRESH_SECONDS
            await asyncio.gather(
                *(self._ask(watched) for watched in self._watched.values() if watched.heard < stale)
            )
        found = [
            Dependency(
                name=watched.name,
                state=watched.state,
                needed=watched.is_needed,
                since=watched.since,
                error=watched.error,
            )
            for watched in self._watched.values()
        ]
        down = [dependency for dependency in found if dependency.state is DependencyState.DOWN]
        status = ReadyStatus.DEGRADED if down else ReadyStatus.READY
        if any(dependency.needed for dependency in down):
            status = ReadyStatus.NOT_READY
        return Readiness(status=status, dependencies=found)

    async def _ask(self, watched: Watched) -> None:
        if watched.ask is None:
            return
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await watched.ask()
        except TimeoutError:
            self._note(watched, DependencyState.DOWN, SILENT)
        except UnavailableError as e:
            self._note(watched, DependencyState.DOWN, str(e))
        except Exception:  # a fault of ours must not hide the state of the others
            log.exception("Asking %s failed", watched.name)
            self._note(watched, DependencyState.UNKNOWN, "asking it failed: the log says how")
        else:
            self._note(watched, DependencyState.UP)

    def _note(self, watched: Watched, state: DependencyState, error: str | None = None) -> None:
        watched.heard = time.monotonic()
        if state is not watched.state:
            if DependencyState.DOWN in (state, watched.state):
                log.warning(
                    "%s is %s%s", watched.name, state.value, f": {error}" if error else " again"
                )
            watched.state, watched.since = state, utc_now()
        watched.error = error


@runtime_checkable
class Checkable(Protocol):
    """An adapter that can be asked whether what it stands for is there."""

    async def check(self) -> None:
        """Raise UnavailableError when it is not."""


def watch_ports(
    settings: Settings,
    identity: Identity,
    store: RecordStore,
    objects: ObjectStore,
    sites: Mapping[SiteName, Site],
    *,
    topic: Topic | None = None,
) -> list[Watched]:
    """What an engine depends on, each by the name of its port."""
    return [
        Watched(RECORDS, store.inactive_sites, is_needed=True),
        watch_objects(settings, objects),
        watch_identity(identity),
        *([Watched(EVENTS, topic.check, is_needed=False)] if topic else []),
        *(
            Watched(site_name(cluster), functools.partial(_ask_site, site), is_needed=False)
            for cluster, site in sites.items()
        ),
    ]


def watch_objects(settings: Settings, objects: ObjectStore) -> Watched:
    """The object store."""

    async def ask() -> None:
        # Whether the object is there does not matter: an answer is one.
        (answer,) = await objects.head([f"{settings.log_dir}/.ready"])
        if isinstance(answer, UnavailableError):
            raise answer

    return Watched(OBJECTS, ask, is_needed=True)


def watch_identity(identity: Identity) -> Watched:
    """Whoever says who users are."""
    return Watched(
        IDENTITY,
        identity.check if isinstance(identity, Checkable) else None,
        is_needed=True,
        answers_tell=not isinstance(identity, Checkable),
    )


async def _ask_site(site: Site) -> None:
    description = await site.describe()
    if not description.available:
        raise UnavailableError(description.unavailable_reason or "it takes no jobs")
