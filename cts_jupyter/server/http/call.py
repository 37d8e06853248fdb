"""The request as a route's handler gets it, and the streams that it may read or return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeAlias

from cts_core.concurrency import once
from cts_core.engine.engine import Engine
from cts_core.identity.identity import Credentials, User
from cts_core.model.worker import ContainerId

if TYPE_CHECKING:
    # Its client of the service takes long to import, and the engine needs none.
    from cts_core.refdata_service.service import RefdataService
    from cts_jupyter.server.http.route import Route

Core: TypeAlias = "Engine | RefdataService"
"""The application behind a route table."""
UPLOAD_PIECES = 4
"""Pieces of an upload that are buffered for the object store before the sender is held back."""
UPLOAD_BUFFER = (UPLOAD_PIECES + 2) * (64 << 10)
"""Bytes of them at most: tornado's pieces are of 64 KiB, of which one more waits and one is with the store."""


@dataclass(frozen=True)
class Call:
    """One authenticated and routed request."""

    running: Core | None
    """The application; None only on routes that need none."""
    caller: User | None
    """None on routes that anyone may use."""
    headers: Mapping[str, str]
    """The request's headers; names are matched without regard to case."""
    routes: Sequence[Route]
    """The whole route table, for the OpenAPI description."""
    container: ContainerId | None = None
    """The container whose worker sends the request, authenticated by a token for this container alone."""

    @property
    def credentials(self) -> Credentials:
        """The caller's credentials, for requests to other services in their name."""
        return Credentials(self.headers.get("Authorization"))

    @property
    def core(self) -> Core:
        """The engine or the staging service, on routes of both. Raises LookupError where neither runs."""
        if self.running is None:
            raise LookupError("the route table says that this route needs no engine")
        return self.running

    @property
    def engine(self) -> Engine:
        """The engine, on routes that need it. Raises TypeError on others."""
        if not isinstance(self.running, Engine):
            raise TypeError("this route is not the engine's, or the table says that it needs none")
        return self.running

    @property
    def staging(self) -> RefdataService:
        """The staging service, on its routes. Raises TypeError on others."""
        if self.running is None or isinstance(self.running, Engine):
            raise TypeError("this route is not the staging service's")
        return self.running

    @property
    def user(self) -> User:
        """The caller, on routes that need one. Raises LookupError on others."""
        if self.caller is None:
            raise LookupError("the route table lets anyone use this route")
        return self.caller


@dataclass(frozen=True)
class Stream:
    """A response body that is sent piece by piece; ``size`` is its length in bytes, if known beforehand."""

    body: AsyncIterator[bytes]
    content_type: str
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, content: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> Self:
        """Return a stream of one piece."""
        return cls(once(content), content_type, len(content), headers or {})

    async def close(self) -> None:
        """Release the source of the pieces, also when they were not read to their end."""
        if isinstance(self.body, AsyncGenerator):
            await self.body.aclose()


class UploadInterruptedError(ConnectionError):
    """The client disconnected before the end of its upload."""


class Upload:
    """The body of a request as it arrives; backpressure holds the sender back while the reader is busy."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(UPLOAD_PIECES)
        self._closed = False
        self._interrupted = False

    @property
    def is_full(self) -> bool:
        """Whether a further piece has to wait for the reader."""
        return self._pieces.full() and not self._closed

    async def feed(self, piece: bytes | None) -> None:
        """Add a piece, or None at the end; returns once there is room for it."""
        if not self._closed:
            await self._pieces.put(piece)

    def close(self) -> None:
        """Stop reading: pieces that still come are dropped."""
        self._closed = True
        while not self._pieces.empty():
            self._pieces.get_nowait()

    def interrupt(self) -> None:
        """Raise UploadInterruptedError in the reader, since the client has disconnected."""
        self.close()
        self._interrupted = True
        self._pieces.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._pieces.get()
        if self._interrupted:
            raise UploadInterruptedError("the sender went away before the end of its upload")
        if piece is None:
            raise StopAsyncIteration
        return piece
