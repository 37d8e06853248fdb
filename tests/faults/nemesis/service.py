"""The service that the nemesis befalls: servers with clocks, links and disks of their own, and how each is harmed.

Every harm is a context: entering it does the damage, leaving it heals, and returns once it has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from tests.faults.nemesis.history import Run
from tests.faults.nemesis.schedule import Kind
from tests.harness.disk import fill, mounted_disk
from tests.harness.faults import FaultHarness
from tests.services.clock import Clock
from tests.services.cts import CTSProcess
from tests.services.kafka import Message
from tests.services.proxy import Proxy
from tests.services.server import MissingError, ServerProcess
from tests.services.together import ServiceStack

SERVERS = 3
HOME_SIZE = "64m"
"""The disk of the servers' home, where their site keeps the containers' folders."""
_RESTART_SECONDS = 180.0
"""Within which a server has to start again, tried anew whenever it gives up, as its supervisor would."""
_USER_CACHE_MS = 1000
"""How long users are cached: an outage of auth has to be noticed."""

Harm = Callable[[float], AbstractContextManager[None]]
"""Harms a target by an amount (see `Fault.amount`) while its context is entered."""
Harms = dict[Kind, Harm]


@dataclass(frozen=True)
class Front:
    """A server as clients reach it."""

    name: str
    proxy: Proxy

    @property
    def url(self) -> str:
        return f"{self.proxy.url}/cts"


@dataclass(frozen=True)
class Work:
    """What a job does: its containers take so many seconds each, and store into the folder, or one of them fails."""

    folder: str
    seconds: float
    containers: int
    fails: bool


class NemesisHarness(FaultHarness):
    """A service each of whose servers has its own clock and links to clients, MongoDB, S3 and auth."""

    clients = 8
    """Clients that use the service at the same time."""
    bound = 90.0
    """Seconds after healing, within which everything that was promised has to be there."""
    may_rerun = False
    """Whether the site runs a container again that was lost with its node."""

    def __init__(
        self, services: ServiceStack, *, kafka: Proxy, s3_disk: Path | None = None, **given: Any
    ) -> None:
        """``s3_disk`` is the file system that holds nothing but the objects of ``services``."""
        self._s3_disk = s3_disk
        self.fronts = tuple(Front(f"server {number}", Proxy(0)) for number in range(SERVERS))
        self.missing = [] if s3_disk else ["S3 full: see home full"]
        """The faults that are impossible on this machine, and why."""
        self.deaths: list[tuple[str, str]] = []
        """The servers that ended by themselves, and what they logged last."""
        self._links: dict[str, Proxy] = {
            f"link of clients to {front.name}": front.proxy for front in self.fronts
        }
        self._clocks: dict[int, Clock] = {}
        self._disks = contextlib.ExitStack()
        services.auth.cachefor = _USER_CACHE_MS
        super().__init__(services, kafka=kafka, servers=SERVERS, **given)
        self._links["link to Kafka"] = kafka
        # The containers write down their starts elsewhere: what the checker reads is never lost.
        self._runs = services.folder / f"{self.folder.name}-ran"
        self._has_small_home = True
        try:
            self._disks.enter_context(mounted_disk(self.folder, HOME_SIZE))
        except MissingError as e:
            self._has_small_home = False
            self.missing.append(f"home full: {e}")

    @override
    def settings_of(self, number: int) -> dict[str, str]:
        services = self.services
        name = self.fronts[number].name
        mongo, s3 = Proxy(services.mongo.port), Proxy(services.s3.port)
        auth_root = services.auth.url
        auth_port = int(auth_root.partition("://")[2].partition("/")[0].rpartition(":")[2])
        auth = Proxy(auth_port)
        for dependency, proxy in (("MongoDB", mongo), ("S3", s3), ("auth", auth)):
            self._links[f"link of {name} to {dependency}"] = proxy
        settings = {
            "CTS_MONGO__HOST": f"127.0.0.1:{mongo.port}",
            "CTS_S3__URL": s3.url,
            "CTS_KBASE__AUTH_URL": auth_root.replace(str(auth_port), str(auth.port)),
        }
        self._clocks[number] = Clock(services.folder / f"clock-{mongo.port}")
        return settings | self._clocks[number].environ

    @override
    def start(self, numbers: Sequence[int] | None = None, failpoints: str = "") -> None:
        super().start(numbers, failpoints)
        for front, server in zip(self.fronts, self.servers, strict=True):
            front.proxy.target = server.port

    @override
    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        # Of a job that did not end, its container goes on beside its worker.
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in command.read_bytes():
                    os.kill(int(command.parent.name), signal.SIGKILL)
        for proxy in self._links.values():
            proxy.close()
        self._disks.close()

    @property
    def user_token(self) -> str:
        return self._ana

    @property
    def admin_token(self) -> str:
        return self._admin

    def body(self, work: Work) -> dict[str, Any]:
        """Return the submission of a job that does this work; the last of its containers is the one that fails."""
        failing = {"FAIL": str(work.containers - 1)} if work.fails else {}
        inputs = [f"data/ana/in-{number}.txt" for number in range(work.containers)]
        return self.append_run(inputs, work.folder, WORK=f"{work.seconds:.2f}", **failing)

    # -- what is stored, beside the service ----------------------------------------------------

    def jobs(self, projection: dict[str, int] | None = None) -> list[dict[str, Any]]:
        """Return all job records."""
        with self.services.mongo.client() as client:
            return list(client[self._environ["CTS_MONGO__DB"]]["jobs"].find({}, projection))

    def messages(self) -> list[Message]:
        """Return all messages on the topic."""
        return self.services.kafka.messages(self._environ["CTS_KAFKA__TOPIC"])

    def stored(self, prefix: str) -> dict[str, str]:
        """Return the checksums by path of all objects whose paths begin so."""
        bucket, _, key = prefix.partition("/")
        found = {}
        with contextlib.closing(self.services.s3.client()) as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                for entry in page.get("Contents", ()):
                    head = client.head_object(
                        Bucket=bucket, Key=entry["Key"], ChecksumMode="ENABLED"
                    )
                    found[f"{bucket}/{entry['Key']}"] = head["ChecksumCRC64NVME"]
        return found

    def runs(self) -> Iterator[Run]:
        """Yield each start of a container's program."""
        if self._runs.exists():
            for line in self._runs.read_text().split():
                job_id, _, container = line.partition("/")
                yield Run(job_id, int(container))

    # -- harms ---------------------------------------------------------------------------------

    def targets(self) -> dict[str, Harms]:
        """Return what can be harmed, and how."""
        services = self.services
        targets: dict[str, Harms] = {name: link_harms(link) for name, link in self._links.items()}
        for number, front in enumerate(self.fronts):
            targets[front.name] = self._server_harms(number)
        for name, program in (
            ("MongoDB", services.mongo),
            ("Kafka", services.kafka),
            ("S3", services.s3.program),
        ):
            targets[name] = program_harms(program)
        targets["auth"] = {"stopped": lambda _: self._auth_stopped()}
        if self._has_small_home:
            targets["home"] = {"full": lambda _: _full(self.folder)}
        if (disk := self._s3_disk) is not None:
            targets["S3"]["full"] = lambda _: _full(disk)
        return targets

    @contextlib.contextmanager
    def _auth_stopped(self) -> Iterator[None]:
        self.services.auth.stop()
        try:
            yield
        finally:
            self.services.auth.start()

    def _server_harms(self, number: int) -> Harms:
        server = self.servers[number]

        @contextlib.contextmanager
        def down(end: Callable[[CTSProcess], None]) -> Iterator[None]:
            self.note_death(number)
            end(server)
            try:
                yield
            finally:
                self.restart(number)

        return {
            "killed": lambda _: down(CTSProcess.kill),
            "stopped": lambda _: down(CTSProcess.stop),
            "frozen": lambda _: _frozen(server),
            "clock": lambda amount: _shifted(self._clocks[number], amount),
        }

    def note_death(self, number: int) -> None:
        """Note it if a server has ended by itself."""
        process = self.servers[number].process
        if process is not None and process.poll() is not None:
            self.deaths.append((self.fronts[number].name, self.servers[number].tail()))

    def restart(self, number: int) -> None:
        """Start a server again; what it depends on may be away, so that it may take several tries."""
        deadline = time.monotonic() + _RESTART_SECONDS
        while True:
            try:
                return self.start([number])
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)


def program_harms(program: ServerProcess) -> Harms:
    @contextlib.contextmanager
    def down(end: Callable[[ServerProcess], None]) -> Iterator[None]:
        end(program)
        try:
            yield
        finally:
            program.start()

    return {
        "killed": lambda _: down(ServerProcess.kill),
        "stopped": lambda _: down(ServerProcess.stop),
        "frozen": lambda _: _frozen(program),
    }


def link_harms(link: Proxy) -> Harms:
    @contextlib.contextmanager
    def slowed(delay: float) -> Iterator[None]:
        link.delay = delay
        try:
            yield
        finally:
            link.delay = 0.0

    @contextlib.contextmanager
    def cut(_: float) -> Iterator[None]:
        link.closed = True
        link.cut()
        try:
            yield
        finally:
            link.closed = False

    @contextlib.contextmanager
    def frozen(_: float) -> Iterator[None]:
        link.freeze()
        try:
            yield
        finally:
            link.thaw()

    return {"slowed": slowed, "cut": cut, "frozen": frozen}


@contextlib.contextmanager
def _frozen(program: ServerProcess) -> Iterator[None]:
    program.freeze()
    try:
        yield
    finally:
        program.thaw()


@contextlib.contextmanager
def _full(disk: Path) -> Iterator[None]:
    """Keep a disk full: what is removed meanwhile leaves no room either."""
    stopped = threading.Event()
    filler = fill(disk)

    def refill() -> None:
        while not stopped.wait(0.2):
            fill(disk)

    thread = threading.Thread(target=refill, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        filler.unlink()


@contextlib.contextmanager
def _shifted(clock: Clock, seconds: float) -> Iterator[None]:
    clock.shift(seconds)
    try:
        yield
    finally:
        clock.shift(0)
