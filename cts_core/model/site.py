"""The places where containers run, and what fits there."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel


class Cluster(StrEnum):
    """The sites' names."""

    PERLMUTTER_JAWS = "perlmutter-jaws"
    LAWRENCIUM_JAWS = "lawrencium-jaws"
    KBASE = "kbase"
    LOCAL = "local"


class Site(BaseModel):
    """A site as ``/sites`` shows it. Its nulls are sent (contract, facts §1)."""

    cluster: Cluster
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

    sites: list[Site]
