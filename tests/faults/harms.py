"""What is done to a service while jobs are submitted; it is over when it returns, but for what takes time to heal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.faults.field import PATIENCE_SECONDS, Field
from tests.services.proxy import Proxy
from tests.services.server import ServerProcess

FIRST_SECONDS = 0.7
"""Until it begins, so that jobs are under way."""
DELAY_SECONDS = 0.15
"""Of each piece on a slow way, in either direction."""


@dataclass(frozen=True)
class Harm:
    """What is done while jobs are submitted, and before."""

    do: Callable[[Field], None]
    prepare: Callable[[Field], None] = lambda _: None


@dataclass(frozen=True)
class Part:
    """One of the servers that a service stands on, and the way to it."""

    name: str
    program: Callable[[Field], ServerProcess]
    way: Callable[[Field], Proxy]


PARTS = (
    Part("MongoDB", lambda field: field.services.mongo, lambda field: field.mongo_way),
    Part("Kafka", lambda field: field.services.kafka, lambda field: field.kafka_way),
    Part("S3", lambda field: field.services.s3.program, lambda field: field.s3_way),
)


def harms(seconds: float) -> Iterator[tuple[str, Harm]]:
    """Every harm by its name; outages last ``seconds``."""
    yield "nothing", Harm(lambda _: None)
    for part in PARTS:
        yield from _of_part(part, seconds)
    yield "a server stopped", _soon(_restarted)
    yield "a server killed", _soon(_killed)
    yield "a server frozen", _soon(lambda field: _frozen_server(field, seconds))
    yield "a server slowed", _soon(lambda field: _slowed_server(field, seconds))
    yield "every server killed at once", _soon(_all_killed)
    yield "one killed, another frozen for a minute", _soon(_one_killed_one_frozen)
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


def _of_part(part: Part, seconds: float) -> Iterator[tuple[str, Harm]]:
    def stopped(field: Field) -> None:
        part.program(field).stop()
        time.sleep(seconds)
        part.program(field).start()

    def killed(field: Field) -> None:
        part.program(field).kill()
        time.sleep(seconds)
        part.program(field).start()

    def frozen(field: Field) -> None:
        with _frozen(part.program(field)):
            time.sleep(seconds)

    def slowed(field: Field) -> None:
        part.way(field).delay = DELAY_SECONDS
        time.sleep(seconds)
        part.way(field).delay = 0.0

    def cut(field: Field) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            part.way(field).cut()
            time.sleep(0.3)

    for done, harm in (
        ("stopped", stopped),
        ("killed", killed),
        ("frozen", frozen),
        ("slowed", slowed),
        ("cut off again and again", cut),
    ):
        yield f"{part.name} {done}", _soon(harm)


def _soon(harm: Callable[[Field], None]) -> Harm:
    def do(field: Field) -> None:
        time.sleep(FIRST_SECONDS)
        harm(field)

    return Harm(do)


@contextmanager
def _frozen(program: ServerProcess) -> Iterator[None]:
    program.freeze()
    try:
        yield
    finally:
        program.thaw()


def _restarted(field: Field) -> None:
    """As an upgrade does; it must drain and end by itself."""
    process = field.servers[0].process
    assert process is not None
    field.servers[0].stop()
    assert process.returncode == 0, field.servers[0].tail()
    field.start([0])


def _killed(field: Field) -> None:
    field.servers[0].kill()
    time.sleep(FIRST_SECONDS)
    field.start([0])


def _all_killed(field: Field) -> None:
    for server in field.servers:
        server.kill()
    field.start()


def _one_killed_one_frozen(field: Field) -> None:
    """With more than two servers somebody goes on meanwhile."""
    with _frozen(field.servers[-1]):
        _killed(field)
        time.sleep(60)


def _frozen_server(field: Field, seconds: float) -> None:
    with _frozen(field.servers[0]):
        time.sleep(seconds)


def _slowed_server(field: Field, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with _frozen(field.servers[0]):
            time.sleep(0.2)
        time.sleep(0.1)


def _killed_at(point: str) -> Harm:
    def harm(field: Field) -> None:
        process = field.servers[0].process
        assert process is not None
        process.wait(PATIENCE_SECONDS)
        assert process.returncode == -signal.SIGKILL, f"{point} was not passed"
        field.servers[0].process = None
        field.start()

    return Harm(harm, lambda field: _alone(field, f"{point}=kill"))


def _frozen_at(point: str, seconds: float) -> Harm:
    def harm(field: Field) -> None:
        process = field.servers[0].process
        assert process is not None
        until = time.monotonic() + PATIENCE_SECONDS
        while not os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)[0]:
            assert time.monotonic() < until, f"{point} was not passed"
            time.sleep(0.05)
        field.start(range(1, len(field.servers)))
        time.sleep(seconds)
        field.servers[0].thaw()

    return Harm(harm, lambda field: _alone(field, f"{point}=stop"))


def _alone(field: Field, failpoints: str) -> None:
    """Let one server run alone, with these failpoints: it is the one that passes them."""
    field.stop()
    field.start([0], failpoints)
