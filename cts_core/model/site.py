"""Sites: their names, descriptions and limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from cts_core.model.base import Record
from cts_core.states import JobState


class SiteName(StrEnum):
    """The name of a site."""

    PERLMUTTER_JAWS = "perlmutter-jaws"
    LAWRENCIUM_JAWS = "lawrencium-jaws"
    KBASE = "kbase"
    LOCAL = "local"


SITES_AT_JAWS = frozenset({SiteName.PERLMUTTER_JAWS, SiteName.LAWRENCIUM_JAWS})
"""The sites at JAWS, which share NERSC and one client of it."""


class SiteDescription(BaseModel):
    """A site as ``/sites`` shows it. Nulls are sent."""

    cluster: SiteName
    nodes: int | None = None
    cpus_per_node: int
    memory_per_node_gb: int
    """Decimal gigabytes."""
    max_runtime_min: int
    notes: list[str] = []
    active: bool
    available: bool
    unavailable_reason: str | None = None


class Sites(BaseModel):
    """Response of ``/sites``."""

    sites: list[SiteDescription]


MAX_QUEUED = 100
"""The caller's jobs of which a site's load tells one by one."""


class QueuedJob(Record):
    """A live job of the caller's at a site."""

    job_id: str
    state: JobState
    """The state in which the rest is true."""
    ahead: int | SkipJsonSchema[None] = None
    """Containers that wait in older jobs; absent if none of its own waits."""
    waits_for: str | SkipJsonSchema[None] = None
    """What keeps it from going on, in one sentence; absent if nothing is known to."""


class SiteLoad(Record):
    """What waits and runs at a site, of all users."""

    cluster: SiteName
    waiting: int
    """Containers that wait."""
    running: int
    """Containers that run."""
    cpus_free: int | SkipJsonSchema[None] = None
    """Cpus that nothing uses now; absent where the site does not tell."""
    ahead: int | SkipJsonSchema[None] = None
    """Those of the waiting ones that are in jobs older than the caller's oldest waiting one; absent if none of the caller's waits."""
    jobs: list[QueuedJob]
    """The caller's live jobs, the oldest ones of them if they are many."""


@dataclass(frozen=True)
class SiteLimits:
    """The maximum that one container may request at a site."""

    cpus_per_node: int
    memory_per_node_gb: int
    max_runtime_min: int

    @classmethod
    def of(cls, site: SiteDescription) -> SiteLimits:
        """Return the limits of a site's description."""
        return cls(site.cpus_per_node, site.memory_per_node_gb, site.max_runtime_min)


SITE_LIMITS: dict[SiteName, SiteLimits] = {
    SiteName.PERLMUTTER_JAWS: SiteLimits(256, 492, 2865),
    SiteName.LAWRENCIUM_JAWS: SiteLimits(32, 492, 4305),
    SiteName.KBASE: SiteLimits(168, 990, 10065),
}
"""The limits of known sites (docs/reference/contract.md §3), which are checked before the site is contacted."""

START_PATIENCE: dict[SiteName, timedelta] = {
    SiteName.KBASE: timedelta(hours=1),
    SiteName.LOCAL: timedelta(hours=1),
}
"""How long a job may wait for its site to take it, before it fails; at sites that are not named, as long as it takes."""
