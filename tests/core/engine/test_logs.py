"""Reading logs while they grow: the end of a log, and requests that wait for more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cts_core.engine import logs
from cts_core.engine.logs import MAX_WAITING_OF_USER, LogPart, Logs, LogSpan
from cts_core.errors import (
    IllegalParameterError,
    NoLogsError,
    PathNotFoundError,
    TooManyRequestsError,
    UnauthorizedError,
)
from cts_core.identity.identity import User
from cts_core.object_paths import FolderPath
from cts_core.objects.store import StoredObject
from cts_core.sites.site import Log, LogStream
from cts_core.states import JobState
from tests.harness.factories import make_job_record

ANA = User("ana")
JOB = make_job_record().model_copy(update={"state": JobState.JOB_SUBMITTED})


class GrowingLog:
    """A log that the test writes, at a site, and a count of how often it was looked at."""

    def __init__(self) -> None:
        self.content = b""
        self.ended = False
        self.looks = 0

    def open(self, stream: LogStream) -> Log | None:
        self.looks += stream is LogStream.STDOUT
        content = self.content if stream is LogStream.STDOUT else b"to stderr"

        async def read(seek: int, length: int | None) -> AsyncIterator[bytes]:
            yield content[seek : None if length is None else seek + length]

        return Log(len(content), self.ended, read)

    async def until_waited_for(self) -> None:
        """Wait until the log was looked at once more."""
        looks = self.looks
        while self.looks == looks:
            await asyncio.sleep(0)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> GrowingLog:
    monkeypatch.setattr(logs, "LOOK_SECONDS", 0.001)
    return GrowingLog()


@pytest.fixture
def reader(log: GrowingLog) -> Logs:
    async def open_log(_job: str, _number: int, stream: LogStream) -> Log | None:
        return log.open(stream)

    async def summary(_job: str) -> Any:
        return JOB

    site = SimpleNamespace(open_log=open_log)
    return Logs(
        cast("Any", SimpleNamespace(get_summary=summary)),
        cast("Any", None),
        cast("Any", SimpleNamespace(find=lambda _: site)),
        log_dir=FolderPath("data/logs"),
    )


Open = Callable[..., Any]


@pytest.fixture
def read(reader: Logs) -> Open:
    async def read(user: User = ANA, **span: Any) -> tuple[bytes, LogPart]:
        part = await reader.open(user, JOB.id, 0, LogStream.STDOUT, LogSpan(**span))
        return b"".join([piece async for piece in part.body]), part

    return read


async def test_the_tail_ends_where_the_size_says(log: GrowingLog, read: Open) -> None:
    log.content = b"0123456789"
    content, part = await read(tail=4)
    assert (content, part.size, part.ended) == (b"6789", 10, False)
    assert (await read(tail=100))[0] == log.content
    assert (await read(seek=10))[0] == b""
    for span in ({"tail": 1, "seek": 1}, {"tail": 1, "length": 1}):
        with pytest.raises(IllegalParameterError, match="tail"):
            await read(**span)


async def test_a_request_waits_until_the_log_grows(log: GrowingLog, read: Open) -> None:
    log.content = b"begun "
    assert (await read(seek=2, wait=20))[0] == b"gun "
    waiting = asyncio.create_task(read(seek=6, wait=20))
    await log.until_waited_for()
    await log.until_waited_for()
    assert not waiting.done()
    log.content += b"more"
    assert (await waiting)[0] == b"more"


async def test_a_request_waits_until_the_log_has_ended(log: GrowingLog, read: Open) -> None:
    log.content = b"begun"
    waiting = asyncio.create_task(read(seek=5, wait=20))
    await log.until_waited_for()
    log.ended = True
    content, part = await waiting
    assert (content, part.size, part.ended) == (b"", 5, True)
    assert (await read(seek=5, wait=20))[0] == b""
    for span in ({"seek": 5}, {"seek": 6, "wait": 20}):
        with pytest.raises(IllegalParameterError, match="has 5 bytes"):
            await read(**span)


async def test_a_wait_ends_with_its_time_and_with_the_server(
    log: GrowingLog, reader: Logs, read: Open
) -> None:
    log.content = b"begun"
    assert (await read(seek=5, wait=0.01))[0] == b""
    waiting = asyncio.create_task(read(seek=5, wait=20))
    await log.until_waited_for()
    reader.close()
    assert (await waiting)[0] == b""


async def test_the_number_of_waiting_requests_is_bounded(log: GrowingLog, read: Open) -> None:
    log.content = b"begun"
    waiting = [asyncio.create_task(read(seek=5, wait=20)) for _ in range(MAX_WAITING_OF_USER)]
    await log.until_waited_for()
    with pytest.raises(TooManyRequestsError, match="Too many requests wait for logs"):
        await read(seek=5, wait=20)
    assert (await read(seek=5))[0] == (await read(seek=3, wait=0))[0][2:] == b""
    log.content += b"!"
    assert {content for content, _ in await asyncio.gather(*waiting)} == {b"!"}
    # They count no more.
    assert (await read(seek=6, wait=0.01))[0] == b""


async def test_an_ended_container_without_output_is_not_waited_for() -> None:
    """Its empty log is never stored; the rest of the job goes on."""
    states = [JobState.COMPLETE, JobState.JOB_SUBMITTED]

    async def open_log(*_: Any) -> None:
        return None

    async def container(_job: str, number: int) -> Any:
        return SimpleNamespace(state=states[number])

    async def summary(_job: str) -> Any:
        return JOB.model_copy(
            update={"job_input": JOB.job_input.model_copy(update={"num_containers": 2})}
        )

    async def head(paths: list[str]) -> Any:
        return [
            PathNotFoundError("none")
            if "stderr" in path
            else StoredObject.model_construct(path=path, size=2)
            for path in paths
        ]

    reader = Logs(
        cast("Any", SimpleNamespace(get_summary=summary, container=container)),
        cast("Any", SimpleNamespace(head=head)),
        cast("Any", SimpleNamespace(find=lambda _: SimpleNamespace(open_log=open_log))),
        log_dir=FolderPath("data/logs"),
    )
    part = await reader.open(ANA, JOB.id, 0, LogStream.STDERR, LogSpan(wait=20))
    assert (part.size, part.ended) == (0, True)
    assert not (await reader.open(ANA, JOB.id, 1, LogStream.STDERR)).ended


async def test_the_tail_of_a_stored_log_is_what_was_there_when_it_was_looked_at(
    log: GrowingLog, read: Open
) -> None:
    log.content = b"01"
    found = log.open(LogStream.STDOUT)
    log.open = lambda _stream: found and Log(1, found.ended, found.read)  # type: ignore[method-assign]
    content, part = await read(tail=4)
    assert (content, part.size) == (b"0", 1)


async def test_nothing_written_yet_is_waited_for(
    log: GrowingLog, read: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "open", lambda _stream: Log(size=0, ended=False, read=logs._empty))
    with pytest.raises(NoLogsError):
        await read(wait=0.01)


async def test_admins_read_anybodys_log(log: GrowingLog, reader: Logs) -> None:
    log.content = b"text"
    eve = User("eve")
    with pytest.raises(UnauthorizedError):
        await reader.open(eve, JOB.id, 0, LogStream.STDOUT)
    part = await reader.open_any(eve, JOB.id, 0, LogStream.STDOUT, LogSpan(tail=2))
    assert b"".join([piece async for piece in part.body]) == b"xt"
