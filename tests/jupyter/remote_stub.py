"""A service that answers as a test tells it to, and remembers what came, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Respond = Callable[["Received", asyncio.StreamWriter], Awaitable[None]]
ROOT = {"service_name": "CDM Task Service", "version": "0.1", "server_time": "2026-01-01T00:00:00Z"}


@dataclass
class Received:
    """A request: its line, its headers as they were written, its body so far."""

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
            size = int(await self.reader.readline(), 16)
            self.body += (await self.reader.readexactly(size + 2))[:-2]
            if size == 0:
                return


@dataclass
class Stub:
    """``respond`` answers all but the root, which ``root`` answers."""

    port: int = 0
    requests: list[Received] = field(default_factory=list)
    respond: Respond | None = None
    root: bytes = b""
    roots: int = 0
    """How often it was asked what it is."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/base"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
            method, target, _ = head[0].split(" ")
            headers = [
                (name, value.strip()) for name, _, value in (h.partition(":") for h in head[1:-1])
            ]
            received = Received(method, target, headers, reader)
            if method == "GET" and target == "/base/" and "authorization" not in received.headers:
                self.roots += 1
                writer.write(self.root)
            else:
                self.requests.append(received)
                if self.respond is None:
                    await received.read_body()
                    writer.write(answer(json.dumps({"body": len(received.body)}).encode()))
                else:
                    await self.respond(received, writer)
            await writer.drain()
        writer.close()

    @property
    def last(self) -> Received:
        return self.requests[-1]

    def say(self, *parts: bytes) -> None:
        """Answer every request so, its body read."""

        async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
            await received.read_body()
            for part in parts:
                writer.write(part)
                await writer.drain()

        self.respond = respond


def answer(
    body: bytes = b"{}",
    status: str = "200 OK",
    content_type: str = "application/json",
    **headers: str,
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def refusal(status: str, message: str, appcode: int | None = None, **headers: str) -> bytes:
    error = {"httpcode": int(status[:3]), "message": message, "appcode": appcode}
    return answer(json.dumps({"error": error}).encode(), status, **headers)


@asynccontextmanager
async def running_stub(port: int = 0) -> AsyncIterator[Stub]:
    stub = Stub(root=answer(json.dumps(ROOT).encode()))
    server = await asyncio.start_server(stub.serve, "127.0.0.1", port, limit=1 << 20)
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.close()
