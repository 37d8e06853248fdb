"""A Jupyter server with CTS in the test's event loop, and what tests send to it and check of its responses."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import responses
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from jupyter_server.serverapp import ServerApp
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from traitlets.config import Config

from cts_jupyter.server.http.openapi import describe
from cts_jupyter.server.http.route import find_route
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.paths import COPY_INPUTS

JUPYTER_TOKEN = "jupyters-own-token"
IDEMPOTENCY_KEY = "Idempotency-Key"


class EventReader:
    """Iterates over server-sent events as dictionaries: the data, with ``event`` and ``id`` added."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.cursor = ""

    async def open(self) -> None:
        """Wait for the cursor that the stream begins with."""
        async for line in self._lines:
            if line.startswith("id: "):
                self.cursor = line.removeprefix("id: ")
            elif not line:
                return

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        fields: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if line and name:
                fields[name] = value
            elif not line:
                if "data" in fields:
                    yield {
                        **json.loads(fields["data"]),
                        "event": fields["event"],
                        "id": fields.get("id"),
                    }
                fields = {}


@dataclass
class ServerHarness:
    """A running Jupyter server with CTS, and an HTTP client for it."""

    app: ServerApp
    root: str
    kernel_token: str
    http: httpx.AsyncClient

    @property
    def extension(self) -> Any:
        return self.app.extension_manager.extension_points["cts_jupyter"].app

    @property
    def engine(self) -> Any:
        return self.extension._core

    async def request(
        self, method: str, path: str, *, token: str | None = "kernel", **kwargs: Any
    ) -> httpx.Response:
        """Send a request and check its response against our OpenAPI; ``token`` is ``kernel``, ``jupyter``, None, or the text itself."""
        text = {"kernel": self.kernel_token, "jupyter": JUPYTER_TOKEN}.get(token or "", token)
        headers = dict(kwargs.pop("headers", None) or {})
        if text is not None:
            headers.setdefault("Authorization", f"Bearer {text}")
        response = await self.http.request(method, self.root + path, headers=headers, **kwargs)
        check_response(response, method, path)
        return response

    @asynccontextmanager
    async def events(
        self, path: str = "/events", *, last_event_id: str | None = None, **query: str
    ) -> AsyncIterator[EventReader]:
        """Open an event stream and yield it once its cursor has arrived."""
        headers = {"Authorization": f"Bearer {self.kernel_token}"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        url = self.root + path
        async with self.http.stream("GET", url, params=query, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            reader = EventReader(response.aiter_lines())
            await reader.open()
            yield reader

    async def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("GET", path, **kwargs)

    async def post(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("POST", path, **kwargs)

    async def put(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("PUT", path, **kwargs)

    async def upload(self, path: str, content: bytes) -> None:
        response = await self.put("/files/content", params={"path": path}, content=content)
        assert response.status_code == 200, response.text

    async def register_image(self) -> None:
        """Register the image ``host/tool``."""
        response = await self.post("/admin/images/host/tool", json={"executable": str(COPY_INPUTS)})
        assert response.status_code == 200, response.text

    async def prepare(self, *names: str) -> None:
        """Register the image ``host/tool`` and store the inputs ``data/in/<name>``."""
        await self.register_image()
        for name in names or ("a", "b"):
            await self.upload(f"data/in/{name}", name.encode())


@functools.cache
def validator(reference: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": reference, "components": describe(ROUTES)["components"]},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def check_response(response: httpx.Response, method: str, path: str) -> None:
    """Assert that a response has its request id and is what our own OpenAPI describes for this route."""
    assert response.headers["x-request-id"]
    if response.status_code == 204:
        assert response.content == b""
        return
    if method == "HEAD":
        return
    if response.status_code >= 400:
        validator("#/components/schemas/ErrorEnvelope").validate(response.json())
        error = response.json()["error"]
        assert error["httpcode"] == response.status_code
        assert error["request_id"] == response.headers["x-request-id"]
        assert error["time"].endswith("Z")
        assert error["httpstatus"] == responses[response.status_code]
        assert (error.get("appcode") is None) == (error.get("apperror") is None)
        if response.status_code >= 500:
            assert "appcode" not in error
        return
    match = find_route(ROUTES, method, path.partition("?")[0])
    assert isinstance(match, tuple), match
    route = match[0]
    described = describe(ROUTES)["paths"][route.path][method.lower()]["responses"]
    assert str(response.status_code) in described
    content = described["200"].get("content", {})
    media = response.headers["content-type"]
    if "application/json" in content and media == "application/json":
        schema = content["application/json"]["schema"]
        options = [o["$ref"] for o in schema.get("anyOf", [schema]) if "$ref" in o]
        # Of several responses one is for a parameter of the query.
        fitting = [option for option in options if validator(option).is_valid(response.json())]
        if options and not fitting:
            validator(options[0]).validate(response.json())
    else:
        # Objects keep the type that they were stored with.
        assert route.streams
        assert route.media in (media, "application/octet-stream", "text/*")


def submission(**changes: Any) -> dict[str, Any]:
    return {
        "cluster": "local",
        "image": "host/tool",
        "params": {
            "args": [{"type": "input_files", "input_files_format": "space_separated_list"}],
            "environment": {"OUT": "/output_files"},
        },
        "output_dir": "data/out",
        "input_files": ["data/in/a", "data/in/b"],
        **changes,
    }


async def submit(server: ServerHarness, body: dict, key: str | None = None) -> str:
    """Submit a job, with this idempotency key if one is given; return its id."""
    response = await server.post("/jobs", json=body, headers={IDEMPOTENCY_KEY: key} if key else {})
    assert response.status_code == 200, response.text
    return response.json()["job_id"]


async def wait_for(server: ServerHarness, job_id: str, *states: str) -> dict:
    """Wait by the event stream until the job is in one of these states, and return its status."""
    async with asyncio.timeout(60):
        async with server.events(job=job_id, after="2020-01-01T00:00:00Z") as events:
            async for event in events:
                if event.get("state") in (states or ("complete", "error", "canceled")):
                    break
    return (await server.get(f"/jobs/{job_id}/status")).json()


@asynccontextmanager
async def running_server(
    folder: Path, settings: Mapping[str, Any], config: Mapping[str, Any] | None = None
) -> AsyncIterator[ServerHarness]:
    """Run a Jupyter server with CTS in this event loop; its files lie below the folder."""
    address = (config or {}).get("ServerApp", {}).get("ip", "127.0.0.1")
    (sock,) = bind_sockets(0, address)
    port = sock.getsockname()[1]
    merged = {
        "ServerApp": {"base_url": "/a%40b/", **(config or {}).get("ServerApp", {})},
        "IdentityProvider": {"token": JUPYTER_TOKEN, **(config or {}).get("IdentityProvider", {})},
        "CTSExtension": {
            "preset": "embedded",
            "home": str(folder / "cts-home"),
            "owner": "ana",
            "overrides": {"local": {"cpus": 2, "memory": 1_000_000_000}, **settings},
            **(config or {}).get("CTSExtension", {}),
        },
    }
    app = ServerApp(
        config=Config(merged),
        port=port,
        root_dir=str(folder),
        allow_root=True,
        jpserver_extensions={"cts_jupyter": True},
    )
    app.init_signal = lambda: None
    app.initialize(argv=[], new_httpserver=False, find_extensions=False)
    http_server = HTTPServer(
        app.web_app, max_body_size=app.max_body_size, ssl_options=app.ssl_options
    )
    http_server.add_socket(sock)
    await app.extension_manager.start_all_extensions()
    token = _kernel_token(Path(app.runtime_dir)) or "no-server-file"
    # Without TLS: reading the certificates of a context takes longer than a test.
    async with httpx.AsyncClient(timeout=30, verify=False) as client:
        yield ServerHarness(app, f"http://{address}:{port}/a%40b/cts", token, client)
    http_server.stop()
    await app._cleanup()
    await http_server.close_all_connections()


def _kernel_token(folder: Path) -> str | None:
    files = list(folder.glob("cts-server-*.json"))
    return json.loads(files[0].read_text())["token"] if files else None
