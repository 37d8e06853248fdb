"""What is told of the calls to a port, and what becomes of it: states of dependencies, and figures."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cts_core.engine import health
from cts_core.engine.health import Health, Watched
from cts_core.engine.instrument import PortCall, observed
from cts_core.engine.metrics import Metrics
from cts_core.errors import NoSuchJobError, PathNotFoundError, UnavailableError
from cts_core.model.service import DependencyState, ReadyStatus
from tests.harness.engine import EngineHarness
from tests.harness.paths import DOCS

SERVICE = DOCS / "service.md"


class Port:
    """A port whose calls go as a test wants."""

    colour = "blue"

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.released = False
        self.is_empty = False

    async def ask(self, value: int, *, more: int = 0) -> int:
        if self.error:
            raise self.error
        return value + more

    async def many(self) -> list[object]:
        return [PathNotFoundError("no a/b"), self.error]

    async def read(self) -> AsyncIterator[bytes]:
        try:
            if self.is_empty:
                return
            yield b"a"
            if self.error:
                raise self.error
            yield b"b"
        finally:
            self.released = True


class Listener:
    def __init__(self) -> None:
        self.calls: list[PortCall] = []

    def called(self, call: PortCall) -> None:
        self.calls.append(call)


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def heard() -> Listener:
    return Listener()


async def test_calls_are_told_and_go_through_as_they_are(port: Port, heard: Listener):
    seen = observed(port, "port", heard)
    assert await seen.ask(1, more=2) == 3
    assert seen.colour == "blue"
    port.error = NoSuchJobError("none")
    with pytest.raises(NoSuchJobError):
        await seen.ask(1)
    first, second = heard.calls
    assert (first.port, first.method, first.args, first.answer) == ("port", "ask", (1,), 3)
    assert (second.error, second.outage) == (port.error, None)
    assert all(call.seconds >= 0 for call in heard.calls)


async def test_an_outage_is_known_also_in_the_place_of_an_answer(port: Port, heard: Listener):
    seen = observed(port, "port", heard)
    port.error = UnavailableError("away")
    await seen.many()
    with pytest.raises(UnavailableError):
        await seen.ask(1)
    assert [call.outage for call in heard.calls] == [port.error, port.error]


async def test_a_stream_is_told_once_and_released(port: Port, heard: Listener):
    seen = observed(port, "port", heard)
    assert [piece async for piece in seen.read()] == [b"a", b"b"]
    assert len(heard.calls) == 1
    stream = seen.read()
    port.released = False
    await anext(stream)
    await stream.aclose()
    assert port.released
    port.error = UnavailableError("away")
    with pytest.raises(UnavailableError):
        [piece async for piece in seen.read()]
    assert heard.calls[-1].outage is port.error


async def test_a_stream_of_nothing_is_told_too(port: Port, heard: Listener):
    port.is_empty = True
    assert [piece async for piece in observed(port, "port", heard).read()] == []
    (call,) = heard.calls
    assert (call.method, call.error) == ("read", None)


async def test_who_leaves_says_nothing_of_the_port(port: Port, heard: Listener):
    port.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await observed(port, "port", heard).ask(1)
    assert heard.calls == []


async def test_states_follow_calls_and_questions(port: Port, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "FRESH_SECONDS", -1.0)
    watched = Watched("port", functools.partial(port.ask, 1), is_needed=True)
    side = Watched("side", None, is_needed=False)
    states = Health([watched, side])
    found = await states.readiness()
    assert found.status is ReadyStatus.READY
    assert [d.state for d in found.dependencies] == [DependencyState.UP, DependencyState.UNKNOWN]

    states.called(PortCall("side", "ask", (), 0.1, error=TimeoutError()))
    found = await states.readiness()
    assert found.status is ReadyStatus.DEGRADED
    assert found.dependencies[1].error == health.SILENT

    port.error = UnavailableError("it is away")
    found = await states.readiness()
    assert found.status is ReadyStatus.NOT_READY
    assert found.dependencies[0].error == "it is away"
    since = found.dependencies[0].since
    assert (await states.readiness()).dependencies[0].since == since

    port.error = None
    states.called(PortCall("port", "ask", (), 0.1, error=NoSuchJobError("a refusal is an answer")))
    assert states.states() == {"port": DependencyState.UP, "side": DependencyState.DOWN}
    assert watched.error is None


async def test_one_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "ASK_SECONDS", 0.05)
    silent = Watched("silent", asyncio.Event().wait, is_needed=True)
    (found,) = (await Health([silent]).readiness()).dependencies
    assert (found.state, found.error) == (DependencyState.DOWN, health.SILENT)


async def test_a_cached_answer_says_nothing_of_the_dependency():
    watched = Watched("identity", None, is_needed=True, answers_tell=False)
    states = Health([watched])
    states.called(PortCall("identity", "identify", (), 0.1))
    assert watched.state is DependencyState.UNKNOWN
    states.called(PortCall("identity", "identify", (), 0.1, error=UnavailableError("away")))
    assert watched.state is DependencyState.DOWN


def figures(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_a_job_shows_in_the_figures(harness: EngineHarness):
    await harness.prepare("a")
    job = await harness.wait_until_ended(await harness.submit(["a"]))
    await harness.wait_until_events_sent()
    found = figures(await harness.engine.metrics())

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert value("cts_jobs", site="local", state="complete") == 1
    assert value("cts_transitions_total", state="complete") == 1
    assert value("cts_event_delay_seconds_count") == len(job.transition_times)
    assert value("cts_outbox_jobs") == value("cts_outbox_age_seconds") == 0
    assert value("cts_event_subscribers") == value("cts_unadopted_jobs") == 0
    assert value("cts_call_seconds_count", port="records", method="insert_job") == 1
    assert value("cts_call_seconds_count", port="site local", method="start") == 1
    assert not [key for key in found if job.id in str(key) or "ana" in str(key)]


async def test_every_figure_is_documented(harness: EngineHarness):
    text = (await harness.engine.metrics()).decode()
    told = set(re.findall(r"^# TYPE (cts_\w+) \w+$", text, re.MULTILINE))
    documented = set(re.findall(r"^\| `(cts_\w+)` \|", SERVICE.read_text(), re.MULTILINE))
    assert told == documented


async def test_errors_of_calls_are_told_apart(harness: EngineHarness):
    metrics = Metrics(preset="service", group="g")
    for error in (NoSuchJobError("a"), UnavailableError("b"), TimeoutError(), ValueError("c")):
        metrics.called(PortCall("records", "get_job", (), 0.1, error=error))
    metrics.requested("GET", "/jobs", 429, 0.1)
    found = figures(await metrics.text(harness.engine._store, {"records": DependencyState.DOWN}))

    def errors(kind: str) -> Any:
        labels = (("kind", kind), ("method", "get_job"), ("port", "records"))
        return found["cts_call_errors_total", labels]

    assert (errors("refused"), errors("outage"), errors("fault")) == (1, 2, 1)
    assert found["cts_limited_requests_total", (("route", "/jobs"),)] == 1
    assert found["cts_dependency_up", (("dependency", "records"),)] == 0
    assert not [name for name, _ in found if name == "cts_outbox_jobs"]


async def test_what_was_away_is_asked_again_for_the_figures(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    """A quiet service, which nobody asks for anything but its figures, must not seem down for ever."""
    monkeypatch.setattr("cts_core.engine.health.FRESH_SECONDS", -1.0)
    away = PortCall("records", "get_job", (), 0.1, error=UnavailableError("away"))
    harness.engine._health.called(away)
    found = figures(await harness.engine.metrics())
    assert found["cts_dependency_up", (("dependency", "records"),)] == 1
    assert found["cts_outbox_jobs", ()] == 0
