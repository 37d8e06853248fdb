"""Which folders are probed."""

from __future__ import annotations

import pytest

from cts_core.engine.writable_folders import KNOWN_SECONDS, MAX_KNOWN, WritableFolders
from cts_core.errors import PathInaccessibleError
from cts_core.object_paths import FolderPath

OUT = FolderPath("data/out")


class Objects:
    """An object store that is probed."""

    def __init__(self) -> None:
        self.probed: list[str] = []
        self.error: Exception | None = None

    async def probe(self, folder: FolderPath) -> None:
        self.probed.append(folder)
        if self.error is not None:
            raise self.error


async def test_writable_folder_is_probed_once_in_a_while():
    times = [0.0]
    objects = Objects()
    folders = WritableFolders(objects, lambda: times[-1])  # type: ignore[arg-type]  # what is asked of the port
    for time in (0.0, KNOWN_SECONDS - 1, KNOWN_SECONDS, KNOWN_SECONDS + 1):
        times.append(time)
        await folders.check(OUT)
    assert objects.probed == [OUT, OUT]


async def test_each_folder_is_probed_for_itself():
    objects = Objects()
    folders = WritableFolders(objects)  # type: ignore[arg-type]  # what is asked of the port
    for folder in (OUT, OUT.folder("below"), FolderPath("data")):
        await folders.check(folder)
    assert objects.probed == ["data/out/", "data/out/below/", "data/"]


async def test_refused_folder_is_probed_each_time():
    objects = Objects()
    objects.error = PathInaccessibleError("no")
    folders = WritableFolders(objects)  # type: ignore[arg-type]  # what is asked of the port
    for _ in range(2):
        with pytest.raises(PathInaccessibleError):
            await folders.check(OUT)
    assert objects.probed == [OUT, OUT]


async def test_known_folders_are_bounded():
    objects = Objects()
    folders = WritableFolders(objects)  # type: ignore[arg-type]  # what is asked of the port
    for number in range(MAX_KNOWN + 1):
        await folders.check(OUT.folder(str(number)))
    assert len(folders._known) == MAX_KNOWN
