"""What becomes of our containers in the pool: one question a cycle for all of them, and what follows from the answer.

Workers report by calling us. What they cannot report is found here: containers that HTCondor holds, lost, or can never
start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar

from cts_core.clock import utc_now
from cts_core.concurrency import run_in_pool
from cts_core.errors import UnavailableError
from cts_core.model.record import ContainerOutcome, ContainerTransition
from cts_core.sites.htcondor.bindings_client import Pool
from cts_core.sites.htcondor.classads import (
    ATTRIBUTES,
    CANCELED_REASON,
    GIVEN_UP,
    Ad,
    Hold,
    Key,
    Status,
    admin_words,
    gone_words,
    hold_words,
    lost_words,
    measured,
    misfit_admin_words,
    misfit_words,
    most_hopeful,
    read_ads,
)
from cts_core.sites.htcondor.constraints import MAX_NAMED, among, these
from cts_core.sites.htcondor.duplicates import Doubles, Holders
from cts_core.sites.htcondor.event_logs import EventLogs
from cts_core.sites.htcondor.history import remembered
from cts_core.sites.site import ContainerReport
from cts_core.states import TERMINAL, JobState

log = logging.getLogger(__name__)

RELEASES = 3
"""How often a container is released that could not fetch what its node needs."""
RELEASE_SECONDS = 10.0
"""Before the first release; twice as long before each further one."""
SPOOL_SECONDS = 300.0
"""How long a container may be held because HTCondor does not have its files yet."""
VANISHED_SECONDS = 60.0
"""How long a container may be in neither queue nor history before it is given up."""
HISTORY_PAUSE_SECONDS = 60.0
"""Before another try, where the history could not be read, such as one that takes too long."""
MATCH_SECONDS = 300.0
"""Between two looks at the nodes for the same cluster that waits."""
MAX_REMEMBERED = 20_000
"""Jobs of which the last sight, and clusters of which the last look at the nodes, is remembered."""
LOST_REASON = "CTS: its node does not answer"

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass
class _Missing:
    """A container that is in the queue no more."""

    since: float
    looks: int = 0
    is_asked: bool = False

    def is_over(self, now: float) -> bool:
        """Whether it has been looked for long enough."""
        return now - self.since > VANISHED_SECONDS


@dataclass
class _Cycle:
    """One cycle's containers that have not ended, and what is to be told of them."""

    states: Mapping[Key, JobState]
    ads: Mapping[Key, Ad]
    given_up: Sequence[Ad]
    """Processes that are as if they had never been, and are in the queue still."""
    told: dict[str, list[ContainerReport]] = field(default_factory=dict)

    def tell(self, key: Key, report: ContainerReport) -> None:
        self.told.setdefault(key[0], []).append(report)


class Follower:
    """Follows the containers of jobs that were handed over."""

    def __init__(
        self,
        pool: Pool,
        logs: EventLogs,
        holders: Holders | None,
        *,
        match_wait: float,
        node_wait: float,
    ) -> None:
        """Wait so many seconds for a first node, and for one that does not answer. ``holders``: see Doubles."""
        self._pool = pool
        self._logs = logs
        self._doubles = Doubles(pool, holders)
        self._match_wait = match_wait
        self._node_wait = node_wait
        self._missing: dict[Key, _Missing] = {}
        self._seen: dict[str, datetime] = {}
        """By job, when it was last in the queue."""
        self._matched: dict[int, float] = {}
        """By cluster, when its nodes were last looked at."""
        self._no_history_until = float("-inf")

    async def poll(
        self, jobs: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        """What workers did not report. Raises UnavailableError."""
        live = {
            (job_id, number): state
            for job_id, states in jobs.items()
            for number, state in enumerate(states)
            if state not in TERMINAL
        }
        self._missing = {
            key: missing
            for key, missing in self._missing.items()
            if key in live or key[0] not in jobs
        }
        told = await self._follow(live) if live else {}
        await self._doubles.end(jobs.keys() - {job_id for job_id, _ in live})
        return told

    async def _follow(
        self, live: Mapping[Key, JobState]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        cycle = _Cycle(live, *await self._queue({job_id for job_id, _ in live}))
        await self._logs.follow(cycle.ads)
        await self._look_at_lost(cycle)
        await self._look_at_held(cycle)
        await self._look_at_waiting(cycle)
        await self._look_at_missing(cycle)
        return cycle.told

    async def _queue(self, job_ids: set[str]) -> tuple[dict[Key, Ad], list[Ad]]:
        """The ads of these jobs, one for each container that is in the queue, and those that were given up."""
        rows = await self._pool.call("query", constraint=among(job_ids), attributes=ATTRIBUTES)
        jobs, given_up = await run_in_pool(_sorted_out, rows, job_ids)
        self._seen |= dict.fromkeys(jobs, utc_now())
        _forget(self._seen)
        settled = [await self._doubles.settled(job_id, ads) for job_id, ads in jobs.items()]
        found = await run_in_pool(_by_container, settled)
        for key in found:
            self._missing.pop(key, None)
        return found, given_up

    async def _look_at_lost(self, cycle: _Cycle) -> None:
        """HTCondor waits for a node as long as the lease of a job is, which may be half a day."""
        followed = (cycle.ads[key] for key in cycle.states if key in cycle.ads)
        lost = [ad for ad in (*followed, *cycle.given_up) if ad.seconds_lost > self._node_wait]
        lost = lost[:MAX_NAMED]
        if not lost:
            return
        # Of what was removed, why must not be lost.
        reasons: dict[str, list[Ad]] = {}
        for ad in lost:
            reasons.setdefault(ad.remove_reason or LOST_REASON, []).append(ad)
        for reason, ads in reasons.items():
            constraint = these(ads)
            await self._pool.attempt(
                "Remove", f"{constraint} && JobStatus =!= {Status.REMOVED}", reason
            )
            # It would stay in the queue, as removed, until its node answers.
            await self._pool.attempt("RemoveX", constraint, reason)
        for ad in lost:
            if ad.status != Status.REMOVED:
                cycle.tell((ad.job_id, ad.number), _failed(ad, lost_words(ad)))

    async def _look_at_held(self, cycle: _Cycle) -> None:
        release = []
        for key, state in cycle.states.items():
            ad = cycle.ads.get(key)
            if ad is None or ad.status != Status.HELD:
                continue
            if ad.hold_code == Hold.SPOOLING and ad.seconds_in_status < SPOOL_SECONDS:
                continue
            holds = ad.holds or 1
            # Beyond that state a worker has begun, and a container is never run twice.
            is_new = state is JobState.DOWNLOAD_SUBMITTED
            if ad.hold_code == Hold.INPUT_TRANSFER and is_new and holds <= RELEASES:
                if ad.seconds_in_status >= RELEASE_SECONDS * 2 ** (holds - 1):
                    release.append(ad)
                continue
            cycle.tell(key, _failed(ad, hold_words(ad)))
        if release:
            await self._pool.attempt("Release", these(release), "CTS: tried again")

    async def _look_at_waiting(self, cycle: _Cycle) -> None:
        now = time.monotonic()
        waiting = {
            key: ad
            for key in cycle.states
            if (ad := cycle.ads.get(key)) and ad.seconds_waiting > self._match_wait
        }
        due = sorted(
            {
                ad.cluster_id
                for ad in waiting.values()
                if now - self._matched.get(ad.cluster_id, -MATCH_SECONDS) >= MATCH_SECONDS
            }
        )[:MAX_NAMED]
        if not due:
            return
        self._matched.update(dict.fromkeys(due, now))
        _forget(self._matched)
        try:
            pool = await self._pool.call("never_matching", clusters=due)
        except UnavailableError as e:
            # The queue has answered: what it said of others is told all the same.
            log.warning("Whether waiting containers fit any node is looked at later: %s", e)
            return
        for misfit in pool["misfits"]:
            ads = {key: ad for key, ad in waiting.items() if ad.cluster_id == misfit["cluster"]}
            # Or they would start once such a node comes.
            await self._pool.attempt("Remove", these(ads.values()), "CTS: no node can ever take it")
            for key, ad in ads.items():
                words = misfit_words(ad, misfit, pool)
                cycle.tell(key, _failed(ad, words, misfit_admin_words(ad, misfit, pool)))

    async def _look_at_missing(self, cycle: _Cycle) -> None:
        now = time.monotonic()
        due: dict[str, list[int]] = {}
        for job_id, number in cycle.states.keys() - cycle.ads.keys():
            missing = self._missing.setdefault((job_id, number), _Missing(now))
            missing.looks += 1
            # At the first look its worker's last report may not have been read yet.
            is_due = missing.looks > 1 and not missing.is_asked
            # The others have their turn in the next cycles.
            if (is_due or missing.is_over(now)) and (job_id in due or len(due) < MAX_NAMED):
                due.setdefault(job_id, []).append(number)
        if now < self._no_history_until:
            return
        for job_id, numbers in due.items():
            try:
                left = await remembered(self._pool, job_id, numbers, self._seen.get(job_id))
            except UnavailableError as e:
                # What the queue has said of others is told all the same.
                self._no_history_until = time.monotonic() + HISTORY_PAUSE_SECONDS
                told = "HTCondor's history cannot be read, and is asked again in %d s: %s"
                log.warning(told, HISTORY_PAUSE_SECONDS, e)
                return
            ads = {ad.number: ad for ad in reversed(left)}
            for number in numbers:
                key = (job_id, number)
                self._missing[key].is_asked = True
                if ad := ads.get(number):
                    cycle.tell(key, _gone(ad))
                elif self._missing[key].is_over(now):
                    words = gone_words(None)
                    outcome = ContainerOutcome(error=words, admin_error=words)
                    cycle.tell(key, _report(number, JobState.ERROR, outcome))


def _sorted_out(
    rows: Sequence[Sequence[Any]], job_ids: Collection[str]
) -> tuple[dict[str, list[Ad]], list[Ad]]:
    """The ads of these jobs, by job, without those that were given up; and these."""
    jobs: dict[str, list[Ad]] = {}
    given_up = []
    for ad in read_ads([row for row in rows if row[0] in job_ids]):
        if (ad.remove_reason or "").startswith(GIVEN_UP):
            given_up.append(ad)
        else:
            jobs.setdefault(ad.job_id, []).append(ad)
    return jobs, given_up


def _by_container(jobs: Sequence[Sequence[Ad]]) -> dict[Key, Ad]:
    found: dict[Key, list[Ad]] = {}
    for ad in chain.from_iterable(jobs):
        found.setdefault((ad.job_id, ad.number), []).append(ad)
    return {key: most_hopeful(ads) for key, ads in found.items()}


def _failed(ad: Ad, words: str, admins: str | None = None) -> ContainerReport:
    told = {"error": words, "admin_error": admins or admin_words(ad)}
    outcome = measured(ad).model_copy(update=told)
    return _report(ad.number, JobState.ERROR, outcome)


def _gone(ad: Ad) -> ContainerReport:
    # HTCondor adds who it was.
    if (ad.remove_reason or "").startswith(CANCELED_REASON):
        return _report(ad.number, JobState.CANCELED, measured(ad))
    return _failed(ad, gone_words(ad))


def _report(number: int, state: JobState, outcome: ContainerOutcome) -> ContainerReport:
    return ContainerReport(number, list(_steps(state)), outcome)


def _steps(state: JobState) -> Iterator[ContainerTransition]:
    now = utc_now()
    if state is JobState.CANCELED:
        yield ContainerTransition(state=JobState.CANCELING, time=now)
    yield ContainerTransition(state=state, time=now)


def _forget(remembered: dict[_Key, _Value]) -> None:
    """Let the oldest go, which were first put in."""
    while len(remembered) > MAX_REMEMBERED:
        del remembered[next(iter(remembered))]
