"""Reads an object from S3 piece by piece, and goes on where a connection broke off."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Self

from botocore.exceptions import BotoCoreError

from cts_core.errors import ChecksumMismatchError
from cts_core.objects.s3.client import TRIES, Api, pause
from cts_core.objects.s3.errors import (
    ConditionError,
    PassingError,
    PastEndError,
    translate,
    unavailable,
)
from cts_core.objects.s3.metadata import etag_in
from cts_core.worker.checksum import CHUNK_SIZE

_PARTIAL = 206


class ObjectBody:
    """The bytes of one object, or of a part of it; ``close`` it in any case."""

    def __init__(self, api: Api, path: str, position: int, end: int | None, etag: str) -> None:
        self._api = api
        self._path = path
        self._position = position
        self._end = end
        self._etag = etag
        self._body: Any = None
        self._step: Future[bytes] | None = None
        self.headers: Mapping[str, str] = {}
        """Of the first answer."""

    @classmethod
    async def open(
        cls, api: Api, path: str, *, seek: int = 0, length: int | None = None, etag: str = ""
    ) -> Self:
        """Ask for the object; of one that ends before ``seek`` there are no bytes.

        Raises ConditionError when it is not ``etag``.
        """
        body = cls(api, path, seek, None if length is None else seek + length, etag)
        try:
            body.headers = await body._request()
        except PastEndError:
            body._end = seek
        else:
            body._end = seek + int(body.headers.get("content-length", 0))
            body._etag = etag_in(body.headers)
        return body

    @property
    def left(self) -> int:
        """Bytes that ``next`` has not given yet."""
        return (self._end or self._position) - self._position

    async def next(self) -> bytes:
        """The next piece; empty at the end.

        Raises UnavailableError, and ChecksumMismatchError when the object was changed meanwhile.
        """
        stalled = 0
        while self.left:
            try:
                if self._body is None:
                    await self._request()
                piece = await self._read()
            except ConditionError as e:
                raise ChecksumMismatchError(
                    f"The object '{self._path}' was changed while it was read: read it again"
                ) from e
            except PassingError as e:
                self.close()
                stalled += 1
                if stalled == TRIES:
                    raise unavailable(self._path, e) from e
                await pause(stalled)
            else:
                self._position += len(piece)
                return piece
        return b""

    async def _request(self) -> Mapping[str, str]:
        parameters: dict[str, Any] = {"ChecksumMode": "ENABLED"}
        if self._position or self._end is not None:
            last = "" if self._end is None else self._end - 1
            parameters["Range"] = f"bytes={self._position}-{last}"
        if self._etag:
            parameters["IfMatch"] = f'"{self._etag}"'
        answer = await self._api.call("get_object", self._path, **parameters)
        self._body = answer["Body"]
        if "Range" in parameters and answer["ResponseMetadata"]["HTTPStatusCode"] != _PARTIAL:
            self.close()
            raise unavailable(self._path, "it answers with other bytes than it was asked for")
        headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
        return headers

    async def _read(self) -> bytes:
        read = functools.partial(self._body.read, min(CHUNK_SIZE, self.left))
        self._step = self._api.submit(read)
        try:
            piece = await asyncio.wrap_future(self._step)
        except BotoCoreError as e:
            raise translate(e, self._path) from e
        if not piece:
            raise PassingError("the answer broke off")
        return piece

    def close(self) -> None:
        """Let go of the connection, once nothing reads from it any more."""
        body, self._body = self._body, None
        if body is None:
            return
        if self._step is None:
            body.close()
        else:
            self._step.add_done_callback(lambda _: body.close())
