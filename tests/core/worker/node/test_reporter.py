"""What a worker on a node tells the service, and when: the container waits for nobody."""

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

PATIENCE = 60.0
ENDED = {"state": "complete", "exit_code": 0, "outputs": []}


class ApiClient:
    """Takes updates, but for the states that are to be refused, or while it is away."""

    def __init__(self, *refused: str, longest: int = 1 << 20) -> None:
        self.refused = refused
        self.longest = longest
        self.is_away = False
        self.told: list[tuple[str, dict[str, Any]]] = []

    def update(self, state: str, message: Mapping[str, Any]) -> None:
        if self.is_away:
            raise ServiceError("away")
        if state in self.refused or len(str(message)) > self.longest:
            raise ServiceRefusedError(f"no {state}", 30300)
        self.told.append((state, dict(message)))

    @property
    def states(self) -> list[str]:
        return [state for state, _ in self.told]


class Store:
    """Keeps what was stored last, and counts."""

    def __init__(self) -> None:
        self.parallel = ParallelMap(1)
        self.is_slow, self.is_asked = threading.Event(), threading.Event()
        self.content: dict[str, bytes] = {}
        self.times = 0
        self.is_away = False

    def store(self, source: str, path: str, content_type: str = DEFAULT_TYPE) -> StoredFile:
        if self.is_away:
            raise S3Error("away")
        assert content_type.startswith("text/plain")
        while self.is_slow.is_set():
            self.is_asked.set()
            self.parallel.check()
        self.times += 1
        self.content[path] = Path(source).read_bytes()
        return StoredFile(len(self.content[path]), "")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdout.txt"


@pytest.fixture
def store() -> Store:
    return Store()


def reporter(service: ApiClient, store: Store, log: Path) -> Reporter:
    return Reporter(
        once=service, persistent=service, logs=LogUploader(store, {str(log): "logs/out"})
    )


def event(state: str, **message: Any) -> dict[str, Any]:
    return {"state": state, "time": "2026-03-04T05:00:00+00:00", **message}


def test_events_are_reported_in_order_before_the_result(store: Store, log: Path) -> None:
    service = ApiClient()
    told = reporter(service, store, log)
    told.on_event(event("job_submitting"))
    told.on_event(event("upload_submitting", exit_code=0))
    told.finish(ENDED)
    assert service.states == ["job_submitting", "upload_submitting", "complete"]
    message = dict(service.told)
    assert message["upload_submitting"] == {"time": "2026-03-04T05:00:00+00:00", "exit_code": 0}
    assert message["complete"].keys() == {"time", "exit_code", "outputs"}


def test_unreported_events_stay_in_order(store: Store, log: Path) -> None:
    service = ApiClient()
    told = reporter(service, store, log)
    service.is_away = True
    told.on_event(event("job_submitting"))
    told.on_event(event("job_submitted"))
    service.is_away = False
    told.finish(ENDED)
    assert service.states == ["job_submitting", "job_submitted", "complete"]


def test_events_are_retried_while_the_container_runs(store: Store, log: Path) -> None:
    service = ApiClient()
    told = reporter(service, store, log)
    service.is_away = True
    told.on_event(event("job_submitting"))
    with told.while_running():
        service.is_away = False
        eventually(lambda: service.states == ["job_submitting"])


def test_refused_state_does_not_prevent_the_result(store: Store, log: Path) -> None:
    # As of a container that runs again, and was further the first time.
    service = ApiClient("error_processing_submitting")
    told = reporter(service, store, log)
    told.on_event(event("error_processing_submitting", exit_code=3))
    told.finish({"state": "error", "exit_code": 3})
    assert service.states == ["error"]


def test_refused_outputs_are_an_error(store: Store, log: Path) -> None:
    service = ApiClient("complete")
    outputs = [{"file": "data/out/x", "crc64nvme": "AAAAAAAAAAA="}]
    reporter(service, store, log).finish({**ENDED, "outputs": outputs})
    ((state, message),) = service.told
    assert (state, message["exit_code"]) == ("error", 0)
    assert "1 outputs stored" in message["error"]
    assert "no complete" in message["error"]


def test_too_long_error_is_reported_briefly(store: Store, log: Path) -> None:
    service = ApiClient(longest=1000)
    end = {"state": "error", "error": "no space", "traceback": "x" * 1000, "exit_code": 3}
    reporter(service, store, log).finish(end)
    ((state, message),) = service.told
    assert (state, message["error"], message["exit_code"]) == ("error", "no space", 3)
    assert "reached the state error" in message["admin_error"]


def test_refused_result_raises(store: Store, log: Path) -> None:
    with pytest.raises(ServiceRefusedError):
        reporter(ApiClient("complete", "error"), store, log).finish(ENDED)


def test_log_is_uploaded_only_when_it_has_grown(
    store: Store, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(log_uploader.time, "monotonic", lambda: clock[0])
    logs = LogUploader(store, {str(log): "logs/out"})

    def show_after(seconds: float) -> int:
        clock[0] += seconds
        logs.upload_if_due()
        return store.times

    assert show_after(5) == 0
    log.write_bytes(b"one")
    assert show_after(3) == 0
    assert show_after(1) == 1
    assert store.content == {"logs/out": b"one"}
    assert show_after(5) == 1
    log.write_bytes(b"one two")
    store.is_away = True
    assert show_after(5) == 1
    store.is_away = False
    assert show_after(5) == 2
    assert store.content == {"logs/out": b"one two"}
    # What was large is followed by a longer pause: so many bytes a second, and no more.
    log.write_bytes(bytes(10 * log_uploader.MAX_RATE))
    assert show_after(5) == 3
    log.write_bytes(bytes(11 * log_uploader.MAX_RATE))
    assert show_after(9.9) == 3
    assert show_after(0.2) == 4


def test_end_of_the_container_aborts_a_log_upload(
    store: Store, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_uploader, "INTERVAL_SECONDS", 0)
    log.write_bytes(b"one")
    store.is_slow.set()
    with reporter(ApiClient(), store, log).while_running():
        assert store.is_asked.wait(PATIENCE)
    assert store.content == {}
    # For whoever stores the last of it, all is as before.
    store.parallel.check()


def test_undecodable_names_are_escaped(store: Store, log: Path) -> None:
    service = ApiClient()
    reporter(service, store, log).finish({**ENDED, "warnings": ["caf\udce9"]})
    ((_, message),) = service.told
    assert message["warnings"] == ["caf\\udce9"]
