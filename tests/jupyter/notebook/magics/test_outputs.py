"""The objects of a job's outputs, at a store that leaves out of listings what lies below another object."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from cts_jupyter.client.models import JobOutput, ObjectPage, StoredObject
from cts_jupyter.notebook.magics.outputs import as_stored


class HidingClient:
    """A client of a service whose store lists nothing below an object, and finds it by its key."""

    def __init__(self, *paths: str) -> None:
        self._paths = paths
        self.asked: list[str] = []

    def job(self, job_id: str) -> Any:
        return SimpleNamespace(job_input=SimpleNamespace(output_dir="data/out/"))

    def _is_hidden(self, path: str) -> bool:
        return any(path.startswith(f"{other}/") for other in self._paths)

    def iter_files(self, prefix: str) -> Iterator[StoredObject]:
        listed = (path for path in self._paths if path.startswith(prefix))
        return (_object(path) for path in listed if not self._is_hidden(path))

    def files(self, prefix: str, *, limit: int) -> ObjectPage:
        self.asked.append(prefix)
        listed = [*self.iter_files(prefix)]
        if not listed and prefix in self._paths:
            listed = [_object(prefix)]
        return ObjectPage(objects=listed[:limit])


def _object(path: str) -> StoredObject:
    return StoredObject(
        path=path,
        size=1,
        etag="e",
        content_type="text/plain",
        modified=datetime(2026, 3, 4, tzinfo=UTC),
        checksum="stored",
    )


def _stored(client: HidingClient, *names: str) -> tuple[list[str], list[str]]:
    outputs = [JobOutput(file=f"data/out/{name}", job_id="j") for name in names]
    context: Any = SimpleNamespace(client=client)
    there, gone = as_stored(context, outputs)
    return [file.path for file in there], gone


def test_an_output_that_no_listing_has_is_not_gone():
    client = HidingClient("data/out/a", "data/out/x", "data/out/x/deep/y")
    assert _stored(client, "a", "x/deep/y", "x/deep/z", "b") == (
        ["data/out/a", "data/out/x/deep/y"],
        ["data/out/x/deep/z", "data/out/b"],
    )


def test_outputs_that_are_gone_cost_a_question_for_each_folder():
    client = HidingClient("data/in/a")
    names = [f"f/{number}" for number in range(100)]
    assert _stored(client, *names) == ([], [f"data/out/{name}" for name in names])
    assert sorted(client.asked) == ["data/out", "data/out/f"]
