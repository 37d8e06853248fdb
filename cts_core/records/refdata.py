"""The part of the record store that keeps reference data."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from cts_core.model.refdata import (
    AdminReferenceData,
    AdminReferenceDataStatus,
    ReferenceDataState,
)
from cts_core.model.site import Cluster


class RefdataRecords(Protocol):
    """Raises ``NoSuchRefdataError`` where reference data, or a site of it, is named that is not there."""

    async def add_refdata(self, refdata: AdminReferenceData) -> None:
        """Register reference data. Raises RefdataExistsError when its file is registered already."""

    async def get_refdata(self, refdata_id: str) -> AdminReferenceData:
        """The reference data with this id."""

    async def find_refdata(self, path: str) -> AdminReferenceData:
        """The reference data of this file."""

    async def list_refdata(self) -> list[AdminReferenceData]:
        """All reference data, oldest registration first."""

    async def add_refdata_site(self, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
        """Add a site; False when it is there already, and nothing is written."""

    async def transition_refdata(
        self,
        refdata_id: str,
        cluster: Cluster,
        expected: ReferenceDataState,
        new: ReferenceDataState,
        *,
        time: datetime,
        error: str | None = None,
        admin_error: str | None = None,
        traceback: str | None = None,
    ) -> bool:
        """Move the reference data at a site from ``expected`` to ``new``; False for a lost race."""

    async def mark_refdata_cleaned(self, refdata_id: str, cluster: Cluster) -> None:
        """Note that what staging left at the site is gone."""
