"""The HTTP client by a proxy of its own, and what others answer in JSON."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from cts_core.http_client import SHORT_JSON, HttpClient, read_json


async def _serve_by_socks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Grant a SOCKS5 connection to any host, and answer one request with the host's name and port."""
    version, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    writer.write(bytes((version, 0)))
    _, _, _, kind = await reader.readexactly(4)
    assert kind == 3, "the name is the proxy's to look up"
    name = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    port = int.from_bytes(await reader.readexactly(2))
    writer.write(bytes((version, 0, 0, 1)) + bytes(6))
    await reader.readuntil(b"\r\n\r\n")
    body = f"{name}:{port}".encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
    writer.write(body)
    await writer.drain()
    writer.close()


async def test_requests_go_by_the_proxy_that_is_named_for_the_client():
    async with await asyncio.start_server(_serve_by_socks, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = HttpClient(
            "jaws.example.org", timeout=10, connections=1, proxy=f"socks5h://127.0.0.1:{port}"
        )
        answer = await client.send("GET", "http://jaws.example.org:8080/api/v2/user")
        await client.close()
    assert answer == (200, b"jaws.example.org:8080")


@pytest.mark.parametrize("is_long", [False, True])
async def test_long_json_is_read_off_the_loop(monkeypatch: pytest.MonkeyPatch, is_long: object):
    value = [{"name": "x" * SHORT_JSON}] if is_long else [{"name": "x"}]
    loads, readers = json.loads, []

    def load(*args: object, **kwargs: object) -> object:
        readers.append(threading.current_thread())
        return loads(*args, **kwargs)  # type: ignore[arg-type]

    content = json.dumps(value)
    monkeypatch.setattr(json, "loads", load)
    assert await read_json(content) == value
    assert [reader is not threading.main_thread() for reader in readers] == [is_long]


@pytest.mark.parametrize("content", ["{", "[" * 10**6, b"\xff"])
async def test_json_that_cannot_be_read_is_one_error(content: str | bytes):
    with pytest.raises(ValueError):  # noqa: PT011 - also its subclasses
        await read_json(content)
