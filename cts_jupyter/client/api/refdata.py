"""Reference data: looking at it, and, for admins, registering, recovering and cleaning it."""

from __future__ import annotations

from datetime import datetime

from cts_jupyter.client.api.base import Endpoints, given, in_path
from cts_jupyter.client.models import Response, Transition


class RefdataStatus(Response):
    """How far reference data is at a site."""

    cluster: str
    state: str
    transition_times: list[Transition]
    error: str | None = None


class Refdata(Response):
    """Reference data, and how far it is at each site that it was registered for."""

    id: str
    file: str
    crc64nvme: str | None = None
    unpack: bool = False
    registered_by: str
    registered_on: datetime
    statuses: list[RefdataStatus]


class AdminRefdataStatus(RefdataStatus):
    """The same as an admin sees it."""

    cleaned: bool = False
    nersc_download_task_id: list[str] | None = None
    admin_error: str | None = None
    traceback: str | None = None


class AdminRefdata(Refdata):
    """Reference data as an admin sees it."""

    statuses: list[AdminRefdataStatus]  # type: ignore[assignment]  # a list of a narrower model


class RefdataEndpoints(Endpoints):
    """About reference data; those that change something are for admins."""

    def refdata(self) -> list[Refdata]:
        """All reference data, oldest registration first."""
        return [Refdata.model_validate(found) for found in self._get("refdata")["data"]]

    def refdata_by_id(self, refdata_id: str) -> Refdata:
        """The reference data with this id."""
        return Refdata.model_validate(self._get(f"refdata/id/{in_path(refdata_id)}"))

    def refdata_of(self, path: str) -> list[Refdata]:
        """The reference data that a stored file was registered as, if it was."""
        found = self._get(f"refdata/path/{in_path(path)}")["data"]
        return [Refdata.model_validate(refdata) for refdata in found]

    def register_refdata(
        self, path: str, *, crc64nvme: str | None = None, unpack: bool | None = None
    ) -> Refdata:
        """Register a stored file, and have it staged at every site that is open; ``unpack`` archives."""
        answer = self._transport.json(
            "POST",
            f"admin/refdata/{in_path(path)}",
            params=given(crc64nvme=crc64nvme, unpack=unpack),
        )
        return Refdata.model_validate(answer)


class AdminRefdataEndpoints(Endpoints):
    """What else admins may do with reference data."""

    def refdata(self, refdata_id: str) -> AdminRefdata:
        """Reference data with all that is known of it."""
        return AdminRefdata.model_validate(self._get(f"admin/refdata/{in_path(refdata_id)}"))

    def recover_refdata(self, refdata_id: str, cluster: str) -> None:
        """Have it staged at a site that was left out so far."""
        self._put(f"admin/refdata/{in_path(refdata_id)}/{in_path(cluster)}/recover")

    def clean_refdata(self, refdata_id: str, cluster: str, *, force: bool | None = None) -> None:
        """Have what staging left at a site removed, but not the data; ``force`` also while it is staged."""
        path = f"admin/refdata/{in_path(refdata_id)}/{in_path(cluster)}/clean"
        self._transport.json("DELETE", path, params=given(force=force))
