"""An error response keeps the connection alive as any other response does."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.harness.server import ServerHarness


@pytest.mark.parametrize(
    ("method", "path", "extra", "status"),
    [
        ("GET", "/nope", "", 404),
        ("DELETE", "/whoami", "", 405),
        ("GET", "/whoami", "Authorization: Bearer wrong\r\n", 401),
        (
            "OPTIONS",
            "/jobs",
            "Origin: https://x.org\r\nAccess-Control-Request-Method: PUT\r\n",
            204,
        ),
    ],
)
async def test_keep_alive(server: ServerHarness, method: str, path: str, extra: str, status: int):
    url = urlsplit(server.root)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)

    async def ask(method: str, path: str, extra: str) -> int:
        token = (
            "" if "Authorization" in extra else f"Authorization: Bearer {server.kernel_token}\r\n"
        )
        request = f"{method} {url.path}{path} HTTP/1.1\r\nHost: {url.netloc}\r\n{token}{extra}\r\n"
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        await reader.readexactly(int(length or 0))
        return int(head.split()[1])

    async with asyncio.timeout(20):
        assert await ask(method, path, extra) == status
        assert await ask("GET", "/whoami", "") == 200
    writer.close()
    await writer.wait_closed()
