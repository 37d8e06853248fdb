"""Instrumented ports: the calls that listeners get."""

from __future__ import annotations

import asyncio

import pytest

from cts_core.errors import NoSuchJobError, UnavailableError
from cts_core.observability.instrument import PortCall, instrument
from tests.harness.stub_port import Port


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
    port.colour = "green"
    assert instrumented.colour == "green"
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


async def test_error_names_the_port_that_raised_it_first(port: Port):
    port.error = NoSuchJobError("none")
    outer = instrument(instrument(port, "inner"), "outer")
    with pytest.raises(NoSuchJobError) as caught:
        await outer.ask(1)
    assert caught.value.dependency == "inner"
    with pytest.raises(NoSuchJobError) as caught:
        [chunk async for chunk in outer.read()]
    assert caught.value.dependency == "inner"


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
