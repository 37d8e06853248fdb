"""A fake service behind the proxy, which sends the responses that a test sets, and a server that forwards to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.harness.server import ServerHarness, running_server

Respond = Callable[["ReceivedRequest", asyncio.StreamWriter], Awaitable[None]]
ROOT = {"service_name": "CDM Task Service", "version": "0.1", "server_time": "2026-01-01T00:00:00Z"}


@dataclass
class ReceivedRequest:
    """A request that the fake received: method, target, headers in their original case, and the body so far."""

    method: str
    target: str
    raw_headers: list[tuple[str, str]]
    reader: asyncio.StreamReader
    body: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.raw_headers}

    async def read_body(self) -> None:
        if "content-length" in self.headers:
            self.body = await self.reader.readexactly(int(self.headers["content-length"]))
        while self.headers.get("transfer-encoding") == "chunked":
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            self.body += (await self.reader.readexactly(size + 2))[:-2]
            if size == 0:
                return


@dataclass
class FakeUpstream:
    """A fake CTS: ``respond`` serves all requests but that for the root document, which gets ``root_response``."""

    port: int = 0
    requests: list[ReceivedRequest] = field(default_factory=list)
    respond: Respond | None = None
    root_response: bytes = b""
    """Empty: the request for the root document never gets a response."""
    root_requests: int = 0
    """How often the root document was requested."""
    serving: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/base"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request, then close the connection."""
        self.serving.add(asyncio.current_task())
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
            method, target, _ = head[0].split(" ")
            headers = [
                (name, value.strip()) for name, _, value in (h.partition(":") for h in head[1:-1])
            ]
            received = ReceivedRequest(method, target, headers, reader)
            if method == "GET" and target == "/base/" and "authorization" not in received.headers:
                self.root_requests += 1
                while not self.root_response:
                    await asyncio.sleep(0.01)
                writer.write(self.root_response)
            else:
                self.requests.append(received)
                if self.respond is None:
                    await received.read_body()
                    writer.write(http_response(json.dumps({"body": len(received.body)}).encode()))
                else:
                    await self.respond(received, writer)
            await writer.drain()

    @property
    def last(self) -> ReceivedRequest:
        return self.requests[-1]

    def respond_with(self, *parts: bytes) -> None:
        """Send these bytes in response to every request, after reading its body."""

        async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
            await received.read_body()
            for part in parts:
                writer.write(part)
                await writer.drain()

        self.respond = respond


def http_response(
    body: bytes = b"{}",
    status: str = "200 OK",
    content_type: str = "application/json",
    **headers: str,
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def error_response(status: str, message: str, appcode: int | None = None, **headers: str) -> bytes:
    error = {"httpcode": int(status[:3]), "message": message, "appcode": appcode}
    return http_response(json.dumps({"error": error}).encode(), status, **headers)


@asynccontextmanager
async def running_upstream(port: int = 0) -> AsyncIterator[FakeUpstream]:
    upstream = FakeUpstream(root_response=http_response(json.dumps(ROOT).encode()))
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", port, limit=1 << 16)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in upstream.serving:
            task.cancel()
        await asyncio.gather(*upstream.serving, return_exceptions=True)


@asynccontextmanager
async def running_proxy(folder: Path, url: str, **remote: Any) -> AsyncIterator[ServerHarness]:
    """Run a Jupyter server with CTS that forwards to a URL."""
    settings = {"url": url, "token_file": str(folder / "session"), "timeout_s": 5, **remote}
    config = {"CTSExtension": {"preset": "remote", "overrides": {"remote": settings}}}
    async with running_server(folder, {}, config) as server:
        yield server


async def request_as_kernel(
    server: ServerHarness, method: str, path: str, **kwargs: Any
) -> httpx.Response:
    """Send a request with the kernel's token; the fake's responses are not checked against our OpenAPI."""
    headers = {"Authorization": f"Bearer {server.kernel_token}", **kwargs.pop("headers", {})}
    return await server.http.request(method, server.root + path, headers=headers, **kwargs)


def renew_token(file: Path, token: str) -> None:
    """Write a new token, as a login during the server's run does, with a time that is newer on any file system."""
    file.write_text(token)
    os.utime(file, times=(time.time() + 60, time.time() + 60))


def error_message(response: httpx.Response) -> str:
    error = response.json()["error"]
    assert error["httpcode"] == response.status_code
    assert error["request_id"] == response.headers["x-request-id"]
    return error["message"]
