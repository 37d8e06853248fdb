"""The client: against the real server, against one that fails, and against services older and newer than it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from cts_core.backoff import Backoff
from cts_core.errors import NoSuchJobError
from cts_core.model.job import Submission
from cts_core.worker.checksum import crc64nvme_text
from cts_jupyter.client import event_stream, transport
from cts_jupyter.client.api import files as file_endpoints
from cts_jupyter.client.api.base import as_json
from cts_jupyter.client.client import CTSClient, CTSClientError, CTSConnectionError, CTSRequestError
from cts_jupyter.client.event_stream import EventStream
from cts_jupyter.client.transport import ForeignResponseError, Transport
from cts_jupyter.discovery import Connection, find_connection
from cts_jupyter.server.http import handler
from cts_jupyter.server.routes import events
from tests.harness.factories import TO_COMPLETE
from tests.harness.http_proxy import own_address, recording_proxy
from tests.harness.paths import COPY_INPUTS
from tests.harness.server import ServerHarness, running_server, submission
from tests.services.certificate import self_signed
from tests.services.proxy import Proxy

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DATA = bytes(range(256)) * 4096

call = asyncio.to_thread
"""Run a blocking call in a thread, while the server in this loop responds."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = Backoff(first=0.02, longest=5.0, jitter=0.5)
    for module in (transport, event_stream, file_endpoints):
        monkeypatch.setattr(module, "RETRY_BACKOFF", backoff)


@pytest.fixture
async def client(server: ServerHarness) -> AsyncIterator[CTSClient]:
    with CTSClient(server.root + "/", lambda: server.kernel_token) as client:
        yield client


def fill(client: CTSClient, folder: Path) -> None:
    client.register_image("host/tool", executable=str(COPY_INPUTS))
    for name in ("a", "b"):
        (folder / name).write_text(name)
        client.upload(folder / name, f"data/in/{name}")


def states_of(stream: EventStream, job_id: str | None = None) -> list[str]:
    found = []
    with contextlib.closing(stream):
        for event in stream:
            if event.type == "transition" and job_id in (None, event.job_id):
                found.append(event.state)
            if event.state == "complete":
                break
    return found


@pytest.mark.slow
async def test_a_job_from_submission_to_outputs(client: CTSClient, tmp_path: Path) -> None:
    def work() -> None:
        assert client.root().service_name == "CDM Task Service"
        assert client.whoami().user == "ana"
        assert [site.cluster for site in client.sites()] == ["local"]
        fill(client, tmp_path)
        assert [image.name for image in client.images()] == ["host/tool"]
        assert client.image("host/tool").tag == "latest"
        body = submission(num_containers=2, labels={"run": "1"})
        assert client.check(body).containers[0].files[0].file == "data/in/a"
        stream = client.events(after=client.root().server_time)
        job_id = client.submit(Submission.model_validate(body))
        assert states_of(stream, job_id) == TO_COMPLETE
        assert client.status(job_id).state == "complete"
        job = client.job(job_id)
        assert [output.file for output in job.outputs] == ["data/out/a.out", "data/out/b.out"]
        assert job.job_input.input_files[0].crc64nvme
        assert (
            [c.exit_code for c in client.containers(job_id)] == client.exit_codes(job_id) == [0, 0]
        )
        assert client.log(job_id, 0, "stdout", seek=6, length=7) == b"working"
        assert [j.id for j in client.jobs(labels={"run": "1"}, state="complete", limit=5)] == [
            job_id
        ]
        assert client.jobs(before=LONG_AGO) == []
        with pytest.raises(CTSRequestError) as refused:
            client.cancel(job_id)
        assert (refused.value.status, refused.value.appcode) == (404, 40040)
        # A job's input can be submitted again.
        again = client.submit(job.job_input)
        assert again != job_id
        client.delete_image("host/tool")

    await call(work)


async def test_files(client: CTSClient, tmp_path: Path) -> None:
    def work() -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(DATA)
        stored = client.upload(source, "data/d/ä b")
        assert stored.crc64nvme == crc64nvme_text(DATA)
        assert client.download("data/d/ä b", target) == stored.crc64nvme
        assert target.read_bytes() == DATA
        with pytest.raises(CTSRequestError, match="ä b"):
            client.upload(source, "data/d/ä b")
        client.upload(source, "data/d/ä b", overwrite=True)
        (tmp_path / "empty").touch()
        client.upload(tmp_path / "empty", "data/d/empty")
        client.download("data/d/empty", target)
        assert target.read_bytes() == b""
        assert [o.path for o in client.iter_files("data/")] == ["data/d/empty", "data/d/ä b"]
        assert client.files("data/", folders=True).folders == ["data/d/"]
        assert client.files("data/", limit=1).next
        assert client.verify("data/d/ä b").checksum == "stored"
        assert client.verify("data/d/ä b", crc64nvme=crc64nvme_text(b"")).checksum == "mismatch"
        with pytest.raises(CTSRequestError):
            client.write_checksum("data/d/ä b", etag="other")
        with pytest.raises(CTSRequestError, match="nope"):
            client.download("data/nope", tmp_path / "nope")
        assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
            "source",
            "target",
            "empty",
            "cts.toml",
        }

    await call(work)


async def test_errors_are_one_readable_line(client: CTSClient) -> None:
    with pytest.raises(CTSRequestError) as refused:
        await call(
            client.submit, submission(cpus=0, output_dir="baz", num_containers=0, memory="x")
        )
    assert str(refused.value) == (
        "num_containers: 0 is given, and it may be at least 1; cpus: 0 is given, and it may be at least 1; "
        "memory: x is no size: write it with a unit, as in 500MB, 40GB or 1.5GiB; and 1 more"
    )
    assert refused.value.appcode == 30010
    assert refused.value.request_id
    with pytest.raises(CTSRequestError, match=r"^No job with ID 'x' exists$"):
        await call(client.status, "x")


async def test_token_is_read_at_each_request(server: ServerHarness) -> None:
    tokens = iter([server.kernel_token, "expired", None])
    with CTSClient(server.root, lambda: next(tokens)) as client:
        assert (await call(client.whoami)).user == "ana"
        for appcode in (10020, 10010):
            with pytest.raises(CTSRequestError) as refused:
                await call(client.whoami)
            assert refused.value.appcode == appcode


async def test_iteration_over_several_pages(client: CTSClient, server: ServerHarness) -> None:
    for number in range(5):
        await server.upload(f"data/{number}", b"x")

    def work() -> list[str]:
        files = client.files
        client.files = lambda prefix, after=None: files(prefix, after=after, limit=2)  # type: ignore[method-assign]
        return [o.path for o in client.iter_files("data/")]

    assert await call(work) == [f"data/{number}" for number in range(5)]


# Connections that break.


class Cutter:
    """Stands before the server and cuts connections: ``cuts`` holds for each next one how many bytes of
    the answers it lets pass; once it is used up, everything passes."""

    def __init__(self, server: ServerHarness) -> None:
        self._server = server
        self.cuts: list[int] = []
        self.connections = 0
        self.live: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self._server.root.split('/', 3)[3]}"

    def cut_all(self) -> None:
        for writer in list(self.live):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        left = self.cuts.pop(0) if self.cuts else 1 << 40
        self.live.add(writer)
        host, port = self._server.root.split("/")[2].split(":")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        up = asyncio.create_task(self._pass_on(reader, inner_writer, 1 << 40))
        try:
            await self._pass_on(inner_reader, writer, left)
        finally:
            up.cancel()
            self.live.discard(writer)
            for end in (writer, inner_writer):
                end.transport.abort()
            await asyncio.gather(up, return_exceptions=True)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while left > 0:
                piece = (await reader.read(65536))[:left]
                if not piece:
                    return
                left -= len(piece)
                writer.write(piece)
                await writer.drain()


@pytest.fixture
async def cutter(server: ServerHarness) -> AsyncIterator[Cutter]:
    async with Cutter(server) as cutter:
        yield cutter


@pytest.fixture
async def shaky(cutter: Cutter, server: ServerHarness) -> AsyncIterator[CTSClient]:
    with CTSClient(cutter.url, lambda: server.kernel_token) as client:
        yield client


async def test_get_is_retried(shaky: CTSClient, cutter: Cutter) -> None:
    cutter.cuts = [0, 20]
    assert (await call(shaky.whoami)).user == "ana"
    assert cutter.connections == 3


async def test_retries_are_bounded(shaky: CTSClient, cutter: Cutter) -> None:
    cutter.cuts = [0] * 10
    with pytest.raises(CTSConnectionError, match="broke"):
        await call(shaky.whoami)
    assert cutter.connections == transport.TRIES


@pytest.mark.slow
async def test_submission_is_retried_with_its_idempotency_key(
    shaky: CTSClient, cutter: Cutter, server: ServerHarness
) -> None:
    await server.prepare("a", "b")
    assert await call(shaky.supports, "POST", "/jobs", "Idempotency-Key")
    cutter.cut_all()
    # The job is stored, and the response is lost.
    cutter.cuts = [30]
    job_id = await call(shaky.submit, submission())
    jobs = (await server.get("/jobs")).json()["jobs"]
    assert [job["id"] for job in jobs] == [job_id]


@pytest.mark.slow
async def test_request_for_checksums_is_retried_with_its_idempotency_key(
    shaky: CTSClient, cutter: Cutter, server: ServerHarness
) -> None:
    await server.upload("data/x", DATA)
    assert await call(shaky.supports, "POST", "/checksums", "Idempotency-Key")
    cutter.cut_all()
    # The request is stored, and the response is lost.
    cutter.cuts = [30]
    files = [{"file": "data/x"}]
    requested = await call(shaky.request_checksums, files)
    assert [task.id for task in await call(shaky.checksum_requests)] == [requested]
    first = await call(lambda: shaky.request_checksums(files, idempotency_key="k"))
    assert await call(lambda: shaky.request_checksums(files, idempotency_key="k")) == first
    assert first != requested


async def test_cancel_is_not_retried(shaky: CTSClient, cutter: Cutter) -> None:
    cutter.cuts = [0]
    with pytest.raises(CTSConnectionError):
        await call(shaky.cancel, "x")
    assert cutter.connections == 1


async def test_download_is_resumed(
    shaky: CTSClient, cutter: Cutter, server: ServerHarness, tmp_path: Path
) -> None:
    await server.upload("data/x", DATA)
    cutter.cuts = [100_000, 300_000]
    await call(shaky.download, "data/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert cutter.connections == 3


async def test_name_that_the_disk_refuses_is_refused_before_anything_is_fetched(
    shaky: CTSClient, cutter: Cutter, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="File name too long"):
        await call(shaky.download, "data/x", tmp_path / ("x" * 256))
    assert cutter.connections == 0


async def test_download_of_a_replaced_object_is_refused(
    shaky: CTSClient,
    cutter: Cutter,
    server: ServerHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await server.upload("data/x", DATA)
    (tmp_path / "new").write_bytes(DATA[::-1])

    def replace(_: int) -> float:
        with CTSClient(server.root, lambda: server.kernel_token) as other:
            other.upload(tmp_path / "new", "data/x", overwrite=True)
        return 0

    monkeypatch.setattr(file_endpoints, "RETRY_BACKOFF", SimpleNamespace(delay=replace))
    cutter.cuts = [100_000]
    with pytest.raises(CTSClientError, match="replaced"):
        await call(shaky.download, "data/x", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
async def test_events_are_resumed_with_none_missed(
    shaky: CTSClient, cutter: Cutter, server: ServerHarness
) -> None:
    await server.prepare("a", "b")
    # Every connection is cut after some bytes: in the headers, in an event, between events.
    cutter.cuts = [900 + 137 * n for n in range(12)]
    stream = shaky.events(after=(await call(shaky.root)).server_time)
    job_id = (await server.post("/jobs", json=submission())).json()["job_id"]
    assert await call(states_of, stream, job_id) == TO_COMPLETE
    assert cutter.connections > 2


@pytest.mark.slow
async def test_events_are_resumed_from_the_first_cursor(
    shaky: CTSClient, cutter: Cutter, server: ServerHarness
) -> None:
    """A connection lost before any event is resumed from the stream's first cursor."""
    await server.prepare("a", "b")
    stream = shaky.events()
    watching = asyncio.create_task(call(states_of, stream))
    async with asyncio.timeout(10):
        while stream._cursor is None:
            await asyncio.sleep(0.01)
    cutter.cuts = [0, 0]
    cutter.cut_all()
    await server.post("/jobs", json=submission())
    assert await watching == TO_COMPLETE


@pytest.mark.slow
async def test_stream_that_falls_silent_is_opened_anew(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.05)
    monkeypatch.setattr(event_stream, "SILENCE_SECONDS", 0.5)
    await server.prepare("a", "b")
    proxy = Proxy(server.app.port)
    url = server.root.replace(f":{server.app.port}", f":{proxy.port}")
    warning = f"The connection to {url} broke: nothing came, of the service nor of a proxy on the way, for 0.5 s. The stream of events is opened anew"
    with CTSClient(url, lambda: server.kernel_token) as client, contextlib.closing(proxy):
        stream = client.events()
        watching = asyncio.create_task(call(states_of, stream))
        async with asyncio.timeout(30):
            while stream._cursor is None:
                await asyncio.sleep(0.01)
            proxy.freeze()
            await server.post("/jobs", json=submission())
            while warning not in caplog.messages:
                await asyncio.sleep(0.01)
        proxy.thaw()
        assert await watching == TO_COMPLETE


@pytest.mark.slow
async def test_stream_of_a_job_is_resumed_and_ends_with_it(
    shaky: CTSClient, cutter: Cutter, server: ServerHarness
) -> None:
    await server.prepare("a", "b")
    first = await call(shaky.submit, submission())
    cutter.cut_all()
    cutter.cuts = [900 + 137 * n for n in range(6)]

    def states(job_id: str) -> list[str]:
        return [e.state for e in shaky.job_events(job_id) if e.type == "transition"]

    assert await call(states, first) == TO_COMPLETE
    cutter.cut_all()
    # The job is stored, and the response is lost.
    cutter.cuts = [30]
    again = await call(lambda: shaky.resubmit(first, idempotency_key="k"))
    assert await call(lambda: shaky.resubmit(first, idempotency_key="k")) == again
    assert await call(states, again) == TO_COMPLETE

    def rest() -> None:
        assert {output.job_id for output in shaky.iter_outputs(first, family=True)} == {again}
        found = [job.id for job in shaky.iter_jobs(limit=1, sort="created", order="asc")]
        assert found == [first, again]
        assert shaky.admin.job(again).parent_id == first
        assert [job.id for job in shaky.admin.job_page(user="ana", text=again).jobs] == [again]

    await call(rest)


async def test_close_wakes_a_thread_that_waits_for_events(client: CTSClient) -> None:
    stream = client.events()
    waiting = asyncio.create_task(call(lambda: list(stream)))
    async with asyncio.timeout(10):
        while stream._response is None:
            await asyncio.sleep(0.01)
        stream.close()
        assert await waiting == []
    assert list(stream) == []


async def test_events_refused(server: ServerHarness) -> None:
    with CTSClient(server.root, lambda: "wrong") as client, pytest.raises(CTSRequestError):
        await call(next, client.events())
    with (
        CTSClient(server.root, lambda: server.kernel_token) as client,
        pytest.raises(CTSRequestError, match="No job"),
    ):
        await call(next, client.events(job="x"))


async def test_stream_of_a_client_that_was_closed_connects_no_more(
    shaky: CTSClient, cutter: Cutter
) -> None:
    stream = shaky.events()
    waiting = asyncio.create_task(call(lambda: list(stream)))
    async with asyncio.timeout(10):
        while stream._cursor is None:
            await asyncio.sleep(0.01)
        shaky.close()
        cutter.cut_all()
        with pytest.raises(CTSConnectionError, match="was closed"):
            await waiting


def test_client_that_another_thread_has_closed() -> None:
    client = CTSClient("http://127.0.0.1:9/cts", lambda: None)
    client.close()
    for ask in (client.whoami, lambda: next(client.events())):
        with pytest.raises(CTSConnectionError, match="was closed"):
            ask()


def test_unreachable_service() -> None:
    with CTSClient("http://127.0.0.1:9/cts", lambda: None) as client:
        with pytest.raises(CTSConnectionError, match="cannot be reached"):
            client.whoami()
        with pytest.raises(CTSConnectionError):
            next(client.events())
    for url in ("nonsense", "http://127.0.0.1:99999/cts", "http://[/cts"):
        with (
            CTSClient(url, lambda: None) as client,
            pytest.raises(CTSConnectionError, match="no URL"),
        ):
            client.whoami()


# Services older and newer than this client.


@contextlib.contextmanager
def service(responses: dict[str, tuple[int, Any]]) -> Iterator[tuple[CTSClient, list[str]]]:
    """Yield a client of a service with these responses by ``METHOD /path``, and 404 as the deployed one for others."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def response(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = f"{self.command} {self.path.partition('?')[0]}"
            asked.append(name)
            missing = {"error": {"httpcode": 404, "message": "Not Found", "appcode": 40000}}
            status, body = responses.get(name, (404, missing))
            if status == 0:
                self.connection.close()
                return
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            if status in (301, 302):
                self.send_header("Location", "/hub/login?next=secret")
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = response  # noqa: N815 - http.server's names

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with CTSClient(f"http://127.0.0.1:{server.server_port}", lambda: None) as client:
            yield client, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "response",
    [
        (405, {"error": {"httpcode": 405, "message": "Method Not Allowed"}}),
        (404, {"error": {"httpcode": 404, "message": "Not Found", "appcode": 40000}}),
    ],
)
def test_check_where_it_does_not_exist(response: tuple[int, Any]) -> None:
    paths = ("POST /jobs/check", "POST /jobs/j/resubmit/check")
    with service(dict.fromkeys(paths, response)) as (client, asked):
        with pytest.raises(CTSRequestError, match="nothing was submitted"):
            client.check(submission())
        with pytest.raises(CTSRequestError, match="nothing was submitted"):
            client.check_resubmission("j", failed=True)
        assert asked == [*paths]


def test_check_with_an_unknown_image_is_not_taken_for_a_missing_endpoint() -> None:
    body = {"error": {"httpcode": 404, "message": "No image x", "appcode": 40030}}
    refusal = pytest.raises(CTSRequestError, match=r"^No image x$")
    with service({"POST /jobs/check": (404, body)}) as (client, _), refusal:
        client.check(submission())


def test_submission_is_not_retried_without_idempotency_keys() -> None:
    responses = {
        "GET /openapi.json": (200, {"paths": {"/jobs": {"post": {}}}}),
        "POST /jobs": (0, None),
    }
    with service(responses) as (client, asked):
        with pytest.raises(CTSConnectionError, match="look at your jobs"):
            client.submit(submission())
        assert asked.count("POST /jobs") == 1


def test_request_for_checksums_is_not_retried_without_idempotency_keys() -> None:
    responses = {
        "GET /openapi.json": (200, {"paths": {"/checksums": {"post": {}}}}),
        "POST /checksums": (0, None),
    }
    with service(responses) as (client, asked):
        with pytest.raises(CTSConnectionError):
            client.request_checksums([{"file": "data/x"}])
        assert asked.count("POST /checksums") == 1


def test_unavailable_service_is_not_taken_for_an_old_one() -> None:
    away = {"error": {"httpcode": 503, "message": "Away"}}
    responses = {"GET /openapi.json": (503, away)}
    with service(responses) as (client, _):
        with pytest.raises(CTSRequestError, match="Away"):
            client.supports("GET", "/jobs", "cursor")
        known = {"get": {"parameters": [{"name": "cursor"}]}}
        responses["GET /openapi.json"] = (200, {"paths": {"/jobs": known}})
        assert client.supports("GET", "/jobs", "cursor")
        assert client.supports("GET", "/jobs")
        assert not client.supports("GET", "/jobs", "color")
        assert not client.supports("GET", "/jobs/counts")


def test_default_labels_are_not_sent() -> None:
    """A deployed service refuses unknown fields."""
    assert "labels" not in as_json(Submission.model_validate(submission()))


def test_unknown_values_and_fields_of_a_newer_service() -> None:
    job = {
        "id": "x", "state": "recovering", "user": "ana", "transition_times": [{"state": "odd", "time": "2026-01-01T00:00:00Z", "who": 1}],
        "admin_meta": {}, "image": {"name": "n", "digest": "d", "entrypoint": [], "registered_by": "a", "registered_on": "2026-01-01T00:00:00Z"},
        "job_input": {"cluster": "moon", "image": "n", "params": {"new": 1}, "memory": 1, "runtime": "PT1M", "output_dir": "b/o", "input_files": ["b/i"], "gpus": 3},
        "input_file_count": 1, "color": "green",
    }  # fmt: skip
    who = {"user": "ana", "roles": ["cts_user"], "allowed_paths": [{"path": "b/", "perm": "read"}]}
    with service({"GET /jobs/x": (200, job), "GET /whoami": (200, who)}) as (client, _):
        found = client.job("x")
        assert (found.state, found.job_input.cluster) == ("recovering", "moon")
        assert found.job_input.input_files[0].file == "b/i"
        assert found.model_dump()["color"] == "green"
        assert found.job_input.model_dump()["gpus"] == 3
        assert client.whoami().allowed_paths[0].perm == "read"


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ((302, b""), r"302 Found to /hub/login\): check the URL"),
        ((200, b"<html>"), "does not answer as a CTS service"),
        ((500, b"oops"), "500 Internal Server Error"),
        ((404, {"detail": "no"}), "404 Not Found"),
        ((413, b"<html>"), "A proxy on the way to .* too large"),
        ((502, b"<html>"), "A proxy on the way to .* does not reach the service behind it"),
        ((503, b"<html>"), "A proxy on the way to .* has no service behind it now"),
        ((504, b"<html>"), "A proxy on the way to .* gave up waiting"),
    ],
)
def test_response_that_is_not_of_cts(response: tuple[int, Any], words: str) -> None:
    refusal = pytest.raises(CTSRequestError, match=words)
    with service({"GET /whoami": response}) as (client, _), refusal as refused:
        client.whoami()
    assert "secret" not in str(refused.value)


def test_unavailable_service_is_retried() -> None:
    body = {"error": {"httpcode": 503, "message": "An unexpected error occurred"}}
    with service({"GET /whoami": (503, body)}) as (client, asked):
        with pytest.raises(CTSRequestError, match="unexpected"):
            client.whoami()
        assert len(asked) == transport.TRIES


def test_request_that_a_proxy_gave_up_waiting_for_is_not_begun_anew() -> None:
    with service({"GET /whoami": (504, b"<html>")}) as (client, asked):
        with pytest.raises(ForeignResponseError):
            client.whoami()
        assert len(asked) == 1


async def test_error_of_a_request_that_was_kept_alive(
    client: CTSClient, server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "KEEP_ALIVE_SECONDS", 0.02)

    async def verify(*_: object, **__: object) -> None:
        await asyncio.sleep(0.1)
        raise NoSuchJobError("No such thing")

    monkeypatch.setattr(server.engine.files, "verify", verify)
    with pytest.raises(CTSRequestError, match="No such thing") as refused:
        await call(client.verify, "data/x")
    assert (refused.value.status, refused.value.appcode) == (404, 40040)


@pytest.mark.slow
def test_request_that_the_service_is_silent_about_is_not_begun_anew() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/cts"
        own = Transport(url, lambda: None)
        with (
            pytest.raises(CTSConnectionError, match=r"nothing came, .*, for 0\.3 s"),
            own.stream("GET", "jobs", read_seconds=0.3),
        ):
            pass
        own.close()
        listener.settimeout(0)
        accepted, _ = listener.accept()
        accepted.close()
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.usefixtures("no_sockets")
async def test_no_proxy_sees_the_token_for_a_server_of_this_machine(
    isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"ServerApp": {"ip": own_address()}}
    async with running_server(isolated, {}, config):
        with recording_proxy(monkeypatch) as proxy:
            found = find_connection()
            assert own_address() in found.url
            with CTSClient.of(found) as client:
                await call(fill, client, isolated)
                job_id = await call(client.submit, submission())
                assert await call(states_of, client.events(after=LONG_AGO), job_id)
            with CTSClient(found.url, found.token) as client:
                assert (await call(client.whoami)).user == "ana"
            assert proxy.requests == []
            # It sees what is sent elsewhere.
            with (
                CTSClient("http://service.invalid/cts", lambda: None) as client,
                pytest.raises(CTSRequestError, match="502"),
            ):
                await call(client.whoami)
            assert proxy.requests[0].startswith(b"GET http://service.invalid/cts/whoami")


async def test_a_page_server_is_asked_directly_even_if_its_name_cannot_be_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection("http://gone.invalid/cts", lambda: "secret", is_page_server=True)
    with recording_proxy(monkeypatch) as proxy, CTSClient.of(connection) as client:
        with pytest.raises(CTSConnectionError):
            await call(client.whoami)
        assert proxy.requests == []


# A server with a certificate of its own.


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Return a key and a certificate for another name than the server's."""
    return self_signed(tmp_path, "DNS:notebooks.example.org")


@pytest.mark.usefixtures("no_sockets")
async def test_own_certificate_is_trusted_and_no_other(
    isolated: Path, certificate: tuple[Path, Path]
) -> None:
    key, cert = certificate
    config = {"ServerApp": {"certfile": str(cert), "keyfile": str(key)}}
    async with running_server(isolated, {}, config):
        found = find_connection()
        assert found.url.startswith("https://127.0.0.1:")
        with CTSClient.of(found) as client:
            assert (await call(client.whoami)).user == "ana"
        with (
            CTSClient.of(Connection(found.url, found.token)) as client,
            pytest.raises(CTSConnectionError),
        ):
            await call(client.whoami)
