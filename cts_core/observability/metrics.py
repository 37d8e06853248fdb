"""Metrics for Prometheus. Every label has a bounded set of values: no users, jobs, paths or messages."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from cts_core.clock import utc_now
from cts_core.errors import CTSError
from cts_core.events.hub import Hub
from cts_core.events.outbox import Outbox
from cts_core.events.publisher import Topic
from cts_core.model.event import JobEvent
from cts_core.model.service import DependencyState
from cts_core.model.site import SiteName
from cts_core.observability.clock import ClockCheck
from cts_core.observability.instrument import EVENTS, RECORDS, PortCall
from cts_core.records.store import RecordStore
from cts_core.sites.site import ClientInfo
from cts_core.version import VERSION

__all__ = ["CONTENT_TYPE", "Metrics"]

log = logging.getLogger(__name__)

MAX_LABELED = 1_000
"""Combinations of labels, of one metric, that are found without looking them up."""
COUNT_SECONDS = 30.0
"""Seconds for which counts from the record store are reused before they are counted anew."""
_CALL_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
_REQUEST_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_DELAY_BUCKETS = (0.01, 0.05, 0.2, 1.0, 5.0, 30.0, 300.0, 3600.0)


class Metrics:
    """The metrics of this process; those of the record store are counted at a scrape. Listens to the calls to ports."""

    def __init__(self, *, preset: str, group: str) -> None:
        self._registry = registry = _Registry()
        ProcessCollector(registry=registry)
        info = Info(
            "cts", "The version, the preset and the group of this process", registry=registry
        )
        info.info({"version": VERSION, "preset": preset, "group": group})
        self._calls = Histogram(
            "cts_call_seconds",
            "Calls to what the service depends on",
            ["port", "method"],
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        # Looked up anew, the labels of a metric take as long as half of what is measured by it.
        self._call_seconds = functools.lru_cache(MAX_LABELED)(self._calls.labels)
        self._call_errors = Counter(
            "cts_call_errors",
            "Calls that did not do what was asked: refused, outage (away or silent), fault (ours)",
            ["port", "method", "kind"],
            registry=registry,
        )
        self._requests = Histogram(
            "cts_request_seconds",
            "Requests, until the answer or until the first piece of a streamed one",
            ["method", "route", "status"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._request_seconds = functools.lru_cache(MAX_LABELED)(self._requests.labels)
        self._limited = Counter(
            "cts_limited_requests",
            "Requests refused by a limit (429)",
            ["route"],
            registry=registry,
        )
        self._transitions = Counter(
            "cts_transitions",
            "Transitions of jobs that this process recorded, by the new state",
            ["state"],
            registry=registry,
        )
        self._delays = Histogram(
            "cts_event_delay_seconds",
            "From the recording of a transition to the acknowledgement of its event",
            buckets=_DELAY_BUCKETS,
            registry=registry,
        )
        self._up = Gauge(
            "cts_dependency_up", "1 if it is up, 0 if it is down", ["dependency"], registry=registry
        )
        self._full = Gauge(
            "cts_dependency_full",
            "1 if it is up and has no space left, else 0",
            ["dependency"],
            registry=registry,
        )
        self._clock: ClockCheck | None = None
        self._stored = _StoredCounts()
        registry.register(self._stored)
        self._clients = _ClientLifetimes()
        registry.register(self._clients)

    def add_clock(self, clock: ClockCheck) -> None:
        """Add the metric of the clock."""
        self._clock = clock

        def offset() -> float:
            return clock.offset.total_seconds()

        self._gauge(
            "cts_clock_offset_seconds",
            "How far this server's clock is ahead of the record store's",
            offset,
        )

    def add_client_metrics(self, clients: Callable[[], Mapping[SiteName, ClientInfo]]) -> None:
        """Add the metric of the clients by which sites are used."""
        self._clients.read = clients

    def add_event_metrics(self, outbox: Outbox, hub: Hub, topic: Topic | None = None) -> None:
        """Add metrics of the outbox, the hub and the topic."""

        def age() -> float:
            oldest = outbox.backlog.oldest
            return self._seconds_since(oldest) if oldest else 0.0

        self._gauge(
            "cts_outbox_jobs",
            "Jobs with an event that waits to be sent; at least so many",
            lambda: outbox.backlog.jobs,
        )
        self._gauge("cts_outbox_age_seconds", "Age of the oldest event that waits", age)
        self._gauge("cts_event_subscribers", "Open streams of events", lambda: hub.subscribers)
        self._gauge(
            "cts_ignored_messages",
            "Messages on the topic of events that were none of ours, since the start",
            lambda: topic.ignored if topic else 0,
        )

    def _seconds_since(self, stored: datetime) -> float:
        """Return the seconds since a time of the record store."""
        now = self._clock.now() if self._clock else utc_now()
        return max(0.0, (now - stored).total_seconds())

    def _gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        Gauge(name, meaning, registry=self._registry).set_function(read)

    def on_call(self, call: PortCall) -> None:
        """Count a call to a port."""
        self._call_seconds(call.port, call.method).observe(call.seconds)
        if call.outage or call.error:
            kind = "outage" if call.outage else "fault"
            if kind == "fault" and isinstance(call.error, CTSError):
                kind = "refused"
            self._call_errors.labels(call.port, call.method, kind).inc()
        elif call.port == RECORDS and call.method == "transition" and call.result:
            self._transitions.labels(call.args[2].value).inc()
        elif call.port == EVENTS and call.method == "publish":
            event: JobEvent = call.args[0]
            self._delays.observe(self._seconds_since(event.recorded_at))

    def on_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request. ``route`` is a template of the route table, or ``none``; ``seconds`` is its duration."""
        self._request_seconds(method, route, str(status)).observe(seconds)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._limited.labels(route).inc()

    async def text(self, store: RecordStore | None, states: dict[str, DependencyState]) -> bytes:
        """Return all metrics in Prometheus' text format; ``store`` is None in a service without jobs."""
        if store is None or states.get(RECORDS) is DependencyState.DOWN:
            # A query could take longer than a scrape may.
            self._stored.clear()
        else:
            await self._stored.refresh(store)
        for name, state in states.items():
            if state is not DependencyState.UNKNOWN:
                self._up.labels(name).set(state is not DependencyState.DOWN)
                self._full.labels(name).set(state is DependencyState.FULL)
        return await asyncio.to_thread(generate_latest, self._registry)


class _Registry(CollectorRegistry):
    """A registry without the creation time of each counter, which nothing uses."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric


class _ClientLifetimes(Collector):
    """How long the clients by which sites are used live on."""

    read: Callable[[], Mapping[SiteName, ClientInfo]] = dict

    def collect(self) -> Iterator[Metric]:
        lifetimes = GaugeMetricFamily(
            "cts_client_lifetime_seconds",
            "Seconds until the client expires by which a site is used",
            labels=["site"],
        )
        for site, client in self.read().items():
            lifetimes.add_metric([site.value], (client.expires_at - utc_now()).total_seconds())
        yield lifetimes


class _StoredCounts(Collector):
    """Metrics that are counted in the record store. There are none while the store is down."""

    def __init__(self) -> None:
        self._counted = float("-inf")
        self._metrics: list[Metric] = []
        self._counting = asyncio.Lock()

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics

    def clear(self) -> None:
        """Drop the counts: the store is down."""
        self._metrics = []
        self._counted = float("-inf")

    async def refresh(self, store: RecordStore) -> None:
        async with self._counting:
            if time.monotonic() - self._counted < COUNT_SECONDS:
                return
            try:
                self._metrics = await _count(store)
            except CTSError as e:
                log.warning("Jobs could not be counted: %s", e)
                self._metrics = []
            self._counted = time.monotonic()


async def _count(store: RecordStore) -> list[Metric]:
    jobs = GaugeMetricFamily("cts_jobs", "Jobs by site and state", labels=["site", "state"])
    for count in await store.count_jobs():
        jobs.add_metric([count.cluster.value, count.state.value], count.count)
    oldest: dict[tuple[str, str], float] = {}
    now = await store.now()
    for job in await store.live_jobs():
        labels = (job.cluster.value, job.state.value)
        oldest[labels] = max(oldest.get(labels, 0.0), (now - job.updated).total_seconds())
    ages = GaugeMetricFamily(
        "cts_oldest_job_seconds",
        "How long the job that has been in this state for longest has been in it",
        labels=["site", "state"],
    )
    for (site, state), seconds in oldest.items():
        ages.add_metric([site, state], seconds)
    unadopted = GaugeMetricFamily(
        "cts_unadopted_jobs", "Live jobs of another program that nobody drives: see cts adopt"
    )
    unadopted.add_metric([], len(await store.unadopted_jobs()))
    return [jobs, ages, unadopted]
