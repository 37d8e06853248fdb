"""A client that sends one request again and again over kept connections, as ``wrk`` does, and tells how long each answer took."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

_LEAST = 2
"""Answers that are waited for in any time."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def cpu_clock(pid: int) -> Callable[[], float]:
    """Return a clock of the cpu seconds that a process of this machine has used: what else runs here does not move it."""
    clock_id = (~pid << 3) | 2  # as clock_getcpuclockid(3) makes it on Linux
    return lambda: time.clock_gettime(clock_id)


async def _repeat(
    url: str,
    head: bytes,
    is_over: Callable[[], bool],
    clock: Callable[[], float],
    took: list[float],
) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        while not is_over():
            start = clock()
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(answer)
            if not answer.startswith(b"HTTP/1.1 200") or length is None:
                raise SystemExit(f"{url} failed under load:\n{answer.decode()}")
            await reader.readexactly(int(length[1]))
            took.append(clock() - start)
    finally:
        writer.close()


async def load(
    url: str,
    token: str,
    *,
    connections: int,
    seconds: float,
    answers: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return the seconds by a clock that each answer took, of as many connections at once, each of which waits for its answer.

    It ends after so many seconds, or so many answers.
    """
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    head = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    took: list[float] = []
    until = time.perf_counter() + seconds

    def is_over() -> bool:
        # However busy the machine is, there are some answers.
        return len(took) >= max(_LEAST, answers if time.perf_counter() < until else 0)

    await asyncio.gather(
        *(_repeat(url, head.encode(), is_over, clock, took) for _ in range(connections))
    )
    return took
