from __future__ import annotations

import queue
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from cts_jupyter.client import CTSConnectionError, CTSRequestError
from cts_jupyter.notebook import relay as relay_module
from cts_jupyter.notebook.relay import (
    MAX_STREAMS,
    MAX_THREADS,
    MAX_WAITING,
    PIECE_BYTES,
    Relay,
    may_ask,
)

WAIT = 20


class Client:
    """Answers with what it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.release = threading.Event()
        self.release.set()
        self.waiting = 0
        """Requests that are not answered yet."""
        self.body = b""
        self.ended = threading.Event()

    def request(self, method, path, **options):
        self.waiting += 1
        assert self.release.wait(WAIT)
        self.waiting -= 1
        if self.error is not None:
            raise self.error
        return [method, path, options]

    @contextmanager
    def pieces(self, path, *, query):
        def read():
            yield self.body
            assert self.release.wait(WAIT)
            yield b"end"

        try:
            yield {"X-CTS-Log-Size": "7", "Set-Cookie": "no"}, read()
        finally:
            self.ended.set()


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def sent() -> queue.Queue:
    return queue.Queue()


@pytest.fixture
def taken() -> list[str]:
    """The ids of the requests that were said to have come."""
    return []


@pytest.fixture
def relay(client, sent, taken):
    def send(content, buffers):
        if content["cts"] == "taken":
            taken.append(content["id"])
        else:
            sent.put((content, buffers))

    relay = Relay(lambda: client, send)
    yield relay
    client.release.set()
    relay.close()


def ask(relay: Relay, path: str, method: str = "GET", *, asked: str = "1", **options) -> None:
    relay.ask({"cts": "ask", "id": asked, "method": method, "path": path, **options})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "files"),
        ("GET", "jobs/8f31c0aa-0000/log/12/stderr"),
        ("GET", "images/docker.io/a/b:1@sha256:0"),
        ("GET", "images/docker.io/a/b%3A1%40sha256%3A0"),
        ("POST", "jobs"),
        ("PUT", "jobs/8f31c0aa/cancel"),
        ("DELETE", "checksums/8f31"),
    ],
)
def test_calls_of_our_own_client_may_be_asked(method, path):
    assert may_ask(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "admin/jobs"),
        ("GET", "jobs/../admin/jobs"),
        ("GET", "images/../admin/jobs"),
        ("GET", "/jobs"),
        ("GET", "http://elsewhere/jobs"),
        ("GET", "images/%2e%2E/admin/jobs"),
        ("GET", "images/%252e%252e/admin/jobs"),
        ("GET", "images/..%2Fadmin/jobs"),
        ("GET", "images/..%5cadmin/jobs"),
        ("GET", "images/..\\admin"),
        ("GET", "images/./x"),
        ("GET", "jobs?x=1"),
        ("PUT", "files/content"),
        ("DELETE", "jobs/1"),
        ("PATCH", "jobs"),
        (["GET"], "jobs"),
        ("GET", None),
    ],
)
def test_nothing_else_may_be_asked(relay, sent, method, path):
    assert not may_ask(method, path)
    ask(relay, path, method)
    content, _ = sent.get(timeout=WAIT)
    assert content["cts"] == "refused"
    assert content["error"]["status"] == 403


def test_an_answer_is_the_services(relay, sent):
    ask(relay, "jobs", "POST", query={"all": True, "no": None}, body={"image": "x"}, key="k")
    content, _ = sent.get(timeout=WAIT)
    options = {"query": {"all": True}, "body": {"image": "x"}, "key": "k"}
    assert content == {"cts": "answer", "id": "1", "body": ["POST", "jobs", options]}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            CTSRequestError("Not yours", status=403, appcode=30),
            {"status": 403, "appcode": 30, "detail": {}},
        ),
        (
            CTSRequestError("cpus: wrong", status=422, details=[{"loc": ["cpus"]}]),
            {
                "status": 422,
                "appcode": None,
                "detail": {"request_validation_detail": [{"loc": ["cpus"]}]},
            },
        ),
        (CTSConnectionError("It cannot be reached"), {"status": 0}),
        (RuntimeError("a fault of ours"), {"status": 500}),
    ],
)
def test_the_page_is_told_of_every_error(relay, client, sent, error, told):
    client.error = error
    ask(relay, "sites")
    content, _ = sent.get(timeout=WAIT)
    wanted = {**told, "message": str(error)}
    assert content == {"cts": "refused", "id": "1", "error": wanted}


def test_a_log_comes_in_pieces(relay, client, sent):
    client.body = b"x" * (2 * PIECE_BYTES + 1)
    ask(relay, "jobs/1/log/0/stdout", in_pieces=True)
    first, _ = sent.get(timeout=WAIT)
    assert first == {"cts": "piece", "id": "1", "headers": {"x-cts-log-size": "7"}}
    got = []
    while (message := sent.get(timeout=WAIT))[0]["cts"] == "piece":
        got.append(message[1][0])
    assert message[0] == {"cts": "end", "id": "1"}
    assert list(map(len, got)) == [PIECE_BYTES, PIECE_BYTES, 1, 3]


def test_a_stream_ends_when_nobody_waits_for_it(relay, client, sent):
    client.body, client.release = b"begin", threading.Event()
    ask(relay, "events", in_pieces=True)
    assert [sent.get(timeout=WAIT)[1] for _ in range(2)] == [[b""], [b"begin"]]
    relay.stop({"cts": "stop", "id": "1"})
    client.release.set()
    assert client.ended.wait(WAIT)
    assert sent.empty()


def test_requests_are_bounded(relay, client, sent):
    client.release.clear()
    for n in range(MAX_WAITING):
        ask(relay, "sites", asked=str(n))
    ask(relay, "sites", asked="one more")
    content, _ = sent.get(timeout=WAIT)
    assert (content["id"], content["error"]["status"]) == ("one more", 429)
    assert client.waiting <= MAX_THREADS
    client.release.set()
    ids = {sent.get(timeout=WAIT)[0]["id"] for _ in range(MAX_WAITING)}
    assert ids == {str(n) for n in range(MAX_WAITING)}


def test_no_request_takes_a_place_after_its_end(relay, sent):
    for _ in range(MAX_WAITING + 1):
        ask(relay, "sites")
        assert sent.get(timeout=WAIT)[0]["cts"] == "answer"
    for thread in threading.enumerate():
        if thread.name == "cts-relay":
            thread.join(WAIT)
    assert relay._stops == {}
    assert relay_module.MAX_WAITING == MAX_WAITING


def test_that_a_request_has_come_is_said_at_once(relay, client, taken):
    client.release.clear()
    ask(relay, "sites", asked="7")
    assert taken == ["7"]


def test_an_id_is_asked_once_at_a_time(relay, client, sent):
    client.release.clear()
    ask(relay, "sites")
    ask(relay, "sites")
    assert sent.get(timeout=WAIT)[0]["error"]["status"] == 409
    client.release.set()
    assert sent.get(timeout=WAIT)[0]["cts"] == "answer"
    assert sent.empty()


def begin_stream(relay, sent, asked: str) -> None:
    ask(relay, "events", asked=asked, in_pieces=True)
    pieces = [sent.get(timeout=WAIT) for _ in range(2)]
    assert [(content["id"], body) for content, body in pieces] == [
        (asked, [b""]),
        (asked, [b"begin"]),
    ]


def test_streams_of_pages_that_have_gone_keep_no_request_waiting(relay, client, sent):
    client.body = b"begin"
    client.release.clear()
    for n in range(MAX_STREAMS):
        begin_stream(relay, sent, str(n))
    client.request = lambda *_, **__: "answered"
    ask(relay, "sites", asked="sites")
    assert sent.get(timeout=WAIT)[0]["body"] == "answered"


def test_one_more_stream_ends_the_oldest(relay, client, sent):
    client.body = b"begin"
    client.release.clear()
    for n in range(MAX_STREAMS):
        begin_stream(relay, sent, str(n))
    relay.stop({"cts": "stop", "id": "0"})
    begin_stream(relay, sent, "in the place of 0")
    assert sent.empty()
    ask(relay, "events", asked="one more", in_pieces=True)
    messages = [sent.get(timeout=WAIT)[0] for _ in range(3)]
    assert {"cts": "end", "id": "1"} in messages
    client.release.set()
    assert client.ended.wait(WAIT)


KERNEL = """
import threading
from contextlib import contextmanager
from cts_jupyter.notebook.relay import Relay

begun = threading.Event()

class Client:
    @contextmanager
    def pieces(self, path, *, query):
        def read():
            begun.set()
            threading.Event().wait()
            yield b""
        yield {}, read()

relay = Relay(Client, lambda content, buffers: None)
relay.ask({"id": "1", "method": "GET", "path": "events", "in_pieces": True})
assert begun.wait(20)
"""


def test_a_stream_does_not_hold_up_the_end_of_the_kernel():
    subprocess.run([sys.executable, "-c", KERNEL], check=True, timeout=WAIT)
