"""The places where containers run, and what fits there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel

PUBLISHED_NAMES = {
    "SiteName": "Cluster",
    "SiteDescription": "Site",
    "SignedRequest": "GrantedRequest",
    "SignedRequests": "GrantedRequests",
}
"""The names of these models in the contract's OpenAPI, by which generated clients know them."""


class SiteName(StrEnum):
    """The sites' names."""

    PERLMUTTER_JAWS = "perlmutter-jaws"
    LAWRENCIUM_JAWS = "lawrencium-jaws"
    KBASE = "kbase"
    LOCAL = "local"


class SiteDescription(BaseModel):
    """A site as ``/sites`` shows it. Its nulls are sent (contract, facts §1)."""

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
    """Answer of ``/sites``."""

    sites: list[SiteDescription]


@dataclass(frozen=True)
class SiteLimits:
    """The most that one container may ask for at a site."""

    cpus_per_node: int
    memory_per_node_gb: int
    max_runtime_min: int

    @classmethod
    def of(cls, site: SiteDescription) -> SiteLimits:
        """The limits that a site states of itself."""
        return cls(site.cpus_per_node, site.memory_per_node_gb, site.max_runtime_min)


SITE_LIMITS: dict[SiteName, SiteLimits] = {
    SiteName.PERLMUTTER_JAWS: SiteLimits(256, 492, 2865),
    SiteName.LAWRENCIUM_JAWS: SiteLimits(32, 492, 4305),
    SiteName.KBASE: SiteLimits(168, 990, 10065),
}
"""The limits of the sites whose nodes we know (contract, facts §3); checked before the site is looked for."""
