"""CTS, as the service that stages reference data asks it."""

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
"""The site that is staged for."""
_REFUSALS: Mapping[int | None, type[CTSError]] = {
    ErrorKind.NO_SUCH_REFDATA.appcode: NoSuchRefdataError,
    ErrorKind.REFDATA_STATE.appcode: RefdataStateError,
    ErrorKind.UNSUPPORTED.appcode: UnsupportedError,
}
"""What CTS says of the reference data itself; any other refusal may be mended there."""


class _Status(BaseModel):
    cluster: str
    state: str


class WantedRefdata(BaseModel):
    """What CTS says of reference data, as far as it matters here: a newer CTS may say more."""

    id: Id
    file: S3Path
    crc64nvme: Crc64Nvme | None = None
    unpack: bool = False
    statuses: list[_Status] = []

    @property
    def has_ended(self) -> bool:
        """Whether CTS waits for nothing any more."""
        return any(s.cluster == CLUSTER.value and s.state in ENDED for s in self.statuses)


class TaskService:
    """A client. Its methods raise NoSuchRefdataError and UnavailableError."""

    def __init__(self, settings: RefdataSettings) -> None:
        self._client = ServiceClient(
            "refdata.cts_url",
            settings.cts_url,
            settings.cts_token,
            service_name=SERVICE_NAME,
            timeout=settings.timeout_s,
        )

    async def check(self) -> None:
        """Ask who it is."""
        await self._client.check()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def find(self, refdata_id: str) -> WantedRefdata:
        """What is to be staged."""
        answer = await self._ask("GET", f"/refdata/id/{refdata_id}")
        try:
            found = WantedRefdata.model_validate_json(answer)
        except ValidationError:
            raise UnavailableError(
                f"What CTS says of the reference data {refdata_id} cannot be understood"
            ) from None
        return found.model_copy(update={"id": refdata_id})

    async def update(
        self, refdata_id: str, state: ReferenceDataState, admin_error: str | None = None
    ) -> None:
        """Report a state. Raises RefdataStateError and UnsupportedError, too."""
        await self._ask(
            "PUT",
            f"/external_exec/refdata/{refdata_id}/{CLUSTER.value}/update/{state.value}",
            None if admin_error is None else {"admin_error": admin_error},
        )

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        try:
            return await self._client.request(method, path, body)
        except RefusedError as e:
            if e.appcode in _REFUSALS:
                raise _REFUSALS[e.appcode](str(e)) from None
            raise UnavailableError(f"CTS refuses {method} {path}: {e}") from None
