"""The node's client of the service: responses, retries, and requests signed for many threads."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cts_core.worker.http.client import ResponseError, TransientError, UntrustedCertificateError
from cts_core.worker.node.api_client import (
    ApiClient,
    RemoteSigner,
    ServiceError,
    ServiceRefusedError,
)
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.s3.errors import S3Error
from tests.harness.worker import WorkerHarness

NODE = "http://service.invalid/node"


class FakeHttpClient:
    """Replaces HttpClient: returns the given responses in order, and records the requests."""

    def __init__(self, *responses: object) -> None:
        self.responses = list(responses)
        self.requests: list[tuple[str, str, object]] = []

    def request(self, method, signed, body=None, *, limit=0):
        data = b"".join(map(bytes, body)) if body else b""
        assert signed.headers["authorization"] == "Bearer t"
        assert signed.headers["cts-worker"] == "w"
        message = json.loads(data) if data else None
        self.requests.append((method, signed.url.removeprefix(NODE), message))
        response = self.responses.pop(0) if self.responses else self.default_response(message)
        if isinstance(response, Exception):
            raise response
        return {}, response

    @staticmethod
    def default_response(message) -> str:
        signed = [{"url": one["path"], "headers": {}} for one in message["requests"]]
        return json.dumps({"requests": signed})


def refused(status: int, appcode: int, message: str) -> ResponseError:
    return ResponseError(status, json.dumps({"error": {"appcode": appcode, "message": message}}))


def make_client(
    *responses: object, timeout: float = 60
) -> tuple[ApiClient, FakeHttpClient, list[float]]:
    http = FakeHttpClient(*responses)
    delays: list[float] = []
    client = ApiClient(http, NODE, "t", "w", retry_timeout=timeout, sleep=delays.append)
    return client, http, delays


def _text(plan: WorkerPlan) -> str:
    return json.dumps(plan.to_json())


def test_transient_failures_are_retried():
    # A proxy's own page is not about us, whatever its status.
    client, http, delays = make_client(
        TransientError("away"),
        ResponseError(503, ""),
        ResponseError(429, ""),
        ResponseError(404, "<html>"),
        "<html>",
        "",
    )
    client.update("complete", {"outputs": []})
    assert len(http.requests) == 6
    assert len(delays) == 5
    assert {what for _, what, _ in http.requests} == {"/update/complete"}


@pytest.mark.parametrize(
    "page",
    [
        "[]",
        '"log in"',
        "3",
        '{"granted": "no"}',
        '{"requests": [1]}',
        '{"requests": [{"url": null, "headers": {}}]}',
        '{"requests": [{"url": "http://s3.invalid/b/o", "headers": {"range": 3}}]}',
        '{"requests": [{"url": "http://s3.invalid/b/o", "headers": ["range"]}]}',
        "[" * 100_000,
    ],
)
def test_responses_of_proxies_are_retried(page: str):
    client, http, _ = make_client(page, '{"granted": false}')
    assert client.claim("1.0", 1) is False
    client, http, _ = make_client(page, "")
    client.update("complete", {"outputs": []})
    assert len(http.requests) == 2
    client, http, _ = make_client(page)
    assert [signed.url for signed in client.sign_requests([{"method": "GET", "path": "b/o"}])] == [
        "b/o"
    ]
    assert len(http.requests) == 2


@pytest.mark.parametrize(
    "page", ["[]", '"log in"', "3", '{"status": "down"}', '{"inputs": []}', '{"inputs": [{}]}']
)
def test_invalid_plans_are_retried(harness: WorkerHarness, page: str):
    client, http, _ = make_client(page, _text(harness.plan))
    assert client.plan() == harness.plan
    assert len(http.requests) == 2


@pytest.mark.parametrize(
    "error",
    [
        "3",
        '"no"',
        '{"message": "no", "appcode": Infinity}',
        '{"message": "no", "appcode": null}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_error_status_of_a_proxy_is_retried(error: str):
    client, http, _ = make_client(ResponseError(400, f'{{"error": {error}}}'), "")
    client.update("complete", {"outputs": []})
    assert len(http.requests) == 2


def test_delays_grow_to_ten_minutes():
    client, _, delays = make_client(*[TransientError("away")] * 30, "")
    client.update("complete", {})
    assert delays[0] < 0.5
    assert all(300 <= delay <= 600 for delay in delays[-10:])


def test_permanent_error_is_raised_at_once():
    client, http, _ = make_client(refused(403, 20000, "The token is another container's"))
    with pytest.raises(ServiceRefusedError, match="another container's") as raised:
        client.claim("1.0", 0)
    assert raised.value.appcode == 20000
    assert len(http.requests) == 1


def test_status_413_is_not_retried():
    # A proxy's own page.
    client, http, _ = make_client(ResponseError(413, "<html>"))
    with pytest.raises(
        ServiceRefusedError, match="more than the service, or a proxy before it, takes"
    ):
        client.update("complete", {"outputs": []})
    assert len(http.requests) == 1


def test_untrusted_certificate_is_not_retried():
    client, http, _ = make_client(UntrustedCertificateError("self-signed"))
    with pytest.raises(ServiceError, match="self-signed"):
        client.plan()
    assert len(http.requests) == 1


def test_retries_end_after_the_timeout():
    client, _, _ = make_client(TransientError("away"), timeout=0)
    with pytest.raises(ServiceError, match="away"):
        client.plan()


def test_after_exhausted_retries_calls_are_tried_once(monkeypatch, harness: WorkerHarness):
    plan = _text(harness.plan)
    passing = iter(range(0, 1000, 25))
    monkeypatch.setattr("cts_core.worker.node.api_client.time.monotonic", lambda: next(passing))
    client, http, _ = make_client(
        *[TransientError("away")] * 4, plan, TransientError("away"), plan, timeout=60
    )
    for tries in (3, 1):
        before = len(http.requests)
        with pytest.raises(ServiceError):
            client.plan()
        assert len(http.requests) - before == tries
    # After a response, later calls are retried again.
    client.plan()
    client.plan()
    assert http.responses == []


def test_inputs_are_prefetched_and_each_signed_request_is_used_once():
    client, http, _ = make_client()
    paths = [f"data/{n}" for n in range(150)]
    signer = RemoteSigner(client, paths)
    assert [signer.sign("GET", path, {}, {}).url for path in paths] == paths
    assert [len(message["requests"]) for _, _, message in http.requests] == [100, 50]
    signer.sign("GET", paths[0], {}, {})
    signer.sign("PUT", "data/out/x", {}, {"content-length": "1"})
    assert len(http.requests) == 4


def test_errors_of_the_service_become_s3_errors():
    client, _, _ = make_client(refused(403, 20000, "may not PUT"))
    with pytest.raises(S3Error, match="may not PUT"):
        RemoteSigner(client, []).sign("PUT", "data/x", {}, {})


# -- many threads ----------------------------------------------------------------------------------


class GatedHttpClient(FakeHttpClient):
    """Responds only after a given number of threads have requested a signature."""

    def __init__(self, threads: int, *responses: object) -> None:
        super().__init__(*responses)
        self.threads = threads
        self.here: set[int] = set()
        self.changed = threading.Condition()
        self.is_called = threading.Event()

    def check(self) -> None:
        with self.changed:
            self.here.add(threading.get_ident())
            self.changed.notify_all()

    def request(self, method, signed, body=None, *, limit=0):
        self.is_called.set()
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.here) >= self.threads, 60)
        return super().request(method, signed, body, limit=limit)

    @property
    def sizes(self) -> list[int]:
        return [len(message["requests"]) for _, _, message in self.requests]


class RefusingHttpClient(GatedHttpClient):
    """Refuses one path, together with every batch that contains it."""

    def default_response(self, message) -> str:
        if any(one["path"] == "data/bad" for one in message["requests"]):
            raise refused(403, 20000, "may not PUT 'data/bad'")
        return super().default_response(message)


def sign_in_threads(
    http: GatedHttpClient, paths: list[str], timeout: float = 60
) -> list[Future[str]]:
    """Have each path signed in a thread of its own, all at once."""
    signer = RemoteSigner(
        ApiClient(http, NODE, "t", "w", retry_timeout=timeout, sleep=lambda _: None), inputs=[]
    )
    with ThreadPoolExecutor(len(paths)) as pool:
        return [
            pool.submit(lambda path=path: signer.sign("PUT", path, {}, {}, http.check).url)
            for path in paths
        ]


def test_requests_of_threads_are_batched_up_to_100():
    paths = [f"data/out/{n}" for n in range(130)]
    http = GatedHttpClient(len(paths))
    assert [future.result() for future in sign_in_threads(http, paths)] == paths
    assert sum(http.sizes) == len(paths)
    assert len(http.sizes) <= 3
    assert max(http.sizes) <= 100


def test_failed_call_fails_the_whole_batch():
    http = GatedHttpClient(5, *[TransientError("away")] * 2)
    for future in sign_in_threads(http, ["data/x"] * 5, timeout=0):
        with pytest.raises(S3Error, match="away"):
            future.result()
    assert len(http.requests) <= 2


def test_refused_request_fails_alone():
    paths = ["data/a", "data/b", "data/bad", "data/c"]
    futures = dict(zip(paths, sign_in_threads(RefusingHttpClient(4), paths), strict=True))
    with pytest.raises(S3Error, match="may not PUT"):
        futures.pop("data/bad").result()
    assert {path: one.result() for path, one in futures.items()} == {path: path for path in futures}


class CanceledError(Exception):
    pass


class Cancellation:
    """A cancellation that threads check."""

    def __init__(self) -> None:
        self.is_checked = threading.Event()
        self.is_over = threading.Event()

    def check(self) -> None:
        self.is_checked.set()
        if self.is_over.is_set():
            raise CanceledError


def test_cancellation_ends_the_wait_for_another_threads_call():
    http, cancellation = GatedHttpClient(2), Cancellation()
    signer = RemoteSigner(ApiClient(http, NODE, "t", "w", retry_timeout=60), inputs=[])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(signer.sign, "PUT", "data/a", {}, {}, http.check)
        assert http.is_called.wait(60)
        second = pool.submit(signer.sign, "PUT", "data/b", {}, {}, cancellation.check)
        assert cancellation.is_checked.wait(60)
        cancellation.is_over.set()
        with pytest.raises(CanceledError):
            second.result(60)
        assert not first.done()
        http.check()
        assert first.result(60).url == "data/a"


def test_cancellation_of_the_calling_thread_leaves_the_call_to_others():
    http, cancellation = GatedHttpClient(1, TransientError("away")), Cancellation()
    client = ApiClient(
        http, NODE, "t", "w", retry_timeout=60, sleep=lambda _: cancellation.is_over.set()
    )
    signer = RemoteSigner(client, inputs=[])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(signer.sign, "PUT", "data/a", {}, {}, cancellation.check)
        assert http.is_called.wait(60)
        second = pool.submit(signer.sign, "PUT", "data/b", {}, {}, http.check)
        with pytest.raises(CanceledError):
            first.result(60)
        assert second.result(60).url == "data/b"


def test_prefetched_requests_serve_all_threads():
    client, http, _ = make_client()
    paths = [f"data/{n}" for n in range(1000)]
    signer = RemoteSigner(client, paths)
    with ThreadPoolExecutor(10) as pool:
        urls = list(pool.map(lambda path: signer.sign("GET", path, {}, {}).url, paths))
    assert urls == paths
    assert len(http.requests) < 100


def test_response_with_too_few_signed_requests_is_an_error():
    client, _, _ = make_client(json.dumps({"requests": []}))
    with pytest.raises(S3Error, match="gave 0"):
        RemoteSigner(client, []).sign("PUT", "data/x", {}, {})
