"""A service under load, its servers and what they stand on, all of which can be harmed; and what became of its jobs.

What holds whatever happens: a job whose submission was answered, or whose key was, is there, once; it ends, as it
should; each of its containers ran at most once; each of its transitions reached Kafka, in order, and a subscriber.
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
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.harness.paths import APPEND_RUN
from tests.services.cts import CTSProcess
from tests.services.proxy import Proxy
from tests.services.together import ADMIN_ROLES, ServiceStack

if TYPE_CHECKING:
    from tests.faults.harms import Harm

INPUTS = ("data/ana/in-0.txt", "data/ana/in-1.txt")
PATIENCE_SECONDS = 180.0
CLIENTS = 8
"""Who submit at the same time."""
_TERMINAL = ("complete", "error", "canceled")
_TICK = 0.1


@dataclass
class Outcome:
    """What went wrong with a batch of jobs; all noughts when nothing did."""

    jobs: int = 0
    lost: int = 0
    """Submissions that were answered, or should have been in time, of which there is no job."""
    stuck: int = 0
    """Jobs that did not end."""
    wrong: int = 0
    """Jobs that ended otherwise than they should, or answers that no client should get."""
    twice: int = 0
    """Containers that ran, and keys that made a job, more than once."""
    undelivered: int = 0
    """Transitions that did not reach Kafka in their order, or a subscriber at all."""
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.stuck or self.wrong or self.twice or self.undelivered)

    def add(self, other: Outcome) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass
class Job:
    key: str
    expected: str
    id: str | None = None
    problem: str | None = None


class Subscriber(threading.Thread):
    """One who follows a user's events at whichever server answers, and resumes where the last stream ended."""

    def __init__(self, servers: Sequence[CTSProcess], token: str) -> None:
        super().__init__(daemon=True)
        self._servers = servers
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Last-Event-ID": "2000-01-01T00:00:00Z",
        }
        self._ended = threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        turn = 0
        while not self._ended.wait(_TICK):
            turn += 1
            with contextlib.suppress(httpx.HTTPError):
                self._follow(self._servers[turn % len(self._servers)].url)

    def _follow(self, url: str) -> None:
        timeout = httpx.Timeout(5, read=20)  # streams say something every 15 s
        with httpx.stream("GET", f"{url}/events", headers=self._headers, timeout=timeout) as answer:
            if answer.status_code != 200:
                return
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "data" and "trans_id" in value:
                    self.seen.add(json.loads(value)["trans_id"])
                elif name == "id":
                    self._headers["Last-Event-ID"] = value
                if self._ended.is_set():
                    return

    def end(self) -> None:
        self._ended.set()


class Field:
    """A service of several servers. ``with`` it they run."""

    patience = PATIENCE_SECONDS
    """Within which all jobs have to end."""

    def __init__(self, services: ServiceStack, *, kafka: Proxy, servers: int = 2) -> None:
        """``kafka`` is the proxy whose port the broker of ``services`` advertises."""
        self.services = services
        self.mongo_way, self.s3_way, self.kafka_way = (
            Proxy(services.mongo.port),
            Proxy(services.s3.port),
            kafka,
        )
        kafka.target = services.kafka.port
        self._environ = services.environ(
            mongo_port=self.mongo_way.port, s3_url=self.s3_way.url, kafka_port=kafka.port
        ) | {
            "CTS_DRAIN_S": "1",
            "CTS_MONGO__TIMEOUT_S": "5",
            "CTS_S3__TIMEOUT_S": "10",
            **self.settings(),
        }
        self.folder = Path(self._environ["CTS_HOME"])
        self.folder.mkdir(parents=True)
        self._ran = self.folder / "ran"
        self.servers = [
            CTSProcess(self.folder / f"server-{number}", self._environ) for number in range(servers)
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
            answer = httpx.post(url, headers=headers, json=registration, timeout=60)
            answer.raise_for_status()
            undo.pop_all()
        self._subscriber = Subscriber(self.servers, self._ana)
        self._subscriber.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._subscriber.end()
        self.stop()
        for way in (self.mongo_way, self.s3_way, self.kafka_way):
            way.close()
        self._subscriber.join(PATIENCE_SECONDS)

    # -- what runs, and where ------------------------------------------------------------------

    def settings(self) -> dict[str, str]:
        """What the service is told of its site."""
        return {"CTS_LOCAL__CPUS": "4"}

    def image(self) -> tuple[str, dict[str, str]]:
        """The image of the jobs, and how it is registered."""
        return "host/tool", {"executable": str(APPEND_RUN)}

    def submission(self, job: Job) -> dict[str, Any]:
        """What is submitted for a job."""
        return {
            "cluster": "local",
            "image": "host/tool",
            "params": {
                "args": ["/output_files"],
                "environment": {
                    "RAN": str(self._ran),
                    "NUMBER": {"type": "container_number"},
                    **({"FAIL": "1"} if job.expected == "error" else {}),
                    **({"WORK": "600"} if job.expected == "canceled" else {}),
                },
            },
            "input_files": list(INPUTS),
            "num_containers": len(INPUTS),
            "memory": "200MB",
            "runtime": 900,
            "output_dir": f"data/ana/{job.key}",
        }

    def expected(self, number: int) -> str:
        """How a job should end: of every ten, two fail, and one is canceled."""
        return {3: "error", 7: "error", 5: "canceled"}.get(number % 10, "complete")

    def faults(self, job: Job, job_id: str) -> list[str]:
        """What is wrong with what a job has made."""
        return []

    def ran_again(self, job: Job, job_id: str) -> int:
        """How many containers of a job ran more than once."""
        ran = Counter(self._ran.read_text().split()) if self._ran.exists() else Counter()
        return sum(each.startswith(job_id) and times > 1 for each, times in ran.items())

    # -- the load ------------------------------------------------------------------------------

    def endure(self, harm: Harm, count: int, spread: float) -> Outcome:
        """Submit jobs over so many seconds while harm is done, and say what became of them once all is well again."""
        jobs = [Job(uuid.uuid4().hex, self.expected(number)) for number in range(count)]
        harm.prepare(self)
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            doing = pool.submit(harm.do, self)
            submitted = []
            for job in jobs:
                submitted.append(pool.submit(self._submit, job))
                time.sleep(spread / count)
            for each in (*submitted, doing):
                each.result()
        return self._judge(jobs)

    def _submit(self, job: Job) -> None:
        body = self.submission(job)
        answer = self._insist(job, "POST", "jobs", json=body, headers={"Idempotency-Key": job.key})
        if answer is None:
            return
        job.id = answer.json()["job_id"]
        if job.expected == "canceled":
            time.sleep(0.5)
            self._insist(job, "PUT", f"jobs/{job.id}/cancel", fine=(204, 404))

    def _insist(
        self, job: Job, method: str, path: str, *, fine: tuple[int, ...] = (200,), **given: Any
    ) -> httpx.Response | None:
        """Ask one server after the other until one does it, as a client does when none answers."""
        headers = {"Authorization": f"Bearer {self._ana}", **given.pop("headers", {})}
        deadline = time.monotonic() + PATIENCE_SECONDS
        turn = int(job.key[:2], 16)
        while time.monotonic() < deadline:
            turn += 1
            url = f"{self.servers[turn % len(self.servers)].url}/{path}"
            try:
                answer = httpx.request(method, url, headers=headers, timeout=15, **given)
            except httpx.HTTPError:
                time.sleep(_TICK)
                continue
            if answer.status_code in fine:
                return answer
            is_site_away = answer.status_code == 400 and answer.json()["error"]["appcode"] == 60020
            if answer.status_code not in (429, 503) and not is_site_away:
                job.problem = (
                    f"{method} {path.partition('/')[0]}: {answer.status_code} {answer.text[:300]}"
                )
                return None
            time.sleep(_TICK)
        job.problem = (
            f"{method} {path.partition('/')[0]}: nobody did it in {PATIENCE_SECONDS:.0f} s"
        )
        return None

    # -- the verdict ---------------------------------------------------------------------------

    def _judge(self, jobs: list[Job]) -> Outcome:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            stored = self._stored(jobs)
            steps = [
                step
                for found in stored.values()
                for each in found
                for step in each["transition_times"]
            ]
            if (
                all(each["state"] in _TERMINAL for found in stored.values() for each in found)
                and all(step["notif_sent"] for step in steps)
                and self._subscriber.seen >= {step["trans_id"] for step in steps}
            ):
                break
            time.sleep(0.5)
        return self._count(jobs, self._stored(jobs))

    def _stored(self, jobs: list[Job]) -> dict[str, list[dict[str, Any]]]:
        """What stands in the database, by the keys of the submissions."""
        found: dict[str, list[dict[str, Any]]] = {job.key: [] for job in jobs}
        fields_ = {
            "id": 1,
            "state": 1,
            "transition_times": 1,
            "_cts.idempotency.key": 1,
            "admin_error": 1,
        }
        with self.services.mongo.client() as client:
            records = client[self._environ["CTS_MONGO__DB"]]["jobs"]
            for record in records.find({"_cts.idempotency.key": {"$in": list(found)}}, fields_):
                found[record["_cts"]["idempotency"]["key"]].append(record)
        return found

    def _count(self, jobs: list[Job], stored: dict[str, list[dict[str, Any]]]) -> Outcome:
        outcome = Outcome(jobs=len(jobs))
        messages = self._messages()
        for job in jobs:
            found = stored[job.key]
            if job.problem:
                outcome.wrong += 1
                outcome.notes.append(job.problem)
            if not found or (job.id and job.id not in {each["id"] for each in found}):
                outcome.lost += 1
                outcome.notes.append(f"no job with key {job.key}, which should be {job.id}")
            outcome.twice += max(0, len(found) - 1)
            for each in found:
                self._look(job, each, outcome, messages)
        return outcome

    def _look(
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
        outcome.twice += self.ran_again(job, record["id"])
        faults = self.faults(job, record["id"]) if record["state"] == "complete" else []
        outcome.wrong += len(faults)
        outcome.notes += faults
        trans_ids = [step["trans_id"] for step in record["transition_times"]]
        unseen = set(trans_ids) - self._subscriber.seen
        if messages.get(record["id"], []) != trans_ids or unseen:
            outcome.undelivered += 1
            outcome.notes.append(
                f"{record['id']}: {history}; Kafka has {len(messages.get(record['id'], []))} of {len(trans_ids)}, "
                f"a subscriber did not see {len(unseen)}"
            )

    def _messages(self) -> dict[str, list[str]]:
        """The first copies of what Kafka has of each job, in their order."""
        found: dict[str, dict[str, None]] = {}
        for message in self.services.kafka.messages(self._environ["CTS_KAFKA__TOPIC"]):
            told = json.loads(message.value)
            found.setdefault(told["job_id"], {}).setdefault(told["trans_id"])
        return {job_id: list(trans_ids) for job_id, trans_ids in found.items()}

    def start(self, numbers: Sequence[int] | None = None, failpoints: str = "") -> None:
        """Start servers that do not run: all of them, or those of these numbers."""
        starting = [
            self.servers[n] for n in (range(len(self.servers)) if numbers is None else numbers)
        ]
        for server in starting:
            server.environ = {**server.environ, "CTS_FAILPOINTS": failpoints}
        _each(CTSProcess.start, starting)

    def stop(self) -> None:
        """Ask every server to end, and see that it does."""
        _each(CTSProcess.stop, self.servers)


def _each(do: Callable[[CTSProcess], None], servers: Sequence[CTSProcess]) -> None:
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(do, servers))
