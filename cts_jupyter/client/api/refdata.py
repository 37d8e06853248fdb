"""Endpoints for reference data: list it and, for admins, register, recover and clean it."""

from __future__ import annotations

from datetime import datetime

from cts_jupyter.client.api.base import Endpoints, drop_none, quote_path
from cts_jupyter.client.models import Response, Transition


class RefdataStatus(Response):
    """The staging state of reference data at a site."""

    cluster: str
    state: str
    transition_times: list[Transition]
    error: str | None = None


class Refdata(Response):
    """Reference data, and its staging state at each site that it was registered for."""

    id: str
    file: str
    crc64nvme: str | None = None
    unpack: bool = False
    registered_by: str
    registered_on: datetime
    statuses: list[RefdataStatus]


class AdminRefdataStatus(RefdataStatus):
    """A staging state with the fields that only admins see."""

    cleaned: bool = False
    nersc_download_task_id: list[str] | None = None
    admin_error: str | None = None
    traceback: str | None = None


class AdminRefdata(Refdata):
    """Reference data with the fields that only admins see."""

    statuses: list[AdminRefdataStatus]  # type: ignore[assignment]  # a list of a narrower model


class RefdataEndpoints(Endpoints):
    """Endpoints about reference data; those that change it are for admins."""

    def refdata(self) -> list[Refdata]:
        """Return all reference data, oldest registration first."""
        return [Refdata.model_validate(item) for item in self._get("refdata")["data"]]

    def refdata_by_id(self, refdata_id: str) -> Refdata:
        """Return the reference data with this id."""
        return Refdata.model_validate(self._get(f"refdata/id/{quote_path(refdata_id)}"))

    def refdata_of(self, path: str) -> list[Refdata]:
        """Return the reference data that a stored file was registered as, if any."""
        items = self._get(f"refdata/path/{quote_path(path)}")["data"]
        return [Refdata.model_validate(refdata) for refdata in items]

    def register_refdata(
        self, path: str, *, crc64nvme: str | None = None, unpack: bool | None = None
    ) -> Refdata:
        """Register a stored file, and stage it at every active site; ``unpack`` archives there."""
        response = self._transport.json(
            "POST",
            f"admin/refdata/{quote_path(path)}",
            params=drop_none(crc64nvme=crc64nvme, unpack=unpack),
        )
        return Refdata.model_validate(response)


class AdminRefdataEndpoints(Endpoints):
    """Endpoints about reference data for admins alone."""

    def refdata(self, refdata_id: str) -> AdminRefdata:
        """Return reference data with the fields that only admins see."""
        return AdminRefdata.model_validate(self._get(f"admin/refdata/{quote_path(refdata_id)}"))

    def recover_refdata(self, refdata_id: str, cluster: str) -> None:
        """Stage reference data at a site that was left out so far."""
        self._put(f"admin/refdata/{quote_path(refdata_id)}/{quote_path(cluster)}/recover")

    def clean_refdata(self, refdata_id: str, cluster: str, *, force: bool | None = None) -> None:
        """Remove what staging left at a site, but not the data; with ``force`` also while it is being staged."""
        path = f"admin/refdata/{quote_path(refdata_id)}/{quote_path(cluster)}/clean"
        self._transport.json("DELETE", path, params=drop_none(force=force))
