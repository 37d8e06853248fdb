"""Questions to other services over HTTP, whose answers are bounded in time and size, and read whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

MAX_ANSWER = 1 << 20
"""Bytes of an answer."""


class NoAnswerError(Exception):
    """There was none, or more of it than there may be; the text says why, without what was sent."""


class HttpClient:
    """A few connections to one service."""

    def __init__(self, *, timeout: float, connections: int) -> None:
        """``timeout``: seconds until a question is given up, its wait for one of the connections included."""
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            timeout=timeout,
            limits=httpx.Limits(max_connections=connections),
            # A compressed answer would have no bound.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> tuple[int, bytes]:
        """The answer's status and content. Raises NoAnswerError."""
        body = b""
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    method, url, headers=headers, params=query, content=content
                ) as answer,
            ):
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > MAX_ANSWER:
                        raise NoAnswerError("its answer is too long")
        except TimeoutError:
            raise NoAnswerError(f"it did not answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise NoAnswerError(f"{e}" or type(e).__name__) from None
        return answer.status_code, body
