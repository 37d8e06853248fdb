"""The service that stages reference data for the pool, as CTS asks it (contract, facts §5).

It works by itself: it claims the record and reports how it ended through the API. All that is left to do is to ask it,
until the record shows that it has begun, and again should it say that it knows nothing any more.
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
LOOK_SECONDS = 60.0
"""Until the next look at what it was asked for."""
_SERVICE = ""
"""Stands for the service itself, which is no id."""


class RefdataClient:
    """A client. Nothing that goes wrong on the way to it is an end."""

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
        """Ask for it, if that is due: for what has begun only when the service does not know it.

        Several servers of CTS may do so at once. Asked again, a service would begin anew that does not look
        whether it has begun already, as the deployed one may.
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
            told = "Reference data %s is refused by the staging service, and asked for again in %d s: %s"
            log.warning(told, refdata.id, delay, e)
        else:
            self._backoff.reset(_SERVICE)
            self._backoff.defer(refdata.id, LOOK_SECONDS)

    async def _is_unknown(self, refdata_id: str) -> bool:
        """Whether the service says so. One that tells admins alone, as the deployed one does, says nothing."""
        try:
            answer = await self._client.request("GET", f"/refdata/{refdata_id}/")
            return StagedRefdata.model_validate_json(answer).status is StagingStatus.NONE
        except (UnavailableError, RefusedError, ValidationError):
            return False
