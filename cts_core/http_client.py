"""An HTTP client for other services. Responses are read whole, and bounded in time and size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx

from cts_core.concurrency import run_in_pool
from cts_core.own_machine import is_own_machine

MAX_RESPONSE_BYTES = 1 << 20
"""Bytes of one response's body, unless a client is made with another bound."""

SHORT_JSON = 1 << 16
"""Bytes of JSON that are read on the event loop: a thread would take longer to begin."""


class NoResponseError(Exception):
    """No response, or too long a one. The message says why, and never holds what was sent."""


class HttpClient:
    """A small pool of connections to one service, by a proxy of the environment unless it is on this machine."""

    def __init__(
        self,
        host: str,
        *,
        timeout: float,
        connections: int,
        max_bytes: int | None = None,
        proxy: str = "",
    ) -> None:
        """``timeout`` is in seconds for one request, including its wait for one of the ``connections`` to ``host``.

        All requests go by ``proxy``, if it is given, whatever the environment says.
        """
        self._host = host
        self._proxy = proxy
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._limits = httpx.Limits(max_connections=connections)
        self._opening = asyncio.Lock()
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close every connection."""
        if self._http is not None:
            await self._http.aclose()

    async def _client(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._http is None:
                self._http = await asyncio.to_thread(self._open)
        return self._http

    def _open(self) -> httpx.AsyncClient:
        transport = None
        if self._proxy or is_own_machine(self._host):
            # With a transport of its own, httpx uses no proxy of the environment.
            transport = httpx.AsyncHTTPTransport(limits=self._limits, proxy=self._proxy or None)
        return httpx.AsyncClient(
            timeout=self._timeout,
            limits=self._limits,
            transport=transport,
            # A compressed response could grow beyond every bound.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> tuple[int, bytes]:
        """Send a request and return the response's status and content. Raises NoResponseError."""
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout),
                (await self._client()).stream(
                    method, url, headers=headers, params=query, content=content
                ) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > (self._max_bytes or MAX_RESPONSE_BYTES):
                        raise NoResponseError("its answer is too long")
        except TimeoutError:
            raise NoResponseError(f"it did not answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise NoResponseError(f"{e}" or type(e).__name__) from None
        return response.status_code, bytes(body)


async def read_json(content: bytes | str) -> Any:  # noqa: ANN401 - as others wrote it
    """Return what JSON of another service says; what is long is read in a thread. Raises ValueError."""
    if len(content) <= SHORT_JSON:
        return _read_json(content)
    return await run_in_pool(_read_json, content)


def _read_json(content: bytes | str) -> Any:  # noqa: ANN401 - as others wrote it
    try:
        # A call of ours for each object: a thread gives way only where Python code runs.
        return json.loads(content, object_hook=_same)
    except RecursionError as e:
        raise ValueError("it is nested too deep") from e


def _same(value: dict[str, Any]) -> dict[str, Any]:
    return value
