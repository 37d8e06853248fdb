"""Instrumented ports: the calls that listeners get, states of dependencies, and metrics."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cts_core.engine import health
from cts_core.engine.health import Health, MonitoredDependency
from cts_core.engine.instrument import PortCall, instrument
from cts_core.engine.metrics import Metrics
from cts_core.errors import NoSuchJobError, PathNotFoundError, UnavailableError
from cts_core.model.service import DependencyState, ReadyStatus
from cts_reference import replace_blocks
from tests.harness.engine import EngineHarness
from tests.harness.paths import DOCS

METRICS = DOCS / "reference" / "metrics.md"


class Port:
    """A port whose calls fail as a test sets."""

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

    def on_call(self, call: PortCall) -> None:
        self.calls.append(call)


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def listener() -> Listener:
    return Listener()


async def test_calls_pass_through_and_are_reported(port: Port, listener: Listener):
    instrumented = instrument(port, "port", listener)
    assert await instrumented.ask(1, more=2) == 3
    assert instrumented.colour == "blue"
    port.error = NoSuchJobError("none")
    with pytest.raises(NoSuchJobError):
        await instrumented.ask(1)
    first, second = listener.calls
    assert (first.port, first.method, first.args, first.result) == ("port", "ask", (1,), 3)
    assert (second.error, second.outage) == (port.error, None)
    assert all(call.seconds >= 0 for call in listener.calls)


async def test_outage_is_recognised_in_place_of_a_result(port: Port, listener: Listener):
    instrumented = instrument(port, "port", listener)
    port.error = UnavailableError("away")
    await instrumented.many()
    with pytest.raises(UnavailableError):
        await instrumented.ask(1)
    assert [call.outage for call in listener.calls] == [port.error, port.error]


async def test_stream_is_reported_once_and_closed(port: Port, listener: Listener):
    instrumented = instrument(port, "port", listener)
    assert [chunk async for chunk in instrumented.read()] == [b"a", b"b"]
    assert len(listener.calls) == 1
    stream = instrumented.read()
    port.released = False
    await anext(stream)
    await stream.aclose()
    assert port.released
    port.error = UnavailableError("away")
    with pytest.raises(UnavailableError):
        [chunk async for chunk in instrumented.read()]
    assert listener.calls[-1].outage is port.error


async def test_empty_stream_is_reported(port: Port, listener: Listener):
    port.is_empty = True
    assert [chunk async for chunk in instrument(port, "port", listener).read()] == []
    (call,) = listener.calls
    assert (call.method, call.error) == ("read", None)


async def test_cancelled_call_is_not_reported(port: Port, listener: Listener):
    port.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await instrument(port, "port", listener).ask(1)
    assert listener.calls == []


async def test_states_follow_calls_and_probes(port: Port, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "FRESH_SECONDS", -1.0)
    dependency = MonitoredDependency("port", functools.partial(port.ask, 1), is_needed=True)
    side = MonitoredDependency("side", None, is_needed=False)
    states = Health([dependency, side])
    found = await states.readiness()
    assert found.status is ReadyStatus.READY
    assert [d.state for d in found.dependencies] == [DependencyState.UP, DependencyState.UNKNOWN]

    states.on_call(PortCall("side", "ask", (), 0.1, error=TimeoutError()))
    found = await states.readiness()
    assert found.status is ReadyStatus.DEGRADED
    assert found.dependencies[1].error == health.NO_RESPONSE

    port.error = UnavailableError("it is away")
    found = await states.readiness()
    assert found.status is ReadyStatus.NOT_READY
    assert found.dependencies[0].error == "it is away"
    since = found.dependencies[0].since
    assert (await states.readiness()).dependencies[0].since == since

    port.error = None
    states.on_call(PortCall("port", "ask", (), 0.1, error=NoSuchJobError("a refusal is an answer")))
    assert states.states() == {"port": DependencyState.UP, "side": DependencyState.DOWN}
    assert dependency.error is None


async def test_probe_without_response_times_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "PROBE_TIMEOUT_SECONDS", 0.05)
    silent = MonitoredDependency("silent", asyncio.Event().wait, is_needed=True)
    (found,) = (await Health([silent]).readiness()).dependencies
    assert (found.state, found.error) == (DependencyState.DOWN, health.NO_RESPONSE)


async def test_success_from_a_cache_does_not_change_the_state():
    dependency = MonitoredDependency("identity", None, is_needed=True, success_means_up=False)
    states = Health([dependency])
    states.on_call(PortCall("identity", "identify", (), 0.1))
    assert dependency.state is DependencyState.UNKNOWN
    states.on_call(PortCall("identity", "identify", (), 0.1, error=UnavailableError("away")))
    assert dependency.state is DependencyState.DOWN


def parse_metrics(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_job_shows_in_the_metrics(harness: EngineHarness):
    await harness.prepare("a")
    job = await harness.wait_until_ended(await harness.submit(["a"]))
    await harness.wait_until_events_sent()
    found = parse_metrics(await harness.engine.metrics())

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


async def test_every_metric_is_documented(harness: EngineHarness):
    text = (await harness.engine.metrics()).decode()
    exported = set(re.findall(r"^# TYPE (cts_\w+) \w+$", text, re.MULTILINE))
    page = replace_blocks(METRICS.read_text())
    documented = set(re.findall(r"^\| `(cts_\w+)` \|", page, re.MULTILINE))
    assert exported == documented


async def test_errors_of_calls_are_counted_by_kind(harness: EngineHarness):
    metrics = Metrics(preset="service", group="g")
    for error in (NoSuchJobError("a"), UnavailableError("b"), TimeoutError(), ValueError("c")):
        metrics.on_call(PortCall("records", "get_job", (), 0.1, error=error))
    metrics.on_request("GET", "/jobs", 429, 0.1)
    found = parse_metrics(
        await metrics.text(harness.engine._store, {"records": DependencyState.DOWN})
    )

    def errors(kind: str) -> Any:
        labels = (("kind", kind), ("method", "get_job"), ("port", "records"))
        return found["cts_call_errors_total", labels]

    assert (errors("refused"), errors("outage"), errors("fault")) == (1, 2, 1)
    assert found["cts_limited_requests_total", (("route", "/jobs"),)] == 1
    assert found["cts_dependency_up", (("dependency", "records"),)] == 0
    assert not [name for name, _ in found if name == "cts_outbox_jobs"]


async def test_scrape_probes_dependencies_that_were_down(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    """A service that receives no requests but scrapes must not seem down for ever."""
    monkeypatch.setattr("cts_core.engine.health.FRESH_SECONDS", -1.0)
    away = PortCall("records", "get_job", (), 0.1, error=UnavailableError("away"))
    harness.engine._health.on_call(away)
    found = parse_metrics(await harness.engine.metrics())
    assert found["cts_dependency_up", (("dependency", "records"),)] == 1
    assert found["cts_outbox_jobs", ()] == 0
