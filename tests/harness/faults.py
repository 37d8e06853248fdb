"""The harness of the fault tests: a service under load, its servers and dependencies, and what became of its jobs.

Whatever the fault: a job whose submission was answered, or whose idempotency key was, exists once; it ends in the
state in which it should; each of its containers ran at most once; each of its transitions reached Kafka, in order,
and each subscriber.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import httpx

from tests.harness.paths import APPEND_RUN
from tests.services.bubblewrap import opening
from tests.services.clock import Clock
from tests.services.cts import CTSProcess
from tests.services.proxy import Proxy
from tests.services.server import ServerProcess
from tests.services.together import ADMIN_ROLES, ServiceStack

if TYPE_CHECKING:
    from tests.faults.catalog import Fault

INPUTS = ("data/ana/in-0.txt", "data/ana/in-1.txt")
TIMEOUT_SECONDS = 180.0
STATE_SECONDS = 60.0
"""The time for a job to reach a state that it reaches by itself."""
CLIENTS = 8
"""Submissions at the same time."""
_TERMINAL = ("complete", "error", "canceled")
_POLL_SECONDS = 0.1


@dataclass
class Outcome:
    """Counts of what went wrong with a batch of jobs; all zero when nothing did."""

    jobs: int = 0
    lost: int = 0
    """Submissions without a job, although they were answered, or should have been in time."""
    stuck: int = 0
    """Jobs that did not end."""
    wrong: int = 0
    """Jobs that ended in another state than expected, or responses that no client should get."""
    twice: int = 0
    """Containers that ran more than once, and idempotency keys that created more than one job."""
    undelivered: int = 0
    """Jobs whose transitions did not reach Kafka and each subscriber in their order."""
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.stuck or self.wrong or self.twice or self.undelivered)

    def add(self, other: Outcome) -> None:
        for column in fields(self):
            total = getattr(self, column.name) + getattr(other, column.name)
            setattr(self, column.name, total)


@dataclass
class Job:
    key: str
    expected: str
    id: str | None = None
    problem: str | None = None


class Server(Protocol):
    """What clients need of a server of the service."""

    @property
    def url(self) -> str: ...


class Subscriber(threading.Thread):
    """Subscribes to a user's events at whichever server answers, and resumes where the last stream ended."""

    def __init__(self, servers: Sequence[Server], token: str, job_id: str | None = None) -> None:
        """Subscribe to all jobs' events, or to one job's until the service says that it has ended."""
        super().__init__(daemon=True)
        self.job_id = job_id
        self._path = f"jobs/{job_id}/events" if job_id else "events"
        self._servers = servers
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Last-Event-ID": "2000-01-01T00:00:00Z",
        }
        self._stopped = threading.Event()
        self.deliveries: list[tuple[str, str, float]] = []
        """The job, the ``trans_id`` and the monotonic time of each event, in the order in which they came."""
        self.seen: set[str] = set()
        self.has_ended = False

    def run(self) -> None:
        turn = 0
        while not self.has_ended and not self._stopped.wait(_POLL_SECONDS):
            turn += 1
            with contextlib.suppress(httpx.HTTPError):
                self._read_stream(self._servers[turn % len(self._servers)].url)

    def _read_stream(self, url: str) -> None:
        timeout = httpx.Timeout(5, read=20)  # streams say something every 15 s
        with httpx.stream(
            "GET", f"{url}/{self._path}", headers=self._headers, timeout=timeout
        ) as response:
            if response.status_code != 200:
                return
            cursor = ""
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "data" and "trans_id" in value:
                    event = json.loads(value)
                    self.deliveries.append((event["job_id"], event["trans_id"], time.monotonic()))
                    self.seen.add(event["trans_id"])
                elif name == "id":
                    cursor = value
                elif name == "event" and value == "end":
                    self.has_ended = True
                elif not line and cursor:
                    # The event is whole: a stream that breaks off in one is resumed before it.
                    self._headers["Last-Event-ID"] = cursor
                if self._stopped.is_set():
                    return

    def first_copies(self, job_id: str) -> list[str]:
        """Return the ``trans_id`` of each event of a job, in the order in which their first copies came."""
        return list(dict.fromkeys(trans for job, trans, _ in self.deliveries if job == job_id))

    def stop(self) -> None:
        self._stopped.set()


class FaultHarness:
    """A service of several servers, which run while the harness is entered (``with``)."""

    timeout = TIMEOUT_SECONDS
    """Seconds within which all jobs have to end."""
    server = CTSProcess
    """What the servers are."""

    def __init__(self, services: ServiceStack, *, kafka: Proxy, servers: int = 2) -> None:
        """``kafka`` is the proxy whose port the broker of ``services`` advertises."""
        self.services = services
        self.mongo_proxy, self.s3_proxy, self.kafka_proxy = (
            Proxy(services.mongo.port),
            Proxy(services.s3.port),
            kafka,
        )
        kafka.target = services.kafka.port
        self._environ = services.environ(
            mongo_port=self.mongo_proxy.port, s3_url=self.s3_proxy.url, kafka_port=kafka.port
        ) | {
            "PATH": opening(services.folder),
            "CTS_DRAIN_S": "1",
            "CTS_MONGO__TIMEOUT_S": "5",
            "CTS_S3__TIMEOUT_S": "10",
            **self.settings(),
        }
        self.folder = Path(self._environ["CTS_HOME"])
        self.folder.mkdir(parents=True)
        self._runs = self.folder / "ran"
        self.clock = Clock(services.folder / f"clock-{self.mongo_proxy.port}")
        """The first server's clock."""
        self.servers = [
            self.server(
                self.folder / f"server-{number}", {**self._environ, **self.settings_of(number)}
            )
            for number in range(servers)
        ]
        self._admin, self._ana = (
            services.auth.add("admin", *ADMIN_ROLES),
            services.auth.add("ana", "KBASE_STAFF"),
        )

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self.start()
            self.services.s3.put(dict.fromkeys(INPUTS, b"in"))
            name, registration = self.image()
            url = f"{self.servers[0].url}/admin/images/{name}"
            headers = {"Authorization": f"Bearer {self._admin}"}
            response = httpx.post(url, headers=headers, json=registration, timeout=60)
            response.raise_for_status()
            undo.pop_all()
        # One is at any server, another always at the first one.
        self._subscribers = [
            Subscriber(servers, self._ana) for servers in (self.servers, self.servers[:1])
        ]
        for subscriber in self._subscribers:
            subscriber.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for subscriber in self._subscribers:
            subscriber.stop()
        self.stop()
        for proxy in (self.mongo_proxy, self.s3_proxy, self.kafka_proxy):
            proxy.close()
        for subscriber in self._subscribers:
            subscriber.join(TIMEOUT_SECONDS)

    # -- configuration and jobs ------------------------------------------------------------------

    def settings(self) -> dict[str, str]:
        """Return the environment variables that configure the service's site."""
        return {"CTS_LOCAL__CPUS": "4"}

    def settings_of(self, number: int) -> dict[str, str]:
        """Return the environment variables that only the server with this number has."""
        return self.clock.environ if number == 0 else {}

    def image(self) -> tuple[str, dict[str, Any]]:
        """Return the jobs' image, and the body that registers it."""
        variables = ["RAN", "NUMBER", "FAIL", "WORK"]
        return "host/tool", {"executable": str(APPEND_RUN), "variables": variables}

    def submission(self, job: Job) -> dict[str, Any]:
        """Return the body of a job's submission."""
        fail = {"FAIL": "1"} if job.expected == "error" else {}
        work = {"WORK": "600"} if job.expected == "canceled" else {}
        return self.append_run(INPUTS, f"data/ana/{job.key}", **fail, **work)

    def append_run(
        self, inputs: Sequence[str], output_dir: str, **variables: str
    ) -> dict[str, Any]:
        """Return the submission of a job whose containers, one an input, each note that they run."""
        return {
            "cluster": "local",
            "image": "host/tool",
            "params": {
                "args": ["/output_files"],
                "environment": {
                    "RAN": str(self._runs),
                    "NUMBER": {"type": "container_number"},
                    **variables,
                },
            },
            "input_files": list(inputs),
            "num_containers": len(inputs),
            "memory": "200MB",
            "runtime": 900,
            "output_dir": output_dir,
        }

    def expected(self, number: int) -> str:
        """Return the state in which a job should end: of every ten, two fail, and one is canceled."""
        return {3: "error", 7: "error", 5: "canceled"}.get(number % 10, "complete")

    def check_outputs(self, job: Job, job_id: str) -> list[str]:
        """Return what is wrong with the outputs of a job that is complete."""
        return []

    def count_reruns(self, job: Job, job_id: str) -> int:
        """Return how many containers of a job ran more than once."""
        runs = Counter(self._runs.read_text().split()) if self._runs.exists() else Counter()
        return sum(name.startswith(job_id) and count > 1 for name, count in runs.items())

    # -- the load ------------------------------------------------------------------------------

    def run_with(self, fault: Fault, count: int, spread: float) -> Outcome:
        """Submit ``count`` jobs over ``spread`` seconds while the fault is injected; return their outcome after recovery."""
        jobs = [Job(uuid.uuid4().hex, self.expected(number)) for number in range(count)]
        try:
            fault.prepare(self)
            with ThreadPoolExecutor(CLIENTS + 1) as pool:
                injection = pool.submit(fault.inject, self)
                submitted = []
                for job in jobs:
                    submitted.append(pool.submit(self._submit, job))
                    time.sleep(spread / count)
                for future in (*submitted, injection):
                    future.result()
            return self._evaluate(jobs)
        finally:
            fault.end(self)

    def _submit(self, job: Job) -> None:
        self._hand_in(job)
        if job.id is not None and job.expected == "canceled":
            time.sleep(0.5)
            self._cancel(job)

    def _hand_in(self, job: Job) -> None:
        body = self.submission(job)
        response = self._request(
            job, "POST", "jobs", json=body, headers={"Idempotency-Key": job.key}
        )
        if response is not None:
            job.id = response.json()["job_id"]

    def _cancel(self, job: Job) -> None:
        self._request(job, "PUT", f"jobs/{job.id}/cancel", expected=(204, 404))

    def cancel_without(self, program: ServerProcess) -> None:
        """Cancel a job that runs while ``program`` is frozen, and thaw it only once the job has ended."""
        job = Job(uuid.uuid4().hex, "canceled")
        self._hand_in(job)
        self._wait_until(job, "job_submitted")
        program.freeze()
        try:
            self._cancel(job)
            self._wait_until(job, "canceled")
        finally:
            program.thaw()

    def wait_until_clock_is(self, state: str) -> None:
        """Wait until the first server says this of its clock."""
        deadline = time.monotonic() + STATE_SECONDS
        while True:
            answer = httpx.get(f"{self.servers[0].url}/ready", timeout=15).json()
            clock = next(each for each in answer["dependencies"] if each["name"] == "clock")
            if clock["state"] == state:
                return
            assert time.monotonic() < deadline, f"the clock is not {state}: {answer}"
            time.sleep(_POLL_SECONDS)

    def _wait_until(self, job: Job, state: str) -> None:
        deadline = time.monotonic() + STATE_SECONDS
        while True:
            response = self._request(job, "GET", f"jobs/{job.id}/status")
            assert response is not None, job.problem
            if response.json()["state"] == state:
                return
            assert time.monotonic() < deadline, f"job {job.id} is not {state}: {response.text}"
            time.sleep(_POLL_SECONDS)

    def _request(
        self, job: Job, method: str, path: str, *, expected: tuple[int, ...] = (200,), **given: Any
    ) -> httpx.Response | None:
        """Send a request to one server after the other, as a client does, until one responds as expected."""
        headers = {"Authorization": f"Bearer {self._ana}", **given.pop("headers", {})}
        deadline = time.monotonic() + TIMEOUT_SECONDS
        turn = int(job.key[:2], 16)
        while time.monotonic() < deadline:
            turn += 1
            url = f"{self.servers[turn % len(self.servers)].url}/{path}"
            try:
                response = httpx.request(method, url, headers=headers, timeout=15, **given)
            except httpx.HTTPError:
                time.sleep(_POLL_SECONDS)
                continue
            if response.status_code in expected:
                return response
            is_site_unavailable = (
                response.status_code == 400 and response.json()["error"]["appcode"] == 60020
            )
            if response.status_code not in (429, 503) and not is_site_unavailable:
                job.problem = f"{method} {path.partition('/')[0]}: {response.status_code} {response.text[:300]}"
                return None
            time.sleep(_POLL_SECONDS)
        job.problem = (
            f"{method} {path.partition('/')[0]}: no server did it in {TIMEOUT_SECONDS:.0f} s"
        )
        return None

    # -- the outcome ---------------------------------------------------------------------------

    def _evaluate(self, jobs: list[Job]) -> Outcome:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            stored = self._stored(jobs)
            steps = [
                step
                for records in stored.values()
                for record in records
                for step in record["transition_times"]
            ]
            if (
                all(r["state"] in _TERMINAL for records in stored.values() for r in records)
                and all(step["notif_sent"] for step in steps)
                and all(
                    subscriber.seen >= {step["trans_id"] for step in steps}
                    for subscriber in self._subscribers
                )
            ):
                break
            time.sleep(0.5)
        return self._count(jobs, self._stored(jobs))

    def _stored(self, jobs: list[Job]) -> dict[str, list[dict[str, Any]]]:
        """Return the job records in the database, by the idempotency keys of the submissions."""
        jobs_by_key: dict[str, list[dict[str, Any]]] = {job.key: [] for job in jobs}
        projection = {
            "id": 1,
            "state": 1,
            "transition_times": 1,
            "_cts.idempotency.key": 1,
            "admin_error": 1,
        }
        with self.services.mongo.client() as client:
            records = client[self._environ["CTS_MONGO__DB"]]["jobs"]
            for record in records.find(
                {"_cts.idempotency.key": {"$in": list(jobs_by_key)}}, projection
            ):
                jobs_by_key[record["_cts"]["idempotency"]["key"]].append(record)
        return jobs_by_key

    def _count(self, jobs: list[Job], stored: dict[str, list[dict[str, Any]]]) -> Outcome:
        outcome = Outcome(jobs=len(jobs))
        messages = self._messages()
        for job in jobs:
            records = stored[job.key]
            if job.problem:
                outcome.wrong += 1
                outcome.notes.append(job.problem)
            if not records or (job.id and job.id not in {record["id"] for record in records}):
                outcome.lost += 1
                outcome.notes.append(f"no job with key {job.key}, which should be {job.id}")
            outcome.twice += max(0, len(records) - 1)
            for record in records:
                self._check_record(job, record, outcome, messages)
        return outcome

    def _check_record(
        self,
        job: Job,
        record: dict[str, Any],
        outcome: Outcome,
        messages: dict[str, list[str]],
    ) -> None:
        history = [step["state"] for step in record["transition_times"]]
        if record["state"] not in _TERMINAL:
            outcome.stuck += 1
            outcome.notes.append(f"{record['id']} stays in {record['state']}")
        elif record["state"] != job.expected or len(set(history)) != len(history):
            outcome.wrong += 1
            outcome.notes.append(
                f"{record['id']} should be {job.expected}: {history}, {record.get('admin_error')}"
            )
        outcome.twice += self.count_reruns(job, record["id"])
        problems = self.check_outputs(job, record["id"]) if record["state"] == "complete" else []
        outcome.wrong += len(problems)
        outcome.notes += problems
        trans_ids = [step["trans_id"] for step in record["transition_times"]]
        received = [subscriber.first_copies(record["id"]) for subscriber in self._subscribers]
        sent = messages.get(record["id"], [])
        if any(copies != trans_ids for copies in (sent, *received)):
            outcome.undelivered += 1
            numbers = [[trans_ids.index(t) for t in copies] for copies in (sent, *received)]
            outcome.notes.append(
                f"{record['id']}: {history}; Kafka and the subscribers have {numbers}"
            )

    def _messages(self) -> dict[str, list[str]]:
        """Return the ``trans_id`` of each job's messages on Kafka, in order, without repetitions."""
        trans_ids: dict[str, dict[str, None]] = {}
        for message in self.services.kafka.messages(self._environ["CTS_KAFKA__TOPIC"]):
            event = json.loads(message.value)
            trans_ids.setdefault(event["job_id"], {}).setdefault(event["trans_id"])
        return {job_id: list(ids) for job_id, ids in trans_ids.items()}

    def start(self, numbers: Sequence[int] | None = None, failpoints: str = "") -> None:
        """Start the servers with these numbers, or all; none of them may be running."""
        starting = [
            self.servers[n] for n in (range(len(self.servers)) if numbers is None else numbers)
        ]
        for server in starting:
            server.environ = {**server.environ, "CTS_FAILPOINTS": failpoints}
        _for_each(CTSProcess.start, starting)

    def stop(self) -> None:
        """Stop every server, and wait until it has ended."""
        _for_each(CTSProcess.stop, self.servers)


def _for_each(action: Callable[[CTSProcess], None], servers: Sequence[CTSProcess]) -> None:
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(action, servers))
