"""States of dependencies, from calls and probes."""

from __future__ import annotations

import asyncio
import functools

import pytest

from cts_core.errors import NoSuchJobError, StorageFullError, UnavailableError
from cts_core.model.service import DependencyState, ReadyStatus
from cts_core.observability import health
from cts_core.observability.health import Health, MonitoredDependency
from cts_core.observability.instrument import PortCall
from tests.harness.stub_port import Port


@pytest.fixture
def port() -> Port:
    return Port()


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


async def test_failed_call_is_no_outage_unless_the_probe_agrees(port: Port):
    dependency = MonitoredDependency("port", functools.partial(port.ask, 1), is_needed=True)
    states = Health([dependency])
    await states.readiness()
    failed_call = PortCall("port", "ask", (), 0.1, error=UnavailableError("for an odd key"))
    states.on_call(failed_call)
    assert states.states() == {"port": DependencyState.UP}
    assert (await states.readiness()).status is ReadyStatus.READY

    port.error = UnavailableError("it is away")
    assert (await states.readiness()).status is ReadyStatus.READY, "its state is fresh"
    assert not await states.is_down("port")
    states.on_call(failed_call)
    assert await states.is_down("port")
    assert (await states.readiness()).dependencies[0].error == "it is away"


async def test_full_dependency_degrades_until_its_probe_finds_space(
    port: Port, caplog: pytest.LogCaptureFixture
):
    room = Port()
    dependency = MonitoredDependency(
        "port",
        functools.partial(port.ask, 1),
        is_needed=True,
        probe_room=functools.partial(room.ask, 1),
    )
    states = Health([dependency])
    assert (await states.readiness()).status is ReadyStatus.READY

    room.error = StorageFullError("it is full")
    states.on_call(PortCall("port", "write", (), 0.1, error=room.error))
    states.on_call(PortCall("port", "read", (), 0.1))
    found = await states.readiness()
    assert found.status is ReadyStatus.DEGRADED
    assert (found.dependencies[0].state, found.dependencies[0].error) == (
        DependencyState.FULL,
        "it is full",
    )
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "port is full: it is full"
    ]
    states.on_call(PortCall("port", "read", (), 0.1))
    assert states.states() == {"port": DependencyState.FULL}

    room.error = None
    dependency.updated = float("-inf")
    assert (await states.readiness()).status is ReadyStatus.READY
    states.on_call(PortCall("port", "read", (), 0.1))
    assert states.states() == {"port": DependencyState.UP}


async def test_users_quota_does_not_degrade_the_service(port: Port):
    dependency = MonitoredDependency(
        "port",
        functools.partial(port.ask, 1),
        is_needed=True,
        probe_room=functools.partial(port.ask, 1),
    )
    states = Health([dependency])
    states.on_call(PortCall("port", "write", (), 0.1, error=StorageFullError("of this bucket")))
    assert (await states.readiness()).status is ReadyStatus.READY


async def test_failed_calls_do_not_prolong_an_outage(port: Port):
    port.error = UnavailableError("it is away")
    dependency = MonitoredDependency("port", functools.partial(port.ask, 1), is_needed=True)
    states = Health([dependency])
    assert (await states.readiness()).status is ReadyStatus.NOT_READY
    probed = dependency.updated
    states.on_call(PortCall("port", "ask", (), 0.1, error=UnavailableError("for an odd key")))
    assert dependency.updated == probed, "it would be probed later"


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


async def test_first_state_is_that_of_the_probe(port: Port):
    """A read succeeds where there is no space."""

    async def refuse() -> None:
        raise StorageFullError("no space left")

    states = Health([MonitoredDependency("port", refuse, is_needed=True)])
    states.on_call(PortCall("port", "ask", (), 0.1))
    assert (await states.readiness()).status is ReadyStatus.DEGRADED
    assert states.states() == {"port": DependencyState.FULL}
