"""The stream of events that all jobs of a kernel share, when it fails to start."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from cts_jupyter.client import CTSClient
from cts_jupyter.client.event_feed import Change, EventFeed, Listener, _Run
from cts_jupyter.client.transport import CTSConnectionError, ForeignResponseError
from cts_jupyter.discovery import Connection
from cts_jupyter.notebook import job as job_module
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.session import Session
from tests.harness.paths import COPY_INPUTS
from tests.harness.server import ServerHarness, submission


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt(), CTSConnectionError("away")], ids=repr)
async def test_failed_start_of_the_feed_is_retried(
    server: ServerHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    # So that only events end the wait.
    monkeypatch.setattr(job_module, "_BACKSTOP_SECONDS", 10_000.0)

    def break_off() -> NoReturn:
        raise error

    def work() -> None:
        session = Session(Connection(server.root, lambda: server.kernel_token))
        session.client.register_image("host/tool", executable=str(COPY_INPUTS))
        (tmp_path / "a").write_text("a")
        session.client.upload(tmp_path / "a", "data/in/a")
        body = submission(input_files=["data/in/a"])
        job = Job(session, session.client.submit(body))
        with monkeypatch.context() as broken:
            broken.setattr(session.client, "root", break_off)
            with pytest.raises(type(error)):
                job.follow()
        # It does not follow events, so it sends a request.
        while session.client.status(job.id).state != "complete":
            time.sleep(0.05)
        assert job.state == "complete"
        other = Job(session, session.client.submit({**body, "output_dir": "data/other/"}))
        assert other.wait(60).state == "complete"
        session.close()

    await asyncio.to_thread(work)


class _Silent:
    """A stream without events."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        self._closed.wait(60)
        return iter(())

    def close(self) -> None:
        self._closed.set()


def test_listener_added_during_a_failing_start_starts_another() -> None:
    listener = cast("Listener", object())
    second = threading.Thread(target=lambda: feed.subscribe("second", listener))
    asked: list[str] = []

    def root() -> SimpleNamespace:
        asked.append(threading.current_thread().name)
        if len(asked) == 1:
            second.start()
            # It returns too early, or waits for this thread.
            second.join(0.2)
            raise CTSConnectionError("away")
        return SimpleNamespace(server_time=None)

    feed = EventFeed(cast("CTSClient", SimpleNamespace(root=root, events=lambda after: _Silent())))
    with pytest.raises(CTSConnectionError):
        feed.subscribe("first", listener)
    second.join(60)
    assert asked == [threading.current_thread().name, second.name]
    assert feed.watched() == ["second"]
    feed.close()


@pytest.mark.parametrize(
    ("response", "change", "state"),
    [
        ("job_submitting", Change(state="job_submitted"), "job_submitted"),
        ("job_submitted", Change(containers={"job_submitted": 1}), "job_submitted"),
        ("complete", Change(state="upload_submitted"), "complete"),
    ],
)
def test_response_older_than_an_event_is_ignored(
    monkeypatch: pytest.MonkeyPatch, response: str, change: Change, state: str
) -> None:
    session = Session(Connection("http://127.0.0.1:1/cts", lambda: "token"))
    monkeypatch.setattr(_Run, "start", lambda _: None)
    monkeypatch.setattr(
        session.client,
        "status",
        lambda _, **__: SimpleNamespace(state="download_submitted", containers=None),
    )
    job = Job(session, "a-job")
    job.follow()

    def status(job_id: str, **_: object) -> SimpleNamespace:
        session.feed.notify(job_id, change)
        return SimpleNamespace(state=response, containers=None)

    monkeypatch.setattr(session.client, "status", status)
    assert job.refresh() == response
    assert job.state == state
    session.close()


def test_wait_goes_on_while_the_service_is_away_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(Connection("http://127.0.0.1:1/cts", lambda: "token"))
    monkeypatch.setattr(_Run, "start", lambda _: None)
    monkeypatch.setattr(job_module, "_BACKSTOP_SECONDS", 0.01)
    away = ForeignResponseError("302 Found to /hub/user/ana/cts", status=302)
    answers = iter(["job_submitted", away, away, "complete"])

    def status(_: str, **__: object) -> SimpleNamespace:
        answer = next(answers)
        if isinstance(answer, str):
            return SimpleNamespace(state=answer, containers=None)
        raise answer

    monkeypatch.setattr(session.client, "status", status)
    assert Job(session, "a-job").wait(60).state == "complete"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"Job a-job cannot be read now, and is asked for again: {away}"
    ]
    session.close()
