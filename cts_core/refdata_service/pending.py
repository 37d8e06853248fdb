"""The durable queue of requests whose end the staging service has not reported yet. Every function blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cts_core.refdata_service.cts_client import RequestedRefdata
from cts_core.worker.files import read_json, sync_folder, write_json


class PendingRequests:
    """Requests as files ``<folder>/<id>.json``. Methods raise OSError and ValueError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Iterator[RequestedRefdata]:
        """Yield all requests; create the folder if it is missing."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*.json")):
            yield RequestedRefdata.model_validate(read_json(str(path)))

    def add(self, refdata: RequestedRefdata) -> None:
        """Store a request durably."""
        write_json(str(self._path(refdata.id)), refdata.model_dump(mode="json"))

    def remove(self, refdata_id: str) -> None:
        """Remove a request."""
        self._path(refdata_id).unlink(missing_ok=True)
        sync_folder(str(self._folder))

    def _path(self, refdata_id: str) -> Path:
        return self._folder / f"{refdata_id}.json"
