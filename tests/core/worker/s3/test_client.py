"""A worker's objects on S3: no fault on the way leads to wrong bytes."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cts_core.worker.checksum import crc64nvme_text
from cts_core.worker.objects.tree import DiskFullError
from cts_core.worker.s3 import download, requests
from cts_core.worker.s3 import upload as s3_upload
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from cts_core.worker.s3.errors import S3Error
from tests.harness.disk import small_disk
from tests.services.proxy import Proxy
from tests.services.s3 import ACCESS_KEY, REGION, SECRET, S3Server
from tests.services.server import free_port

MIB = 1 << 20
BIG = random.Random(1).randbytes(12 * MIB + 12_345)


def keys(url: str, **changes) -> S3Keys:
    return replace(S3Keys(url, REGION, ACCESS_KEY, SECRET, timeout=20), **changes)


@pytest.fixture
def objects() -> Iterator[Callable[..., S3Objects]]:
    """Return a factory of the client under test, for a server at a URL."""
    clients = []

    def make(url: str, sleep: Callable[[float], None] = lambda _: None, **changes) -> S3Objects:
        s3_keys = keys(url, **changes)
        clients.append(S3Objects(s3_keys.http_client(), KeySigner(s3_keys), sleep=sleep))
        return clients[-1]

    yield make
    for each in clients:
        each.close()


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(keys("http://host"))
    sign = KeySigner(keys("http://host")).sign("GET", "data/a", {}, {})
    assert "Signature" not in repr(sign)


# -- on real servers -----------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    proxy = Proxy(s3_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def five_mib_parts(monkeypatch) -> None:
    monkeypatch.setattr(s3_upload, "PART_SIZE", 5 * MIB)


@pytest.fixture
def on_ranges(monkeypatch) -> Callable[[Callable[..., None]], None]:
    """Have objects fetched in ranges of 5 MiB; return a setter for a function called before each but the first."""

    def set_up(call: Callable[..., None]) -> None:
        fetch_range = download.Download._fetch_range

        def called(self, part) -> bool:
            call(part)
            return fetch_range(self, part)

        monkeypatch.setattr(download, "RANGE_SIZE", 5 * MIB)
        monkeypatch.setattr(download.Download, "_fetch_range", called)

    return set_up


@contextlib.contextmanager
def requests_to(server: S3Server, path: str) -> Iterator[tuple[Any, dict[str, str]]]:
    bucket, _, key = path.partition("/")
    with contextlib.closing(server.client()) as client:
        yield client, {"Bucket": bucket, "Key": key}


def put(server: S3Server, path: str, data: bytes) -> str:
    with requests_to(server, path) as (client, place):
        client.put_object(**place, Body=data, ChecksumCRC64NVME=crc64nvme_text(data))
    return crc64nvme_text(data)


def head(server: S3Server, path: str) -> dict[str, Any]:
    with requests_to(server, path) as (client, place):
        return client.head_object(**place, ChecksumMode="ENABLED")


def content(server: S3Server, path: str) -> bytes:
    with requests_to(server, path) as (client, place):
        return client.get_object(**place)["Body"].read()


def unfinished(server: S3Server) -> list[Any]:
    with requests_to(server, "data/") as (client, place):
        return client.list_multipart_uploads(Bucket=place["Bucket"]).get("Uploads", [])


@pytest.mark.slow
@pytest.mark.usefixtures("five_mib_parts")
@pytest.mark.parametrize("data", [b"", b"a few bytes", BIG], ids=["empty", "small", "big"])
def test_stored_with_the_checksum_of_the_whole_and_fetched(
    objects, s3_server: S3Server, tmp_path: Path, data: bytes
) -> None:
    source = tmp_path / "source"
    source.write_bytes(data)
    path = "data/out/a name+with #%&=é ä"
    stored = objects(s3_server.url).store(str(source), path, "text/plain; charset=utf-8")
    assert (stored.size, stored.crc64nvme) == (len(data), crc64nvme_text(data))
    headers = head(s3_server, path)
    assert headers["ChecksumCRC64NVME"] == crc64nvme_text(data)
    assert headers["ChecksumType"] == "FULL_OBJECT"
    assert headers["ContentType"] == "text/plain; charset=utf-8"
    target = tmp_path / "target"
    assert objects(s3_server.url).fetch(path, str(target), stored.crc64nvme) == len(data)
    assert target.read_bytes() == data


@pytest.mark.slow
def test_store_replaces_an_object(objects, s3_server: S3Server, tmp_path: Path) -> None:
    put(s3_server, "data/a", b"old")
    (tmp_path / "new").write_bytes(b"new")
    objects(s3_server.url).store(str(tmp_path / "new"), "data/a")
    assert content(s3_server, "data/a") == b"new"


@pytest.mark.slow
def test_other_bytes_than_those_submitted_leave_nothing(
    objects, s3_server: S3Server, tmp_path: Path
) -> None:
    put(s3_server, "data/a", b"other")
    expected = crc64nvme_text(b"submitted")
    with pytest.raises(S3Error, match="The S3 path 'data/a' has changed"):
        objects(s3_server.url).fetch("data/a", str(tmp_path / "a"), expected)
    assert not (tmp_path / "a").exists()


def no_sleep(_: float) -> None:
    raise AssertionError("it was tried again")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["data/none", "no-such-bucket/a"])
def test_missing_object_is_not_retried(
    objects, s3_server: S3Server, tmp_path: Path, path: str
) -> None:
    with pytest.raises(S3Error, match=f"'{path}' was not found"):
        objects(s3_server.url, no_sleep).fetch(path, str(tmp_path / "a"), "x")
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"secret": "no-such-secret"}, {"access_key": "nobody"}])
def test_wrong_keys_are_not_retried_and_not_shown(
    objects, s3_server: S3Server, tmp_path: Path, changes: dict[str, str]
) -> None:
    put(s3_server, "data/a", b"a")
    with pytest.raises(S3Error) as refused:
        objects(s3_server.url, no_sleep, **changes).fetch("data/a", str(tmp_path / "a"), "x")
    assert "own credentials" in str(refused.value)
    assert not any(word in str(refused.value) for word in (SECRET, ACCESS_KEY, *changes.values()))


@pytest.mark.slow
def test_download_resumes_where_it_broke_off(
    objects, s3_server: S3Server, proxy: Proxy, tmp_path: Path
) -> None:
    crc = put(s3_server, "data/big", BIG)
    proxy.cut_after = 7 * MIB
    size = objects(proxy.url).fetch("data/big", str(tmp_path / "big"), crc)
    assert size == len(BIG)
    assert (tmp_path / "big").read_bytes() == BIG
    assert proxy.cut_after is None, "it did not break off"
    assert proxy.connections == 2


@pytest.mark.slow
def test_an_object_that_is_replaced_meanwhile_is_never_mixed(
    objects, s3_server: S3Server, proxy: Proxy, tmp_path: Path
) -> None:
    put(s3_server, "data/big", BIG)
    other = bytes(reversed(BIG))
    proxy.cut_after = 7 * MIB

    def replace_it(_: float) -> None:
        put(s3_server, "data/big", other)

    fetched = objects(proxy.url, replace_it).fetch(
        "data/big", str(tmp_path / "big"), crc64nvme_text(other)
    )
    assert fetched == len(other)
    assert (tmp_path / "big").read_bytes() == other


@pytest.mark.slow
@pytest.mark.usefixtures("five_mib_parts")
def test_upload_survives_a_restart_of_the_server(
    objects, s3_server: S3Server, proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(BIG)
    proxy.closed = True
    tries = []

    def come_back(_: float) -> None:
        tries.append(1)
        proxy.closed = len(tries) < 3

    stored = objects(proxy.url, come_back).store(str(tmp_path / "big"), "data/big")
    assert len(tries) == 3
    assert head(s3_server, "data/big")["ChecksumCRC64NVME"] == stored.crc64nvme
    assert content(s3_server, "data/big") == BIG


@pytest.mark.slow
@pytest.mark.usefixtures("five_mib_parts")
def test_lost_response_to_the_completion_is_checked_for(
    objects, s3_server: S3Server, proxy: Proxy, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "big").write_bytes(BIG)
    complete, is_stored = s3_upload.Upload._complete, s3_upload.Upload._is_stored
    checks = []

    def lose_the_response(*arguments) -> None:
        proxy.cut_after = 0
        complete(*arguments)

    def complete_before_the_check(*arguments) -> bool:
        # At the first check the server may still be at work.
        checks.append(1)
        return len(checks) > 1 and is_stored(*arguments)

    monkeypatch.setattr(s3_upload.Upload, "_complete", lose_the_response)
    monkeypatch.setattr(s3_upload.Upload, "_is_stored", complete_before_the_check)
    objects(proxy.url, time.sleep).store(str(tmp_path / "big"), "data/big")
    assert proxy.cut_after is None
    assert content(s3_server, "data/big") == BIG
    assert not unfinished(s3_server)


@pytest.mark.slow
@pytest.mark.usefixtures("five_mib_parts")
def test_abandoned_upload_leaves_no_parts(
    objects, s3_server: S3Server, proxy: Proxy, tmp_path: Path, monkeypatch
) -> None:
    class CanceledError(Exception):
        pass

    (tmp_path / "big").write_bytes(BIG)
    send = s3_upload.Upload._send

    def cut_the_second(self, upload, headers, part) -> object:
        if part.number == 2:
            proxy.cut_after = 0
        return send(self, upload, headers, part)

    def cancel(_: float) -> None:
        raise CanceledError

    monkeypatch.setattr(s3_upload.Upload, "_send", cut_the_second)
    with pytest.raises(CanceledError):
        objects(proxy.url, cancel).store(str(tmp_path / "big"), "data/big")
    assert not unfinished(s3_server)
    with pytest.raises(Exception, match="404"):
        head(s3_server, "data/big")


@pytest.mark.slow
def test_a_file_that_changes_is_refused_by_the_server(
    objects, s3_server: S3Server, tmp_path: Path, monkeypatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"before")
    monkeypatch.setattr(requests, "RETRY_SECONDS", 0)
    request = requests.S3Requests.request

    def change_it(*arguments) -> object:
        source.write_bytes(b"behind")
        return request(*arguments)

    monkeypatch.setattr(requests.S3Requests, "request", change_it)
    with pytest.raises(S3Error, match="could not be used"):
        objects(s3_server.url).store(str(source), "data/a")
    with pytest.raises(Exception, match="404"):
        head(s3_server, "data/a")


# -- parallel transfers ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("five_mib_parts")
def test_objects_and_their_parts_are_transferred_in_parallel(
    objects, s3_server: S3Server, tmp_path: Path, monkeypatch
) -> None:
    barrier = threading.Barrier(2)
    send = s3_upload.Upload._send

    def wait_for_another(self, upload, headers, part) -> object:
        if upload and part.number < 3:
            barrier.wait(60)
        return send(self, upload, headers, part)

    monkeypatch.setattr(s3_upload.Upload, "_send", wait_for_another)
    contents = {"big": BIG, **{f"n{number}": b"%d" % number for number in range(30)}}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    both = objects(s3_server.url)
    stored = both.parallel.map(
        lambda name: both.store(str(tmp_path / name), f"data/{name}"), contents
    )
    assert [part.crc64nvme for part in stored] == [
        crc64nvme_text(data) for data in contents.values()
    ]
    assert head(s3_server, "data/big")["ChecksumCRC64NVME"] == crc64nvme_text(BIG)

    def fetch(name: str) -> bytes:
        target = tmp_path / f"{name}.back"
        both.fetch(f"data/{name}", str(target), crc64nvme_text(contents[name]))
        return target.read_bytes()

    assert both.parallel.map(fetch, contents) == list(contents.values())


@pytest.mark.slow
def test_ranges_are_fetched_in_parallel(
    objects, s3_server: S3Server, tmp_path: Path, on_ranges
) -> None:
    barrier = threading.Barrier(2)
    on_ranges(lambda _: barrier.wait(60))
    crc = put(s3_server, "data/big", BIG)
    assert objects(s3_server.url).fetch("data/big", str(tmp_path / "big"), crc) == len(BIG)
    assert (tmp_path / "big").read_bytes() == BIG


@pytest.mark.slow
def test_range_resumes_where_it_broke_off(
    objects, s3_server: S3Server, proxy: Proxy, tmp_path: Path, on_ranges
) -> None:
    def cut(part) -> None:
        if part.start == 5 * MIB:
            proxy.cut_after = 2 * MIB

    on_ranges(cut)
    crc = put(s3_server, "data/big", BIG)
    assert objects(proxy.url).fetch("data/big", str(tmp_path / "big"), crc) == len(BIG)
    assert (tmp_path / "big").read_bytes() == BIG
    assert proxy.cut_after is None, "it did not break off"


@pytest.mark.slow
def test_an_object_that_is_replaced_between_its_ranges_is_never_mixed(
    objects, s3_server: S3Server, tmp_path: Path, on_ranges
) -> None:
    put(s3_server, "data/big", BIG)
    other, replaced = bytes(reversed(BIG))[:-MIB], []

    def replace_it(part) -> None:
        if part.start == 5 * MIB and not replaced:
            replaced.append(put(s3_server, "data/big", other))

    on_ranges(replace_it)
    crc = crc64nvme_text(other)
    assert objects(s3_server.url).fetch("data/big", str(tmp_path / "big"), crc) == len(other)
    assert (tmp_path / "big").read_bytes() == other


class Endless:
    """A server that sends one object without end, and has no other."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if b"/data/endless " not in connection.recv(1 << 16):
                assert self.sent.wait(60)
                connection.sendall(http("404 None", error("NoSuchKey")))
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.sendall(bytes(MIB))
                self.sent.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def endless() -> Iterator[Endless]:
    server = Endless()
    yield server
    server.close()


def test_failure_stops_parallel_transfers(objects, endless, tmp_path: Path) -> None:
    both = objects(endless.url, no_sleep)
    with pytest.raises(S3Error, match="'data/none' was not found"):
        both.parallel.map(
            lambda name: both.fetch(f"data/{name}", str(tmp_path / name), "x"), ["endless", "none"]
        )
    assert not list(tmp_path.iterdir())


def test_cancel_stops_transfers(objects, endless, tmp_path: Path) -> None:
    class CanceledError(Exception):
        pass

    def check() -> None:
        if endless.sent.is_set():
            raise CanceledError

    store = objects(endless.url, no_sleep)
    with pytest.raises(CanceledError):
        store.parallel.map(
            lambda name: store.fetch(f"data/{name}", str(tmp_path / name), "x"),
            ["endless"],
            check,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_cancel_stops_a_part_under_way(objects, proxy: Proxy, tmp_path: Path) -> None:
    class CanceledError(Exception):
        pass

    def check() -> None:
        if proxy.connections:
            raise CanceledError

    (tmp_path / "small").write_bytes(bytes(7 * MIB))
    # The sender of the part would wait for a minute.
    proxy.delay = 0.5
    store = objects(proxy.url, no_sleep)
    begun = time.monotonic()
    with pytest.raises(CanceledError):
        store.parallel.map(
            lambda name: store.store(str(tmp_path / name), f"data/{name}"), ["small"], check
        )
    assert proxy.connections == 1
    assert time.monotonic() - begun < 40


# -- servers that misbehave ------------------------------------------------------------------------


class Scripted:
    """A server that answers each connection with the next of some texts, and closes it."""

    def __init__(self, *answers: bytes) -> None:
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, args=(answers,), daemon=True).start()

    def _serve(self, answers: tuple[bytes, ...]) -> None:
        with self._listener:
            for answer in answers:
                connection, _ = self._listener.accept()
                with connection:
                    self.requests.append(connection.recv(1 << 16))
                    connection.sendall(answer)


def http(status: str, body: bytes = b"", headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode()
        + body
    )


def error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()


def test_transient_failures_and_short_responses_are_retried(objects, tmp_path: Path) -> None:
    whole = http("200 OK", b"content", 'ETag: "1"\r\n')
    server = Scripted(
        http("503 Slow Down", error("SlowDown")),
        b"",
        http("500 Oops", b"<html>"),
        # Of a proxy before the store.
        http("404 Not Found", b"<html>404 page not found"),
        whole[:-4],
        http("206 Partial Content", b"tent", 'ETag: "1"\r\n'),
    )
    delays: list[float] = []
    fetched = objects(server.url, delays.append).fetch(
        "data/a", str(tmp_path / "a"), crc64nvme_text(b"content")
    )
    assert fetched == 7
    assert (tmp_path / "a").read_bytes() == b"content"
    assert len(delays) == 5
    assert b"range: bytes=3-" in server.requests[-1]
    assert b'if-match: "1"' in server.requests[-1]


def test_server_without_ranges_is_read_from_the_start(objects, tmp_path: Path) -> None:
    whole = http("200 OK", b"content", 'ETag: "1"\r\n')
    server = Scripted(whole[:-4], whole, whole)
    fetched = objects(server.url).fetch("data/a", str(tmp_path / "a"), crc64nvme_text(b"content"))
    assert (fetched, (tmp_path / "a").read_bytes()) == (7, b"content")
    assert [b"range: " in request for request in server.requests] == [False, True, False]


def test_large_object_of_a_server_without_ranges_is_one_stream(
    objects, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(download, "RANGE_SIZE", 3)
    whole = http("200 OK", b"content", 'ETag: "1"\r\n')
    server = Scripted(*[whole] * 4)
    fetched = objects(server.url).fetch("data/a", str(tmp_path / "a"), crc64nvme_text(b"content"))
    assert (fetched, (tmp_path / "a").read_bytes()) == (7, b"content")
    assert [b"range: " in request for request in server.requests] == [False, True, True, False]


def test_too_small_disk_is_reported_before_the_download(
    objects, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(download, "RANGE_SIZE", MIB)
    server = Scripted(f"HTTP/1.1 200 OK\r\nContent-Length: {3 * MIB}\r\n\r\n".encode())
    with small_disk(tmp_path / "disk", "2m") as disk:
        with pytest.raises(DiskFullError, match="no space left on the disk for 'data/a'"):
            objects(server.url).fetch("data/a", str(disk / "a"), "x")
        assert not list(disk.iterdir())


def test_retries_end_after_the_timeout_and_later_objects_are_tried_once(
    objects, tmp_path: Path, monkeypatch
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= requests.MAX_DELAY_SECONDS
        now[0] += seconds

    monkeypatch.setattr(requests.time, "monotonic", lambda: now[0])
    store = objects(f"http://127.0.0.1:{free_port()}", sleep)
    with pytest.raises(S3Error, match=r"'data/a' for 900 seconds \(Connection refused\)"):
        store.fetch("data/a", str(tmp_path / "a"), "x")
    assert 900 < now[0] < 920
    before = now[0]
    with pytest.raises(S3Error, match="'data/b' for 900 seconds"):
        store.fetch("data/b", str(tmp_path / "b"), "x")
    assert now[0] == before


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http("403 Forbidden", error("AccessDenied")), "denies access to 'data/a' (AccessDenied)"),
        (http("507 Full", error("XMinioStorageFull")), "no space left at the object store"),
        (http("500 Full", b"cause(no space left on device)"), "no space left at the object store"),
        (http("301 Moved", error("PermanentRedirect")), "another region"),
        (http("409 Conflict", error("ObjectParentIsFile")), "a folder of it is an object"),
        (http("400 Bad", error("EntityTooLarge")), "refuses 'data/a' (EntityTooLarge)"),
        (http("302 Found", b"", "Location: http://elsewhere/\r\n"), "refuses 'data/a' (HTTP 302)"),
    ],
)
def test_error_sentences(objects, tmp_path: Path, answer: bytes, why: str) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(S3Error) as refused:
        objects(Scripted(answer).url).store(str(tmp_path / "a"), "data/a")
    assert why in str(refused.value)


def test_error_in_a_successful_response(objects, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(s3_upload, "PART_SIZE", 1)
    (tmp_path / "a").write_bytes(b"ab")
    started = http("200 OK", b"<UploadId>7</UploadId>")
    part = http("200 OK", b"", 'ETag: "p"\r\n')
    done = http("200 OK", b"<CompleteMultipartUploadResult/>")
    server = Scripted(started, part, part, http("200 OK", error("InternalError")), done)
    objects(server.url).store(str(tmp_path / "a"), "data/a")
    assert [request.split()[0] for request in server.requests] == [
        b"POST", b"PUT", b"PUT", b"POST", b"POST",
    ]  # fmt: skip


def test_lost_upload_is_reported_right_after_the_last_check(
    objects, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(s3_upload, "PART_SIZE", 1)
    (tmp_path / "a").write_bytes(b"ab")
    started = http("200 OK", b"<UploadId>7</UploadId>")
    part = http("200 OK", b"", 'ETag: "p"\r\n')
    lost, none = http("404 Not Found", error("NoSuchUpload")), http("404 Not Found")
    server = Scripted(started, part, part, lost, *[none] * 10, http("204 No Content"))
    seen: list[tuple[int, float]] = []

    def sleep(seconds: float) -> None:
        seen.append((len(server.requests), seconds))

    with pytest.raises(S3Error, match="NoSuchUpload"):
        objects(server.url, sleep).store(str(tmp_path / "a"), "data/a")
    assert [request.split()[0] for request in server.requests[4:]] == [b"HEAD"] * 10 + [b"DELETE"]
    # Before each check but the first.
    assert seen == [(requests_to, 1.0) for requests_to in range(5, 14)]
