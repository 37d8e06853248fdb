"""Client of the service that stages reference data for the pool (docs/reference/contract.md §5).

That service works by itself: it claims the record, and reports the end through the API. The client requests staging
until the record shows that it has begun, and again if the service does not know of it any more.
"""

from __future__ import annotations

import logging

from pydantic import ValidationError

from cts_core.backoff import Backoff, KeyedBackoff
from cts_core.config.sections import RefdataSettings
from cts_core.errors import UnavailableError
from cts_core.model.refdata import (
    AdminReferenceData,
    ReferenceDataState,
    StagedRefdata,
    StagingStatus,
)
from cts_core.model.service import REFDATA_SERVICE_NAME
from cts_core.model.site import SiteName
from cts_core.service_client import RefusedError, ServiceClient

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 2.0, 120.0
"""Seconds between tries while it cannot be asked; they double from the first to the longest."""
CHECK_SECONDS = 60.0
"""Until the next check of a request that was accepted."""
_SERVICE = ""
"""The backoff key of the service itself; it is no id of reference data."""


class RefdataClient:
    """Requests staging. No failure of a request ends the staging."""

    def __init__(self, settings: RefdataSettings) -> None:
        self._client = ServiceClient(
            "refdata.server_url",
            settings.server_url,
            settings.server_token,
            service_name=REFDATA_SERVICE_NAME,
            timeout=settings.timeout_s,
        )
        self._backoff = KeyedBackoff(Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def stage(self, refdata: AdminReferenceData) -> None:
        """Request the staging of reference data, if a request is due.

        Once staging has begun, it is requested again only when the service does not know of it: a service that does
        not check whether it has begun already, as the deployed one may not, would start again. Several servers of CTS
        may request the same at once.
        """
        if not (self._backoff.is_due(_SERVICE) and self._backoff.is_due(refdata.id)):
            return
        status = refdata.at(SiteName.KBASE)
        has_begun = status is not None and status.state is not ReferenceDataState.CREATED
        try:
            if not has_begun or await self._is_unknown(refdata.id):
                await self._client.request("POST", f"/refdata/{refdata.id}/{SiteName.KBASE.value}")
                log.info("Reference data %s was asked for at the staging service", refdata.id)
        except UnavailableError as e:
            delay = self._backoff.fail(_SERVICE, str(e))
            log.warning("Reference data %s waits, for %d s more: %s", refdata.id, delay, e)
        except RefusedError as e:
            delay = self._backoff.fail(refdata.id, str(e))
            message = "Reference data %s is refused by the staging service, and asked for again in %d s: %s"
            log.warning(message, refdata.id, delay, e)
        else:
            self._backoff.reset(_SERVICE)
            self._backoff.defer(refdata.id, CHECK_SECONDS)

    async def _is_unknown(self, refdata_id: str) -> bool:
        """Return whether the service says that it does not know the reference data.

        A service that answers admins alone, as the deployed one does, says nothing.
        """
        try:
            response = await self._client.request("GET", f"/refdata/{refdata_id}/")
            return StagedRefdata.model_validate_json(response).status is StagingStatus.NONE
        except (UnavailableError, RefusedError, ValidationError):
            return False
