"""The client of any CTS service, for notebooks, scripts and the magics. Blocking."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cts_jupyter.client.api.admin import AdminEndpoints
from cts_jupyter.client.api.base import KEY_HEADER, drop_none
from cts_jupyter.client.api.files import FileEndpoints
from cts_jupyter.client.api.jobs import JobEndpoints
from cts_jupyter.client.api.listing import ListingEndpoints
from cts_jupyter.client.api.refdata import RefdataEndpoints
from cts_jupyter.client.api.service import ServiceEndpoints
from cts_jupyter.client.models import JobDetails
from cts_jupyter.client.transport import (
    CTSClientError,
    CTSConnectionError,
    CTSRequestError,
    Transport,
)
from cts_jupyter.discovery import Connection

__all__ = ["CTSClient", "CTSClientError", "CTSConnectionError", "CTSRequestError", "JobDetails"]

_Client = TypeVar("_Client")


class CTSClient(ServiceEndpoints, ListingEndpoints, JobEndpoints, FileEndpoints, RefdataEndpoints):
    """A client of a CTS service. Safe to use from several threads.

    Every method raises CTSRequestError when the service refuses, CTSConnectionError when it cannot be reached.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str | None],
        *,
        verify: ssl.SSLContext | bool = True,
        is_own_server: bool = False,
        socket: Path | None = None,
    ) -> None:
        """``token`` is called before each request; ``verify`` is httpx's; a Unix ``socket`` takes the place of the host.

        The environment's proxies are used, but never to this machine, nor to a server that ``is_own_server``.
        """
        self.url = url.rstrip("/")
        super().__init__(
            Transport(url, token, verify=verify, is_own_server=is_own_server, socket=socket)
        )

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Return a client of the service that :func:`cts_jupyter.discovery.find_connection` found."""
        return connect(cls, connection)

    @cached_property
    def admin(self) -> AdminEndpoints:
        """The endpoints for admins."""
        return AdminEndpoints(self._transport)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        key: str | None = None,
    ) -> Any:  # noqa: ANN401 - any JSON
        """Send a request as it is, and return the answer's JSON; ``key`` is its idempotency key."""
        return self._transport.json(
            method,
            path,
            params=query,
            headers=drop_none(**{KEY_HEADER: key}),
            **drop_none(json=body),
        )

    @contextmanager
    def pieces(
        self, path: str, *, query: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        """Send a request, and return the headers of the answer, and its bytes as they come."""
        with self._transport.stream("GET", path, params=query) as response:
            yield response.headers, self._transport.pieces(response)

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def connect(make: Callable[..., _Client], connection: Connection) -> _Client:
    """Return a client of the service of a connection. ``make`` takes the arguments of :class:`CTSClient`."""
    return make(
        connection.url,
        connection.token,
        verify=connection.tls(),
        is_own_server=connection.is_page_server,
        socket=connection.socket,
    )
