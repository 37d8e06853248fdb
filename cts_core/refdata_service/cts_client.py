"""The client of CTS that the staging service of reference data uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from cts_core.config.sections import RefdataSettings
from cts_core.errors import (
    CTSError,
    ErrorKind,
    NoSuchRefdataError,
    RefdataStateError,
    UnavailableError,
    UnsupportedError,
)
from cts_core.model.base import Crc64Nvme, Id
from cts_core.model.job import S3Path
from cts_core.model.refdata import ENDED, ReferenceDataState
from cts_core.model.service import SERVICE_NAME
from cts_core.model.site import SiteName
from cts_core.service_client import RefusedError, ServiceClient

CLUSTER = SiteName.KBASE
"""The site for which the service stages."""
_REFDATA_ERRORS: Mapping[int | None, type[CTSError]] = {
    ErrorKind.NO_SUCH_REFDATA.appcode: NoSuchRefdataError,
    ErrorKind.REFDATA_STATE.appcode: RefdataStateError,
    ErrorKind.UNSUPPORTED.appcode: UnsupportedError,
}
"""Errors that concern the reference data itself; any other error may be temporary."""


class _Status(BaseModel):
    cluster: str
    state: str


class RequestedRefdata(BaseModel):
    """Reference data as CTS describes it, without unneeded fields: a newer CTS may send more."""

    id: Id
    file: S3Path
    crc64nvme: Crc64Nvme | None = None
    unpack: bool = False
    statuses: list[_Status] = []

    @property
    def has_ended(self) -> bool:
        """Return whether CTS has recorded the end of the staging."""
        return any(s.cluster == CLUSTER.value and s.state in ENDED for s in self.statuses)


class CTSUpdates:
    """Reads reference data from CTS and reports states. Methods raise NoSuchRefdataError and UnavailableError."""

    def __init__(self, settings: RefdataSettings) -> None:
        self._client = ServiceClient(
            "refdata.cts_url",
            settings.cts_url,
            settings.cts_token,
            service_name=SERVICE_NAME,
            timeout=settings.timeout_s,
        )

    async def check(self) -> None:
        """Verify that CTS is reachable, and is CTS."""
        await self._client.check()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def find(self, refdata_id: str) -> RequestedRefdata:
        """Return the reference data to stage."""
        response = await self._request("GET", f"/refdata/id/{refdata_id}")
        try:
            refdata = RequestedRefdata.model_validate_json(response)
        except ValidationError:
            raise UnavailableError(
                f"What CTS says of the reference data {refdata_id} cannot be understood"
            ) from None
        return refdata.model_copy(update={"id": refdata_id})

    async def update(
        self, refdata_id: str, state: ReferenceDataState, admin_error: str | None = None
    ) -> None:
        """Report a state. Raises RefdataStateError and UnsupportedError, too."""
        await self._request(
            "PUT",
            f"/external_exec/refdata/{refdata_id}/{CLUSTER.value}/update/{state.value}",
            None if admin_error is None else {"admin_error": admin_error},
        )

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> bytes:
        try:
            return await self._client.request(method, path, body)
        except RefusedError as e:
            if e.appcode in _REFDATA_ERRORS:
                raise _REFDATA_ERRORS[e.appcode](str(e)) from None
            raise UnavailableError(f"CTS refuses {method} {path}: {e}") from None
