"""A store that is silent, or has too much to do: each wait for it is bounded, and none follows another in vain."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from cts_core.config.sections import S3Settings
from cts_core.errors import UnavailableError
from cts_core.objects.s3.client import THREADS, Api, retry
from cts_core.objects.s3.errors import SilentStoreError, TransientError
from cts_core.objects.s3.upload import MEMORY, PART, Upload


class SilentApi(Api):
    """A store that falls silent at one operation: a call of it fails, and those after it return only in the end."""

    def __init__(self, silent_at: str) -> None:
        super().__init__(S3Settings(url="http://127.0.0.1:1", access_key="k"))
        self._silent_at = silent_at
        self.operations: list[str] = []
        self.end = asyncio.Event()

    async def call(
        self, operation: str, path: str, *, writing: bool = False, **parameters: object
    ) -> Mapping[str, Any]:
        self.operations.append(operation)
        if operation == self._silent_at:
            raise SilentStoreError("no answer")
        if self._silent_at in self.operations:
            await self.end.wait()
        return {"UploadId": "id", "ETag": "etag"}


async def body(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, PART):
        yield bytes(PART)


@pytest.mark.parametrize(
    ("silent_at", "parts", "expected"),
    [
        ("put_object", 1, ["put_object"]),
        ("create_multipart_upload", 3, ["create_multipart_upload"]),
        ("upload_part", 3, ["create_multipart_upload", "upload_part", "abort_multipart_upload"]),
    ],
)
async def test_upload_to_a_silent_store_waits_once(
    silent_at: str, parts: int, expected: list[str]
) -> None:
    api = SilentApi(silent_at)
    with pytest.raises(SilentStoreError):
        async with asyncio.timeout(30):
            await Upload(api, "data/a", {}).run(body(parts * PART))
    api.end.set()
    await asyncio.gather(*api._running)
    assert api.operations == expected


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def test_request_that_no_thread_takes_is_given_up(gate: threading.Event) -> None:
    settings = S3Settings(
        url="http://127.0.0.1:1", access_key="k", access_secret=SecretStr("s"), timeout_s=0.05
    )
    api = Api(settings)
    await api.open()
    blocked = [api.submit(gate.wait) for _ in range(THREADS)]
    with pytest.raises(UnavailableError, match="too many requests wait for it"):
        await api.call("head_object", "data/a")
    gate.set()
    assert all([await api.result_of(work, "data/a") for work in blocked])
    await api.close()


async def test_no_attempt_begins_after_the_time_for_all() -> None:
    attempts = []

    async def attempt(number: int) -> None:
        attempts.append(number)
        raise TransientError("it broke")

    with pytest.raises(UnavailableError, match="it broke"):
        await retry("data/a", attempt, seconds=0)
    assert attempts == [1]


class SlowApi(Api):
    """A store that keeps each part until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(S3Settings(url="http://127.0.0.1:1", access_key="k"))
        self.go_on = asyncio.Event()

    async def call(
        self, operation: str, path: str, *, writing: bool = False, **parameters: object
    ) -> Mapping[str, Any]:
        if operation == "upload_part":
            await self.go_on.wait()
        return {"UploadId": "id", "ETag": "etag"}


@pytest.mark.parametrize("size", [2 * PART, 4 * PART])
async def test_upload_that_the_store_holds_back_takes_two_parts_of_memory(size: int) -> None:
    api = SlowApi()
    piece = bytes(64 << 10)
    taken = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(size // len(piece)):
            taken += len(piece)
            yield piece
            await asyncio.sleep(0)

    tracemalloc.start()
    try:
        upload = asyncio.create_task(Upload(api, "data/a", {}).run(pieces()))
        async with asyncio.timeout(30):
            while taken < min(size, 2 * PART + len(piece)):
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not upload.done()
        assert tracemalloc.get_traced_memory()[0] < MEMORY + PART // 4
    finally:
        tracemalloc.stop()
    api.go_on.set()
    assert await upload == "etag"
