"""Reads an object from S3 in pieces, and resumes where a connection breaks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Self

from botocore.exceptions import BotoCoreError

from cts_core.errors import ChecksumMismatchError
from cts_core.objects.s3.client import TRIES, Api, back_off
from cts_core.objects.s3.errors import (
    ConditionError,
    PastEndError,
    TransientError,
    translate,
    unavailable,
)
from cts_core.objects.s3.metadata import etag_in
from cts_core.worker.units import CHUNK_SIZE

_PARTIAL = 206


class ObjectBody:
    """The bytes of one object, or of a range of it. It must be closed."""

    def __init__(self, api: Api, path: str, position: int, end: int | None, etag: str) -> None:
        self._api = api
        self._path = path
        self._position = position
        self._end = end
        self._etag = etag
        self._body: Any = None
        self._step: Future[bytes] | None = None
        self.headers: Mapping[str, str] = {}
        """The headers of the first response."""

    @classmethod
    async def open(
        cls, api: Api, path: str, *, seek: int = 0, length: int | None = None, etag: str = ""
    ) -> Self:
        """Request ``length`` bytes of the object from offset ``seek``; past its end there are none.

        Raises ConditionError if the object does not have this ``etag``.
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
        """The bytes that ``next`` has not returned yet."""
        return (self._end or self._position) - self._position

    async def next(self) -> bytes:
        """Return the next piece; empty at the end.

        Raises UnavailableError, and ChecksumMismatchError if the object was changed meanwhile.
        """
        failures = 0
        while self.left:
            try:
                if self._body is None:
                    await self._request()
                piece = await self._read()
            except ConditionError as e:
                raise ChecksumMismatchError(
                    f"The object '{self._path}' was changed while it was read: read it again"
                ) from e
            except TransientError as e:
                self.close()
                failures += 1
                if failures == TRIES:
                    raise unavailable(self._path, e) from e
                await back_off(failures)
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
        response = await self._api.call("get_object", self._path, **parameters)
        self._body = response["Body"]
        if "Range" in parameters and response["ResponseMetadata"]["HTTPStatusCode"] != _PARTIAL:
            self.close()
            raise unavailable(self._path, "it answers with other bytes than it was asked for")
        headers: Mapping[str, str] = response["ResponseMetadata"]["HTTPHeaders"]
        return headers

    async def _read(self) -> bytes:
        read = functools.partial(self._body.read, min(CHUNK_SIZE, self.left))
        self._step = self._api.submit(read)
        try:
            piece = await self._api.result_of(self._step, self._path)
        except BotoCoreError as e:
            raise translate(e, self._path) from e
        if not piece:
            raise TransientError("the answer broke off")
        return piece

    def close(self) -> None:
        """Close the connection, once no thread reads from it any more."""
        body, self._body = self._body, None
        if body is None:
            return
        if self._step is None:
            body.close()
        else:
            self._step.add_done_callback(lambda _: body.close())
