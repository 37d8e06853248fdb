"""Compares the client with the route table: every route is called with all its parameters, and its response modelled.

Every method of the client is called for real, once with what it needs and once with each thing that may be given
besides. What it sends is read as the server reads it; what it gets is made of the route's own schema. A new route,
parameter or field fails here until the client has it.
"""

from __future__ import annotations

import inspect
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
from pydantic import BaseModel

from cts_core.model.event import JobProgress
from cts_core.model.job import Submission
from cts_core.states import JobState
from cts_jupyter.client import CTSClient
from cts_jupyter.client.api.admin import AdminEndpoints
from cts_jupyter.client.api.base import Endpoints
from cts_jupyter.server.http.openapi import describe
from cts_jupyter.server.http.parse import read_parameters, read_request
from cts_jupyter.server.http.route import Route, find_route
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.factories import make_event
from tests.harness.server import submission

URL = "http://service.invalid/cts"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NO_CALL = {"close", "of", "pieces", "request", "supports"}
"""Public methods that call no route of their own, or any."""
NOT_CALLED = (
    "/openapi.json",  # read by "supports"
    *("/docs", "/static/", "/examples"),  # for browsers
    *("/external_exec/", "/callback/"),  # for workers and sites
    "/admin/clients",  # not there yet
)
"""Prefixes of routes that no method calls."""
VALUES: dict[str, Any] = {
    "on_piece": abs,
    "after": NOON, "before": NOON, "until": NOON, "runtime": timedelta(minutes=2),
    "notification_age": timedelta(minutes=5), "number": 0, "container_number": 1, "limit": 7, "seek": 1, "length": 5, "tail": 3, "wait": 1,
    "stream": "stdout", "state": "complete", "cluster": "local", "site": "local", "sort": "created", "order": "asc",
    "memory": "60MB", "labels": {"a": "b=c"}, "set_fields": {"a": 1}, "unset_keys": ["b"], "urls": ["https://x.org/"],
    "crc64nvme": "5O33DmauDQI=", "output_dir": "data/out/", "image_id": "host/x", "image": "host/x",
    "from_image": "host/y", "default_refdata_mount_point": "/ref", "path": "data/x", "prefix": "data/",
    "files": [{"file": "data/x", "etag": "e"}], "body": submission(), "user": "ana", "module": "json.tool", "variables": ["OUT"],
}  # fmt: skip
"""Values of parameters by name; any other gets a text, or True."""
BY_METHOD: dict[str, dict[str, Any]] = {
    "check": {"containers": [0, 9]},
    "check_draft": {"containers": [0, 9]},
    "resubmit": {"containers": [0, 9]},
    "check_resubmission": {"containers": [0, 9]},
    "container_page": {"after": 1},
    "files": {"after": "data/x", "match": "*.fa", "checksum": "missing"},
    "file_summary": {"after": "data/x", "match": "*.fa"},
    "outputs": {"after": "data/x"},
    "stream_log": {"stream": "stderr"},
    "admin.stream_log": {"stream": "stderr"},
}


@dataclass
class Use:
    """The parameters and fields that were sent to a route."""

    query: set[str] = field(default_factory=set)
    body: set[str] = field(default_factory=set)


def example(schema: dict[str, Any], *, whole: bool) -> Any:
    """Return a value that matches a schema; with ``whole`` it has all optional fields."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return example(describe(ROUTES)["components"]["schemas"][name], whole=whole)
    if "anyOf" in schema:
        return example(next(s for s in schema["anyOf"] if s.get("type") != "null"), whole=whole)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type", "object")
    if kind == "array":
        return [example(schema["items"], whole=whole)]
    if kind == "object":
        properties = schema.get("properties", {})
        # Unset fields are left out, and fields with a default are always there.
        made = {
            name: example(known, whole=whole)
            for name, known in properties.items()
            if whole or name in schema.get("required", ()) or known.get("default") is not None
        }
        more = schema.get("additionalProperties")
        return made | ({"key": example(more, whole=whole)} if isinstance(more, dict) else {})
    texts = {"date-time": "2026-01-01T00:00:00Z", "duration": "PT1M"}
    return {
        "string": texts.get(schema.get("format", ""), "text"),
        "integer": max(schema.get("minimum", 1), 1),
        "number": 0.5,
        "boolean": False,
    }[kind]


class Service:
    """Parses requests as the server does, records what they used, and responds by the schema."""

    def __init__(self, *, whole: bool = True) -> None:
        self.uses: defaultdict[tuple[str, str], Use] = defaultdict(Use)
        self.asked: list[Route] = []
        self._whole = whole

    def __call__(self, request: httpx.Request) -> httpx.Response:
        found = find_route(
            ROUTES, request.method, request.url.raw_path.decode().partition("?")[0][4:]
        )
        assert isinstance(found, tuple), f"{request.method} {request.url}"
        route, texts = found
        self.asked.append(route)
        body, query = request.read(), request.url.query.decode()
        use = self.uses[route.method, route.path]
        use.query |= set(request.url.params.keys())
        if "Last-Event-ID" in request.headers:
            # Responds the same when the stream is resumed.
            use.query.add("after")
        if route.takes_upload:
            read_parameters(route, texts, query)
        else:
            read_request(route, texts, query, body, request.headers.get("content-type"))
            assert route.body_model or not body, f"{route.path} takes no body"
            use.body |= set(json.loads(body) if body else ())
        return self._answer(route, set(request.url.params.keys()))

    def _answer(self, route: Route, asked: set[str]) -> httpx.Response:
        if route.media == "text/event-stream":
            event = make_event().to_json()
            progress = JobProgress(
                job_id="j", user="ana", containers={JobState.CREATED: 1}
            ).to_json()
            frames = [("progress", progress), ("transition", event), ("end", {})]
            text = "".join(f"event: {kind}\ndata: {json.dumps(d)}\n\n" for kind, d in frames)
            return httpx.Response(200, headers={"Content-Type": route.media}, text=text)
        if route.streams:
            return httpx.Response(200, content=b"bytes")
        content = describe(ROUTES)["paths"][route.path][route.method.lower()]["responses"]
        if "content" not in content.get("200", {}):
            return httpx.Response(204)
        schema = content["200"]["content"]["application/json"]["schema"]
        # Of several responses the last one is that for a parameter.
        for option in schema.get("anyOf", ()):
            if option.get("x-parameter") in {None, *asked}:
                schema = option
        made = example(schema, whole=self._whole)
        if isinstance(made, dict):
            # One page is enough.
            made.pop("next", None)
        return httpx.Response(200, json=made)


def client_of(service: Service) -> CTSClient:
    client = CTSClient(URL, lambda: None)
    client._transport._http = httpx.Client(transport=httpx.MockTransport(service))
    client._description = {}  # what "supports" reads
    return client


def methods() -> list[str]:
    """Return the names of all methods that call the service; those for admins begin with ``admin.``."""
    own, admins = (
        {name for name, _ in inspect.getmembers(calls, inspect.isfunction)}
        for calls in (CTSClient, AdminEndpoints)
    )
    names = [*own - NO_CALL, *(f"admin.{name}" for name in admins - set(dir(Endpoints)))]
    return sorted(name for name in names if not name.rpartition(".")[2].startswith("_"))


def find_method(client: CTSClient, name: str) -> Callable[..., Any]:
    owner, _, own = name.rpartition(".")
    return getattr(client.admin if owner else client, own)


def value(method: str, name: str, hint: object, folder: Path) -> Any:
    if name in ("source", "target"):
        file = folder / name
        file.write_bytes(b"bytes")
        return file
    known = {**VALUES, **BY_METHOD.get(method, {})}
    return known.get(name, True if "bool" in str(hint) else "text")


def arguments(name: str, method: Callable[..., Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the required arguments, and then the same with each optional one added."""
    needed, optional = {}, {}
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            (filters,) = get_type_hints(method)[parameter.name].__args__
            for key, hint in get_type_hints(filters).items():
                optional[key] = value(name, key, hint, folder)
        elif parameter.default is parameter.empty:
            needed[parameter.name] = value(name, parameter.name, parameter.annotation, folder)
        else:
            optional[parameter.name] = value(name, parameter.name, parameter.annotation, folder)
    yield needed
    for key, given in optional.items():
        together = {"refdata_id": "text"} if key == "default_refdata_mount_point" else {}
        yield {**needed, **together, key: given}


def unread(found: object, where: str) -> Iterator[str]:
    """Yield the fields of a response that the client's model lacks."""
    if isinstance(found, BaseModel):
        yield from (f"{where}.{name}" for name in found.model_extra or ())
        for name in type(found).model_fields:
            yield from unread(getattr(found, name), f"{where}.{name}")
    elif isinstance(found, list):
        for item in found:
            yield from unread(item, f"{where}[]")


def call(client: CTSClient, name: str, given: dict[str, Any]) -> Any:
    found = find_method(client, name)(**given)
    return list(found) if isinstance(found, Iterator) else found


@pytest.mark.parametrize("name", methods())
def test_every_response_field_is_modelled(name: str, tmp_path: Path) -> None:
    for whole in (True, False):
        service = Service(whole=whole)
        client = client_of(service)
        needed = next(arguments(name, find_method(client, name), tmp_path))
        found = call(client, name, needed)
        assert list(unread(found, name)) == []
        (route,) = {route.path: route for route in service.asked}.values()
        if route.response_model or route.streams:
            assert found or name == "download", "an answer is made of what was answered"


def test_every_route_and_parameter_is_called(tmp_path: Path) -> None:
    service = Service()
    client = client_of(service)
    for name in methods():
        for given in arguments(name, find_method(client, name), tmp_path):
            call(client, name, given)
    missing = []
    for route in ROUTES:
        if route.path.startswith(NOT_CALLED):
            continue
        if (route.method, route.path) not in service.uses:
            missing.append(f"{route.method} {route.path}")
            continue
        use = service.uses[route.method, route.path]
        wanted = set(route.query_model.model_fields if route.query_model else ())
        # The server ignores unknown parameters silently.
        assert use.query <= wanted, route.path
        fields = set(route.body_model.model_fields if route.body_model else ())
        if route.body_model is Submission:
            fields = set()  # the caller's own
        missing += [
            f"{route.method} {route.path} {n}" for n in wanted - use.query | fields - use.body
        ]
    assert missing == []


def test_these_checks_can_fail() -> None:
    service = Service()
    with pytest.raises(AssertionError):
        client_of(service)._get("jobs/x/nothing")
    extra = client_of(service).root().model_copy()
    assert list(unread(type(extra).model_validate({**extra.model_dump(), "new": 1}), "root")) == [
        "root.new"
    ]
    assert len(list(itertools.islice(arguments("x", client_of(service).resubmit, Path()), 9))) == 8
