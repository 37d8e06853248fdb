"""What a worker on a node asks of the service, and how long it tries."""

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


class Answers:
    """Stands for Http: answers one after the other, and keeps what was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, object]] = []

    def request(self, method, signed, body=None, *, limit=0):
        data = b"".join(map(bytes, body)) if body else b""
        assert signed.headers["authorization"] == "Bearer t"
        message = json.loads(data) if data else None
        self.asked.append((method, signed.url.removeprefix(NODE), message))
        result = self.answers.pop(0) if self.answers else self.granted(message)
        if isinstance(result, Exception):
            raise result
        return {}, result

    @staticmethod
    def granted(message) -> str:
        leave = [{"url": one["path"], "headers": {}} for one in message["requests"]]
        return json.dumps({"requests": leave})


def refused(status: int, appcode: int, message: str) -> ResponseError:
    return ResponseError(status, json.dumps({"error": {"appcode": appcode, "message": message}}))


def service(*answers: object, timeout: float = 60) -> tuple[ApiClient, Answers, list[float]]:
    http = Answers(*answers)
    pauses: list[float] = []
    made = ApiClient(http, NODE, "t", timeout=timeout, sleep=pauses.append)
    return made, http, pauses


def _text(plan: WorkerPlan) -> str:
    return json.dumps(plan.to_json())


def test_transient_failures_are_retried():
    # A proxy's own page says nothing of us, whatever its status.
    asked, http, pauses = service(
        TransientError("away"),
        ResponseError(503, ""),
        ResponseError(429, ""),
        ResponseError(404, "<html>"),
        "<html>",
        "",
    )
    asked.update("complete", {"outputs": []})
    assert len(http.asked) == 6
    assert len(pauses) == 5
    assert {what for _, what, _ in http.asked} == {"/update/complete"}


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
    asked, http, _ = service(page, '{"granted": false}')
    assert asked.claim("1.0", 1, "w") is False
    asked, http, _ = service(page, "")
    asked.update("complete", {"outputs": []})
    assert len(http.asked) == 2
    asked, http, _ = service(page)
    assert [leave.url for leave in asked.sign_requests([{"method": "GET", "path": "b/o"}])] == [
        "b/o"
    ]
    assert len(http.asked) == 2


@pytest.mark.parametrize(
    "page", ["[]", '"log in"', "3", '{"status": "down"}', '{"inputs": []}', '{"inputs": [{}]}']
)
def test_invalid_plans_are_retried(harness: WorkerHarness, page: str):
    asked, http, _ = service(page, _text(harness.plan))
    assert asked.plan() == harness.plan
    assert len(http.asked) == 2


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
    asked, http, _ = service(ResponseError(400, f'{{"error": {error}}}'), "")
    asked.update("complete", {"outputs": []})
    assert len(http.asked) == 2


def test_delays_grow_to_ten_minutes():
    asked, _, pauses = service(*[TransientError("away")] * 30, "")
    asked.update("complete", {})
    assert pauses[0] < 0.5
    assert all(300 <= sleep <= 600 for sleep in pauses[-10:])


def test_permanent_error_is_raised_at_once():
    asked, http, _ = service(refused(403, 20000, "The token is another container's"))
    with pytest.raises(ServiceRefusedError, match="another container's") as raised:
        asked.claim("1.0", 0, "w")
    assert raised.value.appcode == 20000
    assert len(http.asked) == 1


def test_status_413_is_not_retried():
    # A proxy's own page.
    asked, http, _ = service(ResponseError(413, "<html>"))
    with pytest.raises(
        ServiceRefusedError, match="more than the service, or a proxy before it, takes"
    ):
        asked.update("complete", {"outputs": []})
    assert len(http.asked) == 1


def test_untrusted_certificate_is_not_retried():
    asked, http, _ = service(UntrustedCertificateError("self-signed"))
    with pytest.raises(ServiceError, match="self-signed"):
        asked.plan()
    assert len(http.asked) == 1


def test_retries_end_after_the_timeout():
    asked, _, _ = service(TransientError("away"), timeout=0)
    with pytest.raises(ServiceError, match="away"):
        asked.plan()


def test_after_exhausted_retries_calls_are_tried_once(monkeypatch, harness: WorkerHarness):
    plan = _text(harness.plan)
    passing = iter(range(0, 1000, 25))
    monkeypatch.setattr("cts_core.worker.node.api_client.time.monotonic", lambda: next(passing))
    asked, http, _ = service(
        *[TransientError("away")] * 4, plan, TransientError("away"), plan, timeout=60
    )
    for tries in (3, 1):
        before = len(http.asked)
        with pytest.raises(ServiceError):
            asked.plan()
        assert len(http.asked) - before == tries
    # Once it has answered, it is waited for again.
    asked.plan()
    asked.plan()
    assert http.answers == []


def test_inputs_are_prefetched_and_each_signed_request_is_used_once():
    asked, http, _ = service()
    paths = [f"data/{n}" for n in range(150)]
    signer = RemoteSigner(asked, paths)
    assert [signer.sign("GET", path, {}, {}).url for path in paths] == paths
    assert [len(message["requests"]) for _, _, message in http.asked] == [100, 50]
    signer.sign("GET", paths[0], {}, {})
    signer.sign("PUT", "data/out/x", {}, {"content-length": "1"})
    assert len(http.asked) == 4


def test_errors_of_the_service_become_s3_errors():
    asked, _, _ = service(refused(403, 20000, "may not PUT"))
    with pytest.raises(S3Error, match="may not PUT"):
        RemoteSigner(asked, []).sign("PUT", "data/x", {}, {})


# -- many threads ----------------------------------------------------------------------------------


class Gate(Answers):
    """The same; a question is answered once so many threads have asked for leave."""

    def __init__(self, threads: int, *answers: object) -> None:
        super().__init__(*answers)
        self.threads = threads
        self.here: set[int] = set()
        self.changed = threading.Condition()
        self.is_asked = threading.Event()

    def check(self) -> None:
        with self.changed:
            self.here.add(threading.get_ident())
            self.changed.notify_all()

    def request(self, method, signed, body=None, *, limit=0):
        self.is_asked.set()
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.here) >= self.threads, 60)
        return super().request(method, signed, body, limit=limit)

    @property
    def sizes(self) -> list[int]:
        return [len(message["requests"]) for _, _, message in self.asked]


class Picky(Gate):
    """The same; one path is refused, with all that is asked for beside it."""

    def granted(self, message) -> str:
        if any(one["path"] == "data/bad" for one in message["requests"]):
            raise refused(403, 20000, "may not PUT 'data/bad'")
        return super().granted(message)


def all_ask(http: Gate, paths: list[str], timeout: float = 60) -> list[Future[str]]:
    """Each path asked for by a thread of its own, all at once."""
    signer = RemoteSigner(
        ApiClient(http, NODE, "t", timeout=timeout, sleep=lambda _: None), inputs=[]
    )
    with ThreadPoolExecutor(len(paths)) as pool:
        return [
            pool.submit(lambda path=path: signer.sign("PUT", path, {}, {}, http.check).url)
            for path in paths
        ]


def test_requests_of_threads_are_batched_up_to_100():
    paths = [f"data/out/{n}" for n in range(130)]
    http = Gate(len(paths))
    assert [asked.result() for asked in all_ask(http, paths)] == paths
    assert sum(http.sizes) == len(paths)
    assert len(http.sizes) <= 3
    assert max(http.sizes) <= 100


def test_failed_call_fails_the_whole_batch():
    http = Gate(5, *[TransientError("away")] * 2)
    for asked in all_ask(http, ["data/x"] * 5, timeout=0):
        with pytest.raises(S3Error, match="away"):
            asked.result()
    assert len(http.asked) <= 2


def test_refused_request_fails_alone():
    paths = ["data/a", "data/b", "data/bad", "data/c"]
    asked = dict(zip(paths, all_ask(Picky(4), paths), strict=True))
    with pytest.raises(S3Error, match="may not PUT"):
        asked.pop("data/bad").result()
    assert {path: one.result() for path, one in asked.items()} == {path: path for path in asked}


class NotWantedError(Exception):
    pass


class Wish:
    """Whether something is wanted, as threads check it."""

    def __init__(self) -> None:
        self.is_checked = threading.Event()
        self.is_over = threading.Event()

    def check(self) -> None:
        self.is_checked.set()
        if self.is_over.is_set():
            raise NotWantedError


def test_cancellation_ends_the_wait_for_another_threads_call():
    http, wish = Gate(2), Wish()
    signer = RemoteSigner(ApiClient(http, NODE, "t", timeout=60), inputs=[])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(signer.sign, "PUT", "data/a", {}, {}, http.check)
        assert http.is_asked.wait(60)
        second = pool.submit(signer.sign, "PUT", "data/b", {}, {}, wish.check)
        assert wish.is_checked.wait(60)
        wish.is_over.set()
        with pytest.raises(NotWantedError):
            second.result(60)
        assert not first.done()
        http.check()
        assert first.result(60).url == "data/a"


def test_cancellation_of_the_calling_thread_leaves_the_call_to_others():
    http, wish = Gate(1, TransientError("away")), Wish()
    service = ApiClient(http, NODE, "t", timeout=60, sleep=lambda _: wish.is_over.set())
    signer = RemoteSigner(service, inputs=[])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(signer.sign, "PUT", "data/a", {}, {}, wish.check)
        assert http.is_asked.wait(60)
        second = pool.submit(signer.sign, "PUT", "data/b", {}, {}, http.check)
        with pytest.raises(NotWantedError):
            first.result(60)
        assert second.result(60).url == "data/b"


def test_prefetched_requests_serve_all_threads():
    asked, http, _ = service()
    paths = [f"data/{n}" for n in range(1000)]
    signer = RemoteSigner(asked, paths)
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda path: signer.sign("GET", path, {}, {}).url, paths))
    assert found == paths
    assert len(http.asked) < 100


def test_response_with_too_few_signed_requests_is_an_error():
    asked, _, _ = service(json.dumps({"requests": []}))
    with pytest.raises(S3Error, match="gave 0"):
        RemoteSigner(asked, []).sign("PUT", "data/x", {}, {})
