"""One run: faults by their schedule while clients work, healing, and the history of it all."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from tests.faults.nemesis.history import Delivery, History, Record, Step
from tests.faults.nemesis.history import Subscriber as SubscriberHistory
from tests.faults.nemesis.pool import PoolNemesisHarness
from tests.faults.nemesis.schedule import Fault, Kind, make_schedule
from tests.faults.nemesis.service import Harms, NemesisHarness
from tests.faults.nemesis.workload import MAX_CONTAINERS, Client, Journal
from tests.faults.pool import started_pool
from tests.harness.disk import mounted_disk
from tests.harness.faults import Subscriber
from tests.services.proxy import Proxy
from tests.services.server import MissingError, free_port
from tests.services.together import started_stack

SUBSCRIBERS = 2
_TERMINAL = ("complete", "error", "canceled")
_POLL_SECONDS = 0.5

_S3_SIZE = "512m"
"""The disk of the S3 server."""

Report = Callable[[str], None]


@contextlib.contextmanager
def started_services(
    folder: Path, *, with_pool: bool = False
) -> Iterator[Callable[[], NemesisHarness]]:
    """Start all servers in a new folder; yield what makes an empty service on them. Raises MissingError."""
    folder.chmod(0o755)  # PostgreSQL runs as a user of its own
    kafka_port = free_port()
    with contextlib.ExitStack() as stack:
        given: dict[str, Any] = {}
        with contextlib.suppress(MissingError):
            given["s3_disk"] = stack.enter_context(mounted_disk(folder / "minio", _S3_SIZE))
        services = stack.enter_context(started_stack(folder, kafka_advertises=kafka_port))
        if with_pool:
            given["pool"], given["registry"] = stack.enter_context(started_pool(folder))

        def new_service() -> NemesisHarness:
            services.s3.empty()
            kind = PoolNemesisHarness if with_pool else NemesisHarness
            return kind(services, kafka=Proxy(0, kafka_port), **given)

        yield new_service


def schedule_of(
    harness: NemesisHarness, seed: int, seconds: float, without: Collection[str] = ()
) -> tuple[Fault, ...]:
    """Return the faults of a run with this seed, of those that are possible here and not left out."""
    kinds: dict[str, Sequence[Kind]] = {
        name: tuple(kind for kind in harms if kind not in without)
        for name, harms in harness.targets().items()
    }
    return make_schedule(seed, seconds, {name: some for name, some in kinds.items() if some})


def run(
    harness: NemesisHarness, schedule: Sequence[Fault], seed: int, seconds: float, report: Report
) -> History:
    """Have clients work for ``seconds`` while the faults of the schedule come and go; return the history."""
    began = time.monotonic()
    journal = Journal(began)
    inputs = {f"data/ana/in-{number}.txt": b"in" for number in range(MAX_CONTAINERS)}
    harness.services.s3.put(inputs)
    clients = [Client(f"client {n}", seed, journal, harness) for n in range(harness.clients)]
    subscribers = [
        Subscriber((*harness.fronts[n:], *harness.fronts[:n]), harness.user_token)
        for n in range(SUBSCRIBERS)
    ]
    for subscriber in subscribers:
        subscriber.start()
    with ThreadPoolExecutor(harness.clients) as pool:
        working = [pool.submit(client.run) for client in clients]
        faults = _inject(schedule, harness.targets(), journal, report)
        time.sleep(max(0.0, seconds - journal.now()))
        healed = time.monotonic()
        report(f"healed after {healed - began:.0f} s, {len(journal.jobs)} jobs accepted")
        deadline = healed + harness.bound
        for client in clients:
            client.stop(deadline)
        for future in working:
            future.result()
    settled = _settle(harness, (*subscribers, *journal.watchers), deadline)
    report(f"settled {time.monotonic() - healed:.0f} s later" if settled else "did not settle")
    for subscriber in (*subscribers, *journal.watchers):
        subscriber.stop()
    for number in range(len(harness.servers)):
        harness.note_death(number)
    records = _records(harness)
    return History(
        seed=seed,
        faults=faults,
        calls=tuple(journal.calls),
        records=records,
        topic=_topic(harness),
        subscribers=tuple(
            _subscriber(subscriber, name, began)
            for name, subscriber in _named(subscribers, journal)
        ),
        runs=tuple(harness.runs()),
        may_rerun=harness.may_rerun,
        objects=tuple(harness.stored("data/ana/put-").items()),
        unready=(*_unready(harness), *journal.unanswered),
        deaths=tuple(harness.deaths),
    )


# -- faults --------------------------------------------------------------------------------------


def _inject(
    schedule: Sequence[Fault], targets: dict[str, Harms], journal: Journal, report: Report
) -> tuple[Fault, ...]:
    """Inject each fault at its time, and return them as they were once all are over."""
    locks = {fault.target: threading.Lock() for fault in schedule}

    def inject(fault: Fault) -> Fault:
        # A target may need longer to recover than the schedule has foreseen.
        with locks[fault.target]:
            time.sleep(max(0.0, fault.start - journal.now()))
            started = journal.now()
            report(str(replace(fault, start=started)))
            with targets[fault.target][fault.kind](fault.amount):
                time.sleep(fault.seconds)
            return replace(fault, start=started, seconds=journal.now() - started)

    if not schedule:
        return ()
    with ThreadPoolExecutor(len(schedule)) as pool:
        return tuple(pool.map(inject, schedule))


# -- the end -------------------------------------------------------------------------------------


def _settle(harness: NemesisHarness, subscribers: Sequence[Subscriber], deadline: float) -> bool:
    """Wait until all that was promised is there; return False if it is not at the deadline."""
    while time.monotonic() < deadline:
        if _is_settled(harness, subscribers):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def _is_settled(harness: NemesisHarness, subscribers: Sequence[Subscriber]) -> bool:
    jobs = list(harness.jobs({"transition_times": 1, "state": 1}))
    if not all(job["state"] in _TERMINAL for job in jobs):
        return False
    steps = [step for job in jobs for step in job["transition_times"]]
    trans_ids = {step["trans_id"] for step in steps}
    return (
        all(step["notif_sent"] for step in steps)
        and all(s.has_ended if s.job_id else s.seen >= trans_ids for s in subscribers)
        and not _unready(harness)
    )


def _unready(harness: NemesisHarness) -> tuple[tuple[str, str], ...]:
    """Return the servers that are not ready, and why not."""
    unready = []
    headers = {"Authorization": f"Bearer {harness.admin_token}"}
    for front in harness.fronts:
        try:
            answer = httpx.get(f"{front.url}/ready", headers=headers, timeout=15)
            if answer.json()["status"] != "ready":
                unready.append((front.name, answer.text))
        except (httpx.HTTPError, json.JSONDecodeError, KeyError) as e:
            unready.append((front.name, repr(e)))
    return tuple(unready)


def _records(harness: NemesisHarness) -> tuple[Record, ...]:
    return tuple(_record(harness, job) for job in harness.jobs())


def _record(harness: NemesisHarness, job: dict[str, Any]) -> Record:
    given = job["job_input"]
    fails = given["params"]["environment"].get("FAIL")
    return Record(
        job_id=job["id"],
        steps=tuple(
            Step(step["trans_id"], step["state"], step["notif_sent"])
            for step in job["transition_times"]
        ),
        key=job.get("_cts", {}).get("idempotency", {}).get("key"),
        fails=fails is not None and int(fails) < given["num_containers"],
        outputs={each["file"]: each["crc64nvme"] for each in job.get("outputs") or ()},
        stored=harness.stored(f"{given['output_dir'].rstrip('/')}/")
        if job["state"] == "complete"
        else None,
        error=job.get("admin_error") or "",
    )


def _topic(harness: NemesisHarness) -> tuple[Delivery, ...]:
    messages = (json.loads(message.value) for message in harness.messages())
    return tuple(Delivery(message["job_id"], message["trans_id"]) for message in messages)


def _named(subscribers: Sequence[Subscriber], journal: Journal) -> Iterator[tuple[str, Subscriber]]:
    for number, subscriber in enumerate(subscribers):
        yield f"{number}", subscriber
    for number, watcher in enumerate(journal.watchers):
        yield f"of one job {number}", watcher


def _subscriber(subscriber: Subscriber, name: str, began: float) -> SubscriberHistory:
    return SubscriberHistory(
        name=name,
        deliveries=tuple(
            Delivery(job_id, trans_id, at - began) for job_id, trans_id, at in subscriber.deliveries
        ),
        job_id=subscriber.job_id,
        has_ended=subscriber.has_ended,
    )
