"""The form of requests and responses: slashes, 404 and 405, errors, bodies, queries, CORS, gzip, keep-alive."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client import REGISTRY

from cts_core.concurrency import run_in_pool
from cts_core.errors import NoSuchJobError, UnavailableError
from cts_core.identity.identity import User
from cts_core.model.listing import JobCounts
from cts_jupyter.server.http import base_handler, handler
from cts_jupyter.server.http.parse import MAX_DEPTH, MAX_ENTRIES, MAX_JSON_BODY, content_length
from tests.harness.server import ServerHarness, submission
from tests.services.nginx import rewriting_proxy
from tests.services.server import free_port

ORIGIN = "https://hub.berdl.kbase.us"


def error(response: httpx.Response) -> dict:
    return response.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "/whoami",
        "//whoami",
        "/whoami/",
        "///whoami//",
        "/jobs/?limit=3",
        "/sites/",
        "/%77hoami",
    ],
)
async def test_duplicate_slashes_are_ignored(server: ServerHarness, path: str) -> None:
    assert (await server.get(path)).status_code == 200


async def test_root_names_the_service(server: ServerHarness) -> None:
    root = (await server.get("", token=None)).json()
    assert root["service_name"] == "CDM Task Service"
    assert root["server_time"].endswith("Z")
    assert root["instance"] == (await server.get("/whoami")).json()["instance"]


async def test_sites_include_nulls(server: ServerHarness) -> None:
    (site,) = (await server.get("/sites")).json()["sites"]
    assert site["unavailable_reason"] is None


@pytest.mark.parametrize(
    "path", ["/nope", "/jobs/x/nope", "/jobs/x/log/0/stdin", "/%ff", "/static/a/b.js"]
)
async def test_unknown_path(server: ServerHarness, path: str) -> None:
    response = await server.get(path)
    assert response.status_code == 404
    assert (error(response)["appcode"], error(response)["message"]) == (40000, "Not Found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/jobs", "GET, POST"),
        ("POST", "/", "GET"),
        ("GET", "/admin/sites/local/active", "DELETE, PUT"),
        ("PATCH", "/jobs/x/cancel", "PUT"),
        ("HEAD", "/whoami", "GET"),
        ("OPTIONS", "/whoami", "GET"),
        ("GET", "/jobs/check", "POST"),
        ("DELETE", "/jobs/last_look", "PUT"),
    ],
)
async def test_wrong_method(server: ServerHarness, method: str, path: str, allowed: str) -> None:
    response = await server.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("method", ["BREW", "TRACE"])
async def test_unknown_method(server: ServerHarness, method: str) -> None:
    for path, allowed in (("/jobs", "GET, POST"), ("/docs", "GET"), ("/jobs/x/cancel", "PUT")):
        response = await server.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert (await server.request(method, "/nope")).status_code == 404


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "json_invalid"),
        (b"\xff{}", "json_invalid"),
        (b'{"cpus": NaN}', "json_invalid"),
        (b'{"cpus": 1e999}', "json_invalid"),
        (b'{"cpus": ' + b"9" * 5000 + b"}", "json_invalid"),
        (b"[" * 100_000, "json_invalid"),
        (b"[]", "model_type"),
        (b"null", "model_type"),
        (b'"text"', "model_type"),
        (b"", "missing"),
        (b'{"image": "\\ud800"}', "missing"),
        (b'{"output_dir": "\\ud800"}', "value_error"),
        (b'{"input_files": ["\\ud800/x"]}', "value_error"),
        (b'{"input_roots": ["\\ud800"]}', "value_error"),
    ],
)
async def test_malformed_body(server: ServerHarness, body: bytes, kind: str) -> None:
    response = await server.post(
        "/jobs", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert error(response)["appcode"] == 30010
    details = error(response)["request_validation_detail"]
    assert kind in {detail["type"] for detail in details}
    assert all(detail["loc"][0] == "body" for detail in details)


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        ({}, 0),
        ({"Content-Length": "17"}, 17),
        ({"Content-Length": "17, 17"}, 17),
        ({"Transfer-Encoding": "chunked"}, 1),
        ({"Content-Length": "9" * 5000}, sys.maxsize),
    ],
)
def test_content_length(headers: dict[str, str], count: int) -> None:
    assert content_length(headers) == count


async def test_request_cannot_forge_a_log_line(
    server: ServerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, base_handler.__name__)
    await server.get("/images/x%0a%1b[2J forged")
    (record,) = (r for r in caplog.records if r.name == base_handler.__name__)
    assert record.getMessage().isprintable()
    assert r"\n\x1b[2J forged" in record.getMessage()


@pytest.mark.parametrize(
    ("path", "status", "lines"),
    [
        ("/jobs/none?seek=hidden", 404, 1),
        ("/jobs?limit=hidden", 400, 1),
        ("/nothing?here=hidden", 404, 1),
        ("/files?prefix=none/hidden/", 404, 0),
        ("/files/content?path=none/hidden", 404, 0),
        ("/sites?x=hidden", 200, 0),
    ],
)
async def test_refused_request_is_one_line_without_its_query(
    server: ServerHarness, caplog: pytest.LogCaptureFixture, path: str, status: int, lines: int
) -> None:
    caplog.set_level(logging.INFO)
    server.app.log.addHandler(caplog.handler)
    headers = {"Referer": "http://127.0.0.1/page?hidden"}
    assert (await server.get(path, headers=headers)).status_code == status
    server.app.log.removeHandler(caplog.handler)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("http")]
    about = [message for message in ours if path.partition("?")[0] in message]
    assert len(about) == lines
    assert not [message for message in ours if "hidden" in message]


async def test_jupyters_metrics_count_each_request(server: ServerHarness) -> None:
    labels = {"method": "GET", "status_code": "404"}
    labels["handler"] = "cts_jupyter.server.http.handler.CTSHandler"

    def count() -> float:
        return REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) or 0

    before = count()
    await server.get("/nothing")
    assert count() == before + 1


async def test_json_with_another_content_type_is_not_parsed(server: ServerHarness) -> None:
    body = json.dumps(submission())
    response = await server.post("/jobs", content=body, headers={"Content-Type": "text/plain"})
    assert error(response)["request_validation_detail"][0]["loc"] == ["body"]
    response = await server.post(
        "/jobs/check", content=body, headers={"Content-Type": "application/x+json; charset=utf-8"}
    )
    assert error(response)["appcode"] == 40030


async def test_details_are_pydantics_own(server: ServerHarness) -> None:
    response = await server.post("/jobs", json=submission(output_dir="baz", num_containers=0))
    details = error(response)["request_validation_detail"]
    assert details == [
        {
            "type": "greater_than_equal",
            "loc": ["body", "num_containers"],
            "msg": "Input should be greater than or equal to 1",
            "input": 0,
            "ctx": {"ge": 1},
        },
        {
            "type": "value_error",
            "loc": ["body", "output_dir"],
            "msg": "Value error, Path 'baz' must start with the s3 bucket and include a key",
            "input": "baz",
            "ctx": {"error": {}},
        },
    ]


async def test_faults_of_query_and_path_are_reported_together(server: ServerHarness) -> None:
    response = await server.get("/jobs/a!b/log/-1/stdout?seek=-1&length=0")
    places = [detail["loc"] for detail in error(response)["request_validation_detail"]]
    assert places == [
        ["path", "job_id"],
        ["path", "container_num"],
        ["query", "seek"],
        ["query", "length"],
    ]


@pytest.mark.parametrize(
    "query",
    [
        "after=2026-01-01T00:00:00",
        "before=2026-01-01",
        "after=0001-01-01T00:00:00%2B14:00",
        "limit=0",
        "limit=1001",
        "limit=ten",
        "state=nope",
        "cluster=",
        "label=novalue",
        "after=%ff",
        "limit=" + "9" * 5000,
    ],
)
async def test_bad_query(server: ServerHarness, query: str) -> None:
    response = await server.get(f"/jobs?{query}")
    assert (response.status_code, error(response)["appcode"]) == (400, 30010)
    assert error(response)["request_validation_detail"][0]["loc"][0] == "query"


@pytest.mark.parametrize(
    "query",
    [
        "limit=3&limit=5",
        "unknown=1",
        "after=2026-01-01T00:00:00Z&before=2027-01-01T00:00:00%2B02:00",
        "label=a%3Db&label=c%3Dd=e",
    ],
)
async def test_good_query(server: ServerHarness, query: str) -> None:
    assert (await server.get(f"/jobs?{query}")).json() == {"jobs": []}


@pytest.mark.slow
async def test_large_body_gets_an_error_response(server: ServerHarness) -> None:
    too_much = MAX_JSON_BODY + 1

    async def pieces():
        for _ in range(0, too_much, 1 << 20):
            yield b" " * (1 << 20)
        yield b" "

    for options in ({"content": b" " * too_much}, {"content": pieces()}):
        response = await server.post(
            "/jobs", headers={"Content-Type": "application/json"}, **options
        )
        assert response.status_code == 413
        assert str(MAX_JSON_BODY) in error(response)["message"]


async def test_error_response_arrives_during_an_upload(server: ServerHarness) -> None:
    response = await server.post("/jobs", content=b" " * (4 << 20), token="wrong")
    assert (response.status_code, error(response)["appcode"]) == (401, 10020)
    # The connection was not spoiled.
    assert (await server.get("/whoami")).status_code == 200


@pytest.mark.slow
async def test_details_of_a_large_body_do_not_repeat_it(server: ServerHarness) -> None:
    body = submission(input_files=[1] * 10_000)
    response = await server.post("/jobs", json={**body, "padding": "x" * 70_000})
    details = error(response)["request_validation_detail"]
    assert len(details) == 1000
    assert not any("input" in detail for detail in details)


# Somewhere there, what could be read is too deep to be written into the answer.
@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, *range(800, 1050, 10)])
async def test_deeply_nested_body_gets_an_error_response(server: ServerHarness, depth: int) -> None:
    body = b'{"a":' * depth + b"1" + b"}" * depth
    response = await server.post("/jobs", content=body)
    assert response.status_code == 400
    kinds = {detail["type"] for detail in error(response)["request_validation_detail"]}
    assert kinds & {"too_deep", "json_invalid"} if depth > MAX_DEPTH else "missing" in kinds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entries", "kind", "message"),
    [(MAX_ENTRIES, "too_many_faults", "faults"), (MAX_ENTRIES + 1, "too_long", str(MAX_ENTRIES))],
)
async def test_body_with_too_many_faults_gets_no_list_of_them(
    server: ServerHarness, entries: int, kind: str, message: str
) -> None:
    params = {"args": [" "] * entries}
    response = await server.post("/jobs/check", json=submission(params=params))
    (detail,) = error(response)["request_validation_detail"]
    assert detail["type"] == kind
    assert message in detail["msg"]


async def test_cancel_accepts_a_content_type_without_a_body(server: ServerHarness) -> None:
    response = await server.put("/jobs/nope/cancel", headers={"Content-Type": "application/json"})
    assert error(response)["message"] == "No job with ID 'nope' exists"


# What goes wrong inside.


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, server: ServerHarness):
    def break_with(exception: Exception) -> None:
        def fail(*args: object) -> None:
            raise exception

        monkeypatch.setattr(server.engine, "whoami", fail)
        monkeypatch.setattr(server.engine, "root", fail)

    return break_with


async def test_unexpected_error(
    server: ServerHarness, broken, caplog: pytest.LogCaptureFixture
) -> None:
    broken(RuntimeError("the reactor is on fire"))
    response = await server.get("/?token=secret-in-the-query", token=None)
    assert response.status_code == 500
    assert error(response)["message"] == "An unexpected error occurred"
    (record,) = [
        r for r in caplog.records if r.name == base_handler.__name__ and r.levelno >= logging.ERROR
    ]
    assert error(response)["request_id"] in record.getMessage()
    assert record.exc_info
    assert "the reactor is on fire" in str(record.exc_info[1])
    assert "secret-in-the-query" not in caplog.text


async def test_admins_see_the_message_of_unexpected_errors(server: ServerHarness, broken) -> None:
    broken(RuntimeError("the reactor is on fire"))
    assert error(await server.get("/whoami"))["message"] == "the reactor is on fire"


async def test_outage_has_no_appcode(server: ServerHarness, broken) -> None:
    broken(UnavailableError("the database is away"))
    response = await server.get("/", token=None)
    assert response.status_code == 503
    assert error(response)["message"] == "An unexpected error occurred"


async def test_request_ids_differ(server: ServerHarness) -> None:
    ids = {(await server.get("/")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


# Compression and other origins.


async def test_responses_are_gzipped_on_request(server: ServerHarness) -> None:
    async with server.http.stream(
        "GET", f"{server.root}/openapi.json", headers={"Accept-Encoding": "br, gzip;q=0.5"}
    ) as response:
        raw = b"".join([piece async for piece in response.aiter_raw()])
    assert response.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(raw))["openapi"]
    for refused in ("identity", "gzip;q=0"):
        response = await server.get("/openapi.json", headers={"Accept-Encoding": refused})
        assert "content-encoding" not in response.headers
        assert "Accept-Encoding" in response.headers["vary"]


@pytest.mark.parametrize("cts_settings", [{"cors_origins": [ORIGIN]}])
async def test_cors(server: ServerHarness) -> None:
    for response in (
        await server.get("/jobs/?limit=1", headers={"Origin": ORIGIN}),
        await server.get("/jobs", token="wrong", headers={"Origin": ORIGIN}),
        await server.get("/nope", headers={"Origin": ORIGIN}),
    ):
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in response.headers["vary"]
    other = await server.get("/jobs", headers={"Origin": "https://elsewhere.org"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("cts_settings", [{"cors_origins": [ORIGIN]}])
async def test_preflight_needs_no_token(server: ServerHarness) -> None:
    asks = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, x-odd",
    }
    response = await server.request("OPTIONS", "/jobs/x/cancel", token=None, headers=asks)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-allow-headers"] == "authorization, x-odd"
    assert "PUT" in response.headers["access-control-allow-methods"]
    response = await server.request(
        "OPTIONS", "/jobs", token=None, headers={**asks, "Origin": "https://x.org"}
    )
    assert "access-control-allow-origin" not in response.headers
    assert "access-control-allow-methods" not in response.headers


# The page of the API.


@pytest.mark.parametrize("path", ["/docs", "/docs/", "//docs"])
async def test_docs(server: ServerHarness, path: str) -> None:
    response = await server.get(path, token=None)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    again = await server.http.get(
        f"{server.root}{path}", headers={"If-None-Match": response.headers["etag"]}
    )
    assert again.status_code == 304


async def test_docs_page_runs_only_scripts_allowed_by_hash(server: ServerHarness) -> None:
    response = await server.get("/docs", token=None)
    (policy,) = response.headers.get_list("content-security-policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules.pop(rule) == f"'sha256-{digest}'"
    assert rules.pop("connect-src") == "'self'"
    assert rules.pop("require-trusted-types-for") == "'script'"
    assert set(rules.values()) == {"'none'"}
    assert not re.search(r"(src|href)=\"(?!openapi.json)", response.text)


# Scripts of pages.


async def test_static_files(server: ServerHarness) -> None:
    response = await server.get("/static/card.js", token=None)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/javascript")
    again = await server.http.get(
        f"{server.root}/static/card.js", headers={"If-None-Match": response.headers["etag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize(
    "name", ["..%2f__init__.py", "%2e%2e/card.py", ".hidden.js", "nope.js", "card.py", ""]
)
async def test_static_files_outside_their_folder_are_refused(
    server: ServerHarness, name: str
) -> None:
    response = await server.get(f"/static/{name}", token=None)
    assert response.status_code in (400, 404)


async def test_optional_body_may_be_null(server: ServerHarness) -> None:
    image = "/admin/images/host/none"
    absent = await server.post(image)
    null = await server.post(image, content=b"null", headers={"Content-Type": "application/json"})
    assert error(null)["appcode"] == error(absent)["appcode"] != 30010
    needed = await server.post("/jobs", content=b"null")
    assert error(needed)["appcode"] == 30010


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
    """An error response keeps the connection alive as any other response does."""
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


# Long requests.


@pytest.fixture
async def slow_counts(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> asyncio.Future[JobCounts]:
    """Have ``GET /jobs/counts`` wait for this result, or error."""
    monkeypatch.setattr(handler, "KEEP_ALIVE_SECONDS", 0.02)
    result: asyncio.Future[JobCounts] = asyncio.get_running_loop().create_future()

    async def counts(_: User) -> JobCounts:
        return await asyncio.shield(result)

    monkeypatch.setattr(server.engine.jobs, "counts", counts)
    return result


@asynccontextmanager
async def asking_for_counts(server: ServerHarness) -> AsyncIterator[httpx.Response]:
    headers = {
        "Authorization": f"Bearer {server.kernel_token}",
        "Prefer": "respond-async, Keep-Alive",
    }
    async with server.http.stream("GET", f"{server.root}/jobs/counts", headers=headers) as response:
        yield response


async def test_long_request_is_kept_alive_by_bytes(
    server: ServerHarness, slow_counts: asyncio.Future[JobCounts]
) -> None:
    async with asking_for_counts(server) as response:
        # The head comes before there is a result.
        assert response.headers["Preference-Applied"] == "keep-alive"
        slow_counts.set_result(JobCounts(counts=[]))
        body = await response.aread()
    assert body.startswith(b" ")
    assert json.loads(body) == {"counts": []}


@pytest.mark.slow
@pytest.mark.usefixtures("nginx")
async def test_long_request_outlasts_the_patience_of_nginx(
    server: ServerHarness, slow_counts: asyncio.Future[JobCounts], tmp_path: Path
) -> None:
    at, port = urlsplit(server.root), free_port()
    assert at.port is not None
    proxy = rewriting_proxy(tmp_path / "nginx", port, at.port, "", strips=False, read_seconds=1)
    url = f"http://127.0.0.1:{port}{at.path}/jobs/counts"
    headers = {"Authorization": f"Bearer {server.kernel_token}"}
    await asyncio.to_thread(proxy.start)
    try:
        kept = server.http.stream("GET", url, headers=headers | {"Prefer": "keep-alive"})
        async with kept as response:
            # Without bytes nginx gives up.
            refused = await server.http.get(url, headers=headers)
            assert refused.status_code == httpx.codes.GATEWAY_TIMEOUT
            slow_counts.set_result(JobCounts(counts=[]))
            assert json.loads(await response.aread()) == {"counts": []}
    finally:
        await asyncio.to_thread(proxy.stop)


async def test_long_request_that_fails_ends_in_the_envelope(
    server: ServerHarness, slow_counts: asyncio.Future[JobCounts]
) -> None:
    async with asking_for_counts(server) as response:
        slow_counts.set_exception(NoSuchJobError("No job"))
        error = json.loads(await response.aread())["error"]
    assert (response.status_code, error["httpcode"], error["appcode"]) == (200, 404, 40040)


async def test_status_of_others_waits_for_the_result(
    server: ServerHarness, slow_counts: asyncio.Future[JobCounts]
) -> None:
    asked = asyncio.create_task(server.get("/jobs/counts"))
    await asyncio.wait({asked}, timeout=0.2)
    slow_counts.set_exception(NoSuchJobError("No job"))
    assert (await asked).status_code == 404


async def test_a_read_ends_when_its_client_goes_away(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def counts(_: User) -> JobCounts:
        begun.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    monkeypatch.setattr(server.engine.jobs, "counts", counts)
    url = urlsplit(server.root)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"Host: {url.netloc}\r\nAuthorization: Bearer {server.kernel_token}\r\n"
    writer.write(f"GET {url.path}/jobs/counts HTTP/1.1\r\n{head}\r\n".encode())
    async with asyncio.timeout(20):
        await begun.wait()
        writer.close()
        await writer.wait_closed()
        await ended.wait()
    assert (await server.get("/whoami")).status_code == 200


async def test_small_request_needs_no_thread_and_no_log_record(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
):
    logged: list[str] = []
    handed_over: list[object] = []

    async def record(work: Callable[[], Any]) -> Any:
        handed_over.append(work)
        return await run_in_pool(work)

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        logged.append(args[0])
        return logging.LogRecord(*args, **kwargs)

    monkeypatch.setattr(handler, "run_in_pool", record)
    logger = logging.getLogger("cts_jupyter")
    level = logger.level
    logger.setLevel(logging.INFO)
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(make)
    try:
        for path in ("/whoami", "/sites", "/images"):
            assert (await server.get(path)).status_code == 200
    finally:
        logging.setLogRecordFactory(factory)
        logger.setLevel(level)
    assert not [name for name in logged if name.startswith("cts_")]
    assert handed_over == []
