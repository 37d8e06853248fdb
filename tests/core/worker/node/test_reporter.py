"""The reports of a worker on a node: the container does not wait for the service."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cts_core.worker.container import log_uploader
from cts_core.worker.container.log_uploader import LogUploader
from cts_core.worker.node.api_client import ServiceError, ServiceRefusedError
from cts_core.worker.node.reporter import Reporter
from cts_core.worker.objects.info import DEFAULT_TYPE
from cts_core.worker.parallel import ParallelMap
from cts_core.worker.s3.errors import S3Error
from cts_core.worker.s3.upload import StoredFile
from tests.harness.worker import eventually

TIMEOUT = 60.0
ENDED = {"state": "complete", "exit_code": 0, "outputs": []}


class FakeApiClient:
    """Accepts updates, except those of refused states, and none while it is unavailable."""

    def __init__(self, *refused: str, longest: int = 1 << 20) -> None:
        self.refused = refused
        self.longest = longest
        self.is_unavailable = False
        self.updates: list[tuple[str, dict[str, Any]]] = []

    def update(self, state: str, fields: Mapping[str, Any]) -> None:
        if self.is_unavailable:
            raise ServiceError("away")
        if state in self.refused or len(str(fields)) > self.longest:
            raise ServiceRefusedError(f"no {state}", 30300)
        self.updates.append((state, dict(fields)))

    @property
    def states(self) -> list[str]:
        return [state for state, _ in self.updates]


class FakeStore:
    """Stores the last content, and counts the uploads."""

    def __init__(self) -> None:
        self.parallel = ParallelMap(1)
        self.is_slow, self.is_called = threading.Event(), threading.Event()
        self.content: dict[str, bytes] = {}
        self.times = 0
        self.is_unavailable = False

    def store(self, source: str, path: str, content_type: str = DEFAULT_TYPE) -> StoredFile:
        if self.is_unavailable:
            raise S3Error("away")
        assert content_type.startswith("text/plain")
        while self.is_slow.is_set():
            self.is_called.set()
            self.parallel.check()
        self.times += 1
        self.content[path] = Path(source).read_bytes()
        return StoredFile(len(self.content[path]), "")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdout.txt"


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def make_reporter(service: FakeApiClient, store: FakeStore, log: Path) -> Reporter:
    return Reporter(
        once=service, persistent=service, logs=LogUploader(store, {str(log): "logs/out"})
    )


def event(state: str, **fields: Any) -> dict[str, Any]:
    return {"state": state, "time": "2026-03-04T05:00:00+00:00", **fields}


def test_events_are_reported_in_order_before_the_result(store: FakeStore, log: Path) -> None:
    service = FakeApiClient()
    reporter = make_reporter(service, store, log)
    reporter.on_event(event("job_submitting"))
    reporter.on_event(event("upload_submitting", exit_code=0))
    reporter.finish(ENDED)
    assert service.states == ["job_submitting", "upload_submitting", "complete"]
    fields = dict(service.updates)
    assert fields["upload_submitting"] == {"time": "2026-03-04T05:00:00+00:00", "exit_code": 0}
    assert fields["complete"].keys() == {"time", "exit_code", "outputs"}


def test_unreported_events_stay_in_order(store: FakeStore, log: Path) -> None:
    service = FakeApiClient()
    reporter = make_reporter(service, store, log)
    service.is_unavailable = True
    reporter.on_event(event("job_submitting"))
    reporter.on_event(event("job_submitted"))
    service.is_unavailable = False
    reporter.finish(ENDED)
    assert service.states == ["job_submitting", "job_submitted", "complete"]


def test_events_are_retried_while_the_container_runs(store: FakeStore, log: Path) -> None:
    service = FakeApiClient()
    reporter = make_reporter(service, store, log)
    service.is_unavailable = True
    reporter.on_event(event("job_submitting"))
    with reporter.while_running():
        service.is_unavailable = False
        eventually(lambda: service.states == ["job_submitting"])


def test_refused_state_does_not_prevent_the_result(store: FakeStore, log: Path) -> None:
    # As for a container that runs again, and was further the first time.
    service = FakeApiClient("error_processing_submitting")
    reporter = make_reporter(service, store, log)
    reporter.on_event(event("error_processing_submitting", exit_code=3))
    reporter.finish({"state": "error", "exit_code": 3})
    assert service.states == ["error"]


def test_refused_outputs_are_an_error(store: FakeStore, log: Path) -> None:
    service = FakeApiClient("complete")
    outputs = [{"file": "data/out/x", "crc64nvme": "AAAAAAAAAAA="}]
    make_reporter(service, store, log).finish({**ENDED, "outputs": outputs})
    ((state, fields),) = service.updates
    assert (state, fields["exit_code"]) == ("error", 0)
    assert "1 outputs stored" in fields["error"]
    assert "no complete" in fields["error"]


def test_too_long_error_is_reported_briefly(store: FakeStore, log: Path) -> None:
    service = FakeApiClient(longest=1000)
    end = {"state": "error", "error": "no space", "traceback": "x" * 1000, "exit_code": 3}
    make_reporter(service, store, log).finish(end)
    ((state, fields),) = service.updates
    assert (state, fields["error"], fields["exit_code"]) == ("error", "no space", 3)
    assert "reached the state error" in fields["admin_error"]


def test_refused_result_raises(store: FakeStore, log: Path) -> None:
    with pytest.raises(ServiceRefusedError):
        make_reporter(FakeApiClient("complete", "error"), store, log).finish(ENDED)


def test_log_is_uploaded_only_when_it_has_grown(
    store: FakeStore, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(log_uploader.time, "monotonic", lambda: clock[0])
    logs = LogUploader(store, {str(log): "logs/out"})

    def uploaded_after(seconds: float) -> int:
        clock[0] += seconds
        logs.upload_if_due()
        return store.times

    assert uploaded_after(5) == 0
    log.write_bytes(b"one")
    assert uploaded_after(3) == 0
    assert uploaded_after(1) == 1
    assert store.content == {"logs/out": b"one"}
    assert uploaded_after(5) == 1
    log.write_bytes(b"one two")
    store.is_unavailable = True
    assert uploaded_after(5) == 1
    store.is_unavailable = False
    assert uploaded_after(5) == 2
    assert store.content == {"logs/out": b"one two"}
    # After a large upload the interval is longer, by the limit of bytes a second.
    log.write_bytes(bytes(10 * log_uploader.MAX_RATE))
    assert uploaded_after(5) == 3
    log.write_bytes(bytes(11 * log_uploader.MAX_RATE))
    assert uploaded_after(9.9) == 3
    assert uploaded_after(0.2) == 4


def test_end_of_the_container_aborts_a_log_upload(
    store: FakeStore, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_uploader, "INTERVAL_SECONDS", 0)
    log.write_bytes(b"one")
    store.is_slow.set()
    with make_reporter(FakeApiClient(), store, log).while_running():
        assert store.is_called.wait(TIMEOUT)
    assert store.content == {}
    # The final upload of the logs is not affected.
    store.parallel.check()


def test_undecodable_names_are_escaped(store: FakeStore, log: Path) -> None:
    service = FakeApiClient()
    make_reporter(service, store, log).finish({**ENDED, "warnings": ["caf\udce9"]})
    ((_, fields),) = service.updates
    assert fields["warnings"] == ["caf\\udce9"]
