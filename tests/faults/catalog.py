"""The faults that are injected into a service while jobs are submitted.

A fault is over when its function returns, except for what takes time to recover.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.harness.faults import TIMEOUT_SECONDS, FaultHarness
from tests.services.proxy import Proxy
from tests.services.server import ServerProcess

START_DELAY_SECONDS = 0.7
"""Before a fault begins, so that jobs are under way."""
DELAY_SECONDS = 0.15
"""The delay of each piece that a slowed proxy passes on, in either direction."""


@dataclass(frozen=True)
class Fault:
    """A fault: ``inject`` runs while jobs are submitted, ``prepare`` before, ``end`` once all have ended."""

    inject: Callable[[FaultHarness], None]
    prepare: Callable[[FaultHarness], None] = lambda _: None
    end: Callable[[FaultHarness], None] = lambda _: None


@dataclass(frozen=True)
class Component:
    """One of the servers that a service depends on, and the proxy through which the service reaches it."""

    name: str
    program: Callable[[FaultHarness], ServerProcess]
    proxy: Callable[[FaultHarness], Proxy]


COMPONENTS = (
    Component(
        "MongoDB", lambda harness: harness.services.mongo, lambda harness: harness.mongo_proxy
    ),
    Component("Kafka", lambda harness: harness.services.kafka, lambda harness: harness.kafka_proxy),
    Component("S3", lambda harness: harness.services.s3.program, lambda harness: harness.s3_proxy),
)


def faults(seconds: float) -> Iterator[tuple[str, Fault]]:
    """Yield every fault with its name; outages last ``seconds``."""
    yield "nothing", Fault(lambda _: None)
    for component in COMPONENTS:
        yield from _component_faults(component, seconds)
    yield (
        "S3 frozen until a canceled job has ended",
        Fault(lambda harness: harness.cancel_without(harness.services.s3.program)),
    )
    yield "a server stopped", _delayed(_restarted)
    yield "a server killed", _delayed(_killed)
    yield "a server frozen", _delayed(lambda harness: _frozen_server(harness, seconds))
    yield "a server slowed", _delayed(lambda harness: _slowed_server(harness, seconds))
    yield "a server's clock 40 s ahead", _clock_set(40)
    yield "a server's clock 40 s behind", _clock_set(-40)
    yield "every server killed at once", _delayed(_all_killed)
    yield "one killed, another frozen for a minute", _delayed(_one_killed_one_frozen)
    for point in POINTS:
        yield f"a server killed at {point}", _killed_at(point)
    for point in POINTS:
        yield f"a server frozen at {point}", _frozen_at(point, seconds)


POINTS = (
    # The steps of a submission, then of handing a job over, of each transition, and of its event.
    *("store:before@2", "store:after@2", "spawn:before@2", "spawn:after@2"),
    *(f"rollup:{when}@{turn}" for turn in (1, 4, 9, 15) for when in ("before", "after")),
    *("acknowledge:before@3", "acknowledge:after@3", "mark:before@8", "mark:after@8"),
)


def _component_faults(component: Component, seconds: float) -> Iterator[tuple[str, Fault]]:
    def stopped(harness: FaultHarness) -> None:
        component.program(harness).stop()
        time.sleep(seconds)
        component.program(harness).start()

    def killed(harness: FaultHarness) -> None:
        component.program(harness).kill()
        time.sleep(seconds)
        component.program(harness).start()

    def frozen(harness: FaultHarness) -> None:
        with _frozen(component.program(harness)):
            time.sleep(seconds)

    def slowed(harness: FaultHarness) -> None:
        component.proxy(harness).delay = DELAY_SECONDS
        time.sleep(seconds)
        component.proxy(harness).delay = 0.0

    def cut(harness: FaultHarness) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            component.proxy(harness).cut()
            time.sleep(0.3)

    for suffix, inject in (
        ("stopped", stopped),
        ("killed", killed),
        ("frozen", frozen),
        ("slowed", slowed),
        ("cut off again and again", cut),
    ):
        yield f"{component.name} {suffix}", _delayed(inject)


def _delayed(inject: Callable[[FaultHarness], None]) -> Fault:
    def wait_and_inject(harness: FaultHarness) -> None:
        time.sleep(START_DELAY_SECONDS)
        inject(harness)

    return Fault(wait_and_inject)


@contextmanager
def _frozen(program: ServerProcess) -> Iterator[None]:
    program.freeze()
    try:
        yield
    finally:
        program.thaw()


def _restarted(harness: FaultHarness) -> None:
    """Restart a server as an upgrade does; it must drain and exit by itself."""
    process = harness.servers[0].process
    assert process is not None
    harness.servers[0].stop()
    assert process.returncode == 0, harness.servers[0].tail()
    harness.start([0])


def _killed(harness: FaultHarness) -> None:
    harness.servers[0].kill()
    time.sleep(START_DELAY_SECONDS)
    harness.start([0])


def _all_killed(harness: FaultHarness) -> None:
    for server in harness.servers:
        server.kill()
    harness.start()


def _one_killed_one_frozen(harness: FaultHarness) -> None:
    """Kill one server while another is frozen; with more than two servers one goes on meanwhile."""
    with _frozen(harness.servers[-1]):
        _killed(harness)
        time.sleep(60)


def _frozen_server(harness: FaultHarness, seconds: float) -> None:
    with _frozen(harness.servers[0]):
        time.sleep(seconds)


def _slowed_server(harness: FaultHarness, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with _frozen(harness.servers[0]):
            time.sleep(0.2)
        time.sleep(0.1)


def _clock_set(seconds: float) -> Fault:
    """Set the first server's clock apart from the others', for all of the jobs' lives; the server must say so."""
    return Fault(
        lambda harness: harness.wait_until_clock_is("down"),
        prepare=lambda harness: harness.clock.shift(seconds),
        end=lambda harness: harness.clock.shift(0),
    )


def _killed_at(point: str) -> Fault:
    def inject(harness: FaultHarness) -> None:
        process = harness.servers[0].process
        assert process is not None
        process.wait(TIMEOUT_SECONDS)
        assert process.returncode == -signal.SIGKILL, f"{point} was not passed"
        harness.servers[0].process = None
        harness.start()

    return Fault(inject, lambda harness: _start_alone(harness, f"{point}=kill"))


def _frozen_at(point: str, seconds: float) -> Fault:
    def inject(harness: FaultHarness) -> None:
        process = harness.servers[0].process
        assert process is not None
        until = time.monotonic() + TIMEOUT_SECONDS
        while not os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)[0]:
            assert time.monotonic() < until, f"{point} was not passed"
            time.sleep(0.05)
        harness.start(range(1, len(harness.servers)))
        time.sleep(seconds)
        harness.servers[0].thaw()

    return Fault(inject, lambda harness: _start_alone(harness, f"{point}=stop"))


def _start_alone(harness: FaultHarness, failpoints: str) -> None:
    """Leave one server running, with these failpoints, so that it is the one that reaches them."""
    harness.stop()
    harness.start([0], failpoints)
