"""What the staging service was asked for and has not reported the end of yet, as files. Everything here blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cts_core.refdata_service.cts_client import WantedRefdata
from cts_core.worker.files import read_json, sync_folder, write_json


class AskedFiles:
    """``<folder>/<id>.json`` for each. Methods raise OSError and ValueError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Iterator[WantedRefdata]:
        """All of them; makes the folder if need be."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*.json")):
            yield WantedRefdata.model_validate(read_json(str(path)))

    def add(self, refdata: WantedRefdata) -> None:
        """Keep it, also over a crash."""
        write_json(str(self._path(refdata.id)), refdata.model_dump(mode="json"))

    def remove(self, refdata_id: str) -> None:
        """Forget it."""
        self._path(refdata_id).unlink(missing_ok=True)
        sync_folder(str(self._folder))

    def _path(self, refdata_id: str) -> Path:
        return self._folder / f"{refdata_id}.json"
