"""A kernel of a Jupyter server elsewhere, as a notebook's page uses it: by REST and a websocket."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

_SECONDS = 90


def run_in_kernel(url: str, headers: Mapping[str, str], *cells: str) -> list[str]:
    """Start a kernel below a server's base URL, run the cells, and return what each printed and resulted in."""
    return asyncio.run(_run(url, headers, cells))


async def _run(url: str, headers: Mapping[str, str], cells: tuple[str, ...]) -> list[str]:
    async with (
        asyncio.timeout(_SECONDS),
        httpx.AsyncClient(base_url=url, headers=headers, timeout=_SECONDS) as http,
    ):
        started = await http.post("/api/kernels", json={"name": "python3"})
        assert started.status_code == httpx.codes.CREATED, started.text
        path = f"/api/kernels/{started.json()['id']}"
        request = HTTPRequest(
            f"{url}{path}/channels".replace("http", "ws", 1), headers=dict(headers)
        )
        socket = await websocket_connect(request)
        try:
            return [await _execute(socket, cell) for cell in cells]
        finally:
            socket.close()
            await http.delete(path)


async def _execute(socket: WebSocketClientConnection, code: str) -> str:
    message_id = uuid.uuid4().hex
    header = {
        "msg_id": message_id, "msg_type": "execute_request", "username": "", "session": "tests", "version": "5.3",
    }  # fmt: skip
    content = {
        "code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
        "stop_on_error": True,
    }  # fmt: skip
    message = {
        "header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": [], "channel": "shell",
    }  # fmt: skip
    await socket.write_message(json.dumps(message))
    shown = ""
    while True:
        reply = json.loads(await socket.read_message() or "null")
        assert reply is not None, "the kernel's connection was closed"
        if reply["parent_header"].get("msg_id") != message_id:
            continue
        content = reply["content"]
        match reply["msg_type"]:
            case "stream":
                shown += content["text"]
            case "execute_result" | "display_data":
                shown += content["data"].get("text/plain", "")
            case "error":
                shown += "\n".join(content["traceback"])
            case "status" if content["execution_state"] == "idle":
                return shown
