"""Benchmark of the delay from a transition to its event on Kafka and at a subscriber, and of the cost of 2,000 subscribers.

A server of the preset service, with its records on MongoDB and its events on Kafka, records 200 transitions a second by
itself, and wakes its outbox for each as the engine does. Times are from just before a transition is recorded until its
message has come back from Kafka, which is later than its acknowledgement, and until its event has come to the user's
stream. Baselines in the same run: a bare kafka-python producer, one message at a time (``acks=all``), and a bare tornado server that
writes as many events to as many streams. ``RECORDS=sqlite`` keeps the records there, and ``RECORDS=free`` in dicts, which shows the
service's own part: its delay, and the processor time that its process takes for each event that comes to a subscriber. Needs root and Maven.
Numbers on the command line replace the default numbers of streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from free_store import FreeStore
from harness import report as keep
from harness import run, size
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from load import cpu_clock
from tornado.web import Application, RequestHandler

from cts_core.clock import utc_now
from cts_core.engine import adapters
from cts_core.engine.engine import Engine
from cts_core.states import JobState
from cts_jupyter.server.headless import HeadlessApp
from tests.harness.factories import TO_COMPLETE, make_job_record
from tests.services.kafka import PARTITIONS, KafkaBroker
from tests.services.mongo import PASSWORD, USER, MongoServer
from tests.services.server import ServerProcess, free_port, is_listening
from tests.simulators.kbase_auth import KBaseAuth

RATE = size(200, 20)
"""Transitions a second."""
WINDOW_SECONDS, SETTLE_SECONDS = size((15.0, 5.0), (1.5, 1.0))
FEW, MANY = size((20, 2000), (4, 8))
RECORDS = "RECORDS"
"""The environment variable that says where the records are."""
CONCURRENCY = 64
"""Transitions that are recorded at the same time."""


def user(number: int) -> str:
    return f"user{number:04}"


# -- servers --


class Load(HeadlessApp):
    """The service, which makes transitions by itself once the file BENCH_GO exists."""

    async def _post_start(self) -> None:
        await super()._post_start()
        self._load = asyncio.create_task(self._make(self._extension._core))  # noqa: SLF001 - no public access

    async def _make(self, engine: Engine) -> None:
        while not Path(os.environ["BENCH_GO"]).exists():
            await asyncio.sleep(0.1)
        users = int(os.environ["BENCH_USERS"])
        walks = [self._walk(engine, user(number)) for number in range(users)]
        semaphore = asyncio.Semaphore(CONCURRENCY)
        start, number = time.perf_counter(), 0
        tasks: set[asyncio.Task[None]] = set()

        async def step(walk: AsyncIterator[None]) -> None:
            async with semaphore:
                await anext(walk)

        while True:
            await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
            # A user's transitions are sequential: a user whose last one is not recorded yet is skipped.
            task = asyncio.create_task(step(walks[number % users]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1

    async def _walk(self, engine: Engine, user_name: str) -> AsyncIterator[None]:
        store = engine._store  # noqa: SLF001 - the engine's own store
        while True:
            job = make_job_record(user=user_name, time=utc_now(), files=1)
            await store.insert_job(job, containers=1)
            for old, new in zip(TO_COMPLETE, [*TO_COMPLETE[1:], None], strict=True):
                engine._wake_drivers(job.id)  # noqa: SLF001 - as the engine does after each transition
                yield
                if new is not None:
                    await store.transition(
                        job.id, old, new, time=utc_now(), trans_id=str(uuid.uuid4())
                    )


async def serve_bare(port: str, users: str) -> None:
    streams: dict[str, RequestHandler] = {}

    class Events(RequestHandler):
        async def get(self) -> None:
            self.set_header("Content-Type", "text/event-stream")
            streams[self.request.headers["Authorization"].removeprefix("Bearer ")] = self
            self.write("event: begin\ndata: {}\n\n")
            await self.flush()
            await asyncio.Event().wait()

    Application([("/cts/events", Events)]).listen(int(port), "127.0.0.1")
    start, number = time.perf_counter(), 0
    while True:
        await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
        stream = streams.get(user(number % int(users)))
        number += 1
        if stream is not None:
            data = json.dumps(
                {"job_id": str(uuid.uuid4()), "user": "u", "state": JobState.COMPLETE, "trans_id": str(uuid.uuid4()),
                 "time": utc_now().isoformat(), "recorded_at": utc_now().isoformat()}
            )  # fmt: skip
            stream.write(f"event: transition\nid: {number}\ndata: {data}\n\n")
            await stream.flush()


# -- measurements --


def settle_seconds(users: int) -> float:
    """Return the seconds until each user has a job: to insert one takes longer than a transition."""
    return SETTLE_SECONDS + users / RATE


def since(time_: str) -> float:
    """Return the milliseconds since a time."""
    return (datetime.now(UTC) - datetime.fromisoformat(time_)).total_seconds() * 1000


class Streams:
    """Open event streams, and the delay of each event in ms."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, port: int, tokens: list[str]) -> None:
        """Open a stream for each token, 50 at a time."""
        semaphore = asyncio.Semaphore(50)

        async def open_one(token: str) -> None:
            async with semaphore:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(
                    f"GET /cts/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"event: begin")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"a stream was refused:\n{head.decode()}")
            self._tasks.append(asyncio.create_task(self._read(reader, writer)))

        await asyncio.gather(*(open_one(token) for token in tokens))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while line := await reader.readline():
                if line.startswith(b"data: {") and b'"time"' in line:
                    self.delays.append(since(json.loads(line[6:])["time"]))

    async def close(self) -> None:
        """Close all streams."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Topic(threading.Thread):
    """Reads a topic, and records the delay of each message in ms."""

    def __init__(self, broker: KafkaBroker, name: str) -> None:
        super().__init__(daemon=True)
        self.delays: list[float] = []
        self._consumer = KafkaConsumer(bootstrap_servers=broker.address, group_id=None)
        self._consumer.assign([TopicPartition(name, number) for number in range(PARTITIONS)])
        self._consumer.seek_to_end()
        for partition in self._consumer.assignment():
            self._consumer.position(partition)
        self._stopped = False

    def run(self) -> None:
        """Read until ``stop``."""
        while not self._stopped:
            for records in self._consumer.poll(timeout_ms=100).values():
                self.delays += [since(json.loads(record.value)["time"]) for record in records]

    def stop(self) -> list[float]:
        """Stop reading; return the delays."""
        self._stopped = True
        self.join()
        self._consumer.close()
        return self.delays


def report(what: str, delays: list[float], baseline: list[float] | None = None) -> None:
    if len(delays) < 2:
        keep(what, "too few events came to tell", events_per_s=len(delays) / WINDOW_SECONDS)
        return
    points = statistics.quantiles(delays, n=100)
    rate = len(delays) / WINDOW_SECONDS
    figures = {"p50_ms": points[49], "p99_ms": points[98], "events_per_s": rate}
    beside = ""
    if baseline is not None:
        other = statistics.quantiles(baseline, n=100)
        figures |= {"p50_ratio": points[49] / other[49], "p99_ratio": points[98] / other[98]}
        beside = (
            f"; beside the baseline {figures['p50_ratio']:.1f} and {figures['p99_ratio']:.1f} times"
        )
    keep(
        what,
        f"p50 {points[49]:.1f} ms, p99 {points[98]:.1f} ms ({rate:.0f} events/s){beside}",
        **figures,
    )


def by_producer(broker: KafkaBroker) -> list[float]:
    """Measure a bare producer; return the delays in ms."""
    name = broker.create_topic()
    topic = Topic(broker, name)
    topic.start()
    producer = KafkaProducer(bootstrap_servers=broker.address, acks="all", enable_idempotence=True)
    start = time.perf_counter()
    for number in range(int(RATE * WINDOW_SECONDS)):
        time.sleep(max(0.0, start + number / RATE - time.perf_counter()))
        message = {"job_id": str(uuid.uuid4()), "state": "complete", "time": utc_now().isoformat()}
        producer.send(name, json.dumps(message).encode(), key=message["job_id"].encode()).get(10)
    time.sleep(1)
    producer.close()
    return topic.stop()


@dataclass(frozen=True)
class Measured:
    """The delays of events in ms, the server's bytes of memory for each stream, and its processor time for each event in ms."""

    delays: list[float]
    memory: float
    cpu_ms: float


async def measure(
    server: ServerProcess, port: int, tokens: list[str], begin: Callable[[], None]
) -> Measured:
    """Return what was measured of a server.

    ``begin`` is called when the streams are open, and again when the measurement begins.
    """
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    streams = Streams()
    await streams.open(port, tokens)
    begin()
    await asyncio.sleep(settle_seconds(len(tokens)))
    begin()
    streams.delays.clear()
    clock = cpu_clock(process.pid)
    used = clock()
    await asyncio.sleep(WINDOW_SECONDS)
    delays = list(streams.delays)
    cpu = (clock() - used) / max(1, len(delays))
    memory = (process.memory_info().rss - before) / len(tokens)
    await streams.close()
    return Measured(delays, memory, cpu * 1000)


def bare(folder: Path, users: int) -> Measured:
    port = free_port()
    command = [sys.executable, __file__, "bare", str(port), str(users)]
    server = ServerProcess(command, folder, lambda: is_listening(port))
    server.start()
    try:
        tokens = [user(number) for number in range(users)]
        return asyncio.run(measure(server, port, tokens, lambda: None))
    finally:
        server.stop()


def cts(
    folder: Path, users: int, environ: dict[str, str], auth: KBaseAuth, topic: Topic
) -> Measured:
    port, go = free_port(), folder / "go"
    environ = {
        **environ,
        "CTS_HOME": str(folder / "home"),
        "BENCH_GO": str(go),
        "BENCH_USERS": str(users),
    }
    command = [
        sys.executable,
        __file__,
        "cts",
        "--allow-root",
        f"--port={port}",
        "--log-level=WARN",
    ]
    server = ServerProcess(command, folder, lambda: _is_healthy(port), environ)
    tokens = [auth.add(user(number)) for number in range(users)]

    def begin() -> None:
        go.touch()
        topic.delays.clear()

    server.start()
    try:
        return asyncio.run(measure(server, port, tokens, begin))
    finally:
        server.stop()


def _is_healthy(port: int) -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/cts/ready", timeout=5).status == 200
    return False


def main(counts: list[int]) -> None:
    records = os.environ.get(RECORDS, "mongo")
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name:
        folder = Path(name)
        broker, auth = KafkaBroker(folder / "kafka"), KBaseAuth()
        mongo = MongoServer(folder / "mongo") if records == "mongo" else None
        started: list[Any] = [server for server in (broker, mongo) if server is not None]
        try:
            for server in started:
                server.start()
            environ = {
                "CTS_PRESET": "service",
                "CTS_OBJECTS": "directory",
                "CTS_RECORDS": "mongo" if mongo else "sqlite",
                "CTS_KBASE__AUTH_URL": auth.url,
                "CTS_KBASE__ADMIN_ROLES": "CTS_ADMIN",
                "CTS_KAFKA__BOOTSTRAP_SERVERS": broker.address,
                "CTS_KAFKA__TOPIC": broker.create_topic(),
                "PYTHONPATH": str(Path(__file__).parents[1]),
            }
            if mongo:
                environ |= {
                    "CTS_MONGO__HOST": f"127.0.0.1:{mongo.port}",
                    "CTS_MONGO__DB": "bench",
                    "CTS_MONGO__USER": USER,
                    "CTS_MONGO__PASSWORD": PASSWORD,
                }
            print(f"{RATE} transitions a second, records: {records}", flush=True)
            sent = by_producer(broker)
            report("baseline: a bare producer, until a consumer has it", sent)
            for users in counts:
                plain = bare(folder / f"bare{users}", users)
                report(f"baseline: bare tornado, {users:,} streams", plain.delays)
                topic = Topic(broker, environ["CTS_KAFKA__TOPIC"])
                topic.start()
                ours = cts(folder / f"cts{users}", users, environ, auth, topic)
                on_topic = topic.stop()
                report(f"CTS, {users:,} streams: until a consumer of Kafka has it", on_topic, sent)
                report(
                    f"CTS, {users:,} streams: until its subscriber has it",
                    ours.delays,
                    plain.delays,
                )
                keep(
                    f"CTS, {users:,} streams: the processor for each event",
                    f"{ours.cpu_ms:.2f} ms, bare tornado {plain.cpu_ms:.2f} ms",
                    cpu_ms=ours.cpu_ms,
                    bare_ms=plain.cpu_ms,
                )
                if users >= MANY:  # with fewer, the memory of one cannot be measured
                    keep(
                        f"memory of each of {users:,} streams",
                        f"{ours.memory / 1024:.1f} KiB, bare tornado {plain.memory / 1024:.1f} KiB",
                        memory_kib=ours.memory / 1024,
                        bare_kib=plain.memory / 1024,
                    )
        finally:
            for server in reversed(started):
                server.stop()
            auth.stop()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", port, users]:
            asyncio.run(serve_bare(port, users))
        case ["cts", *arguments]:
            if os.environ.get(RECORDS) == "free":
                adapters.record_store = lambda settings: FreeStore(settings.home / "records.sqlite")
            Load.launch_instance(arguments)
        case counts:
            run(lambda: main(list(map(int, counts)) or [FEW, MANY]))
