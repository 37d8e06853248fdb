"""Tracks containers in the pool: one query a cycle for all of them, and the reports and actions that follow from it.

Workers report by calling the service. This module finds what they cannot report: containers that HTCondor holds, has
lost, or can never start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from cachetools import FIFOCache

from cts_core.backoff import Backoff
from cts_core.clock import utc_now
from cts_core.concurrency import run_in_pool
from cts_core.errors import UnavailableError
from cts_core.model.record import ContainerOutcome, ContainerTransition
from cts_core.sites.htcondor.bindings_client import BindingsClient
from cts_core.sites.htcondor.classads import (
    ATTRIBUTES,
    CANCELED_REASON,
    SUPERSEDED_REASON,
    ContainerKey,
    HoldCode,
    JobAd,
    Status,
    admin_message,
    gone_message,
    hold_message,
    hold_reason,
    lost_message,
    measured,
    misfit_admin_message,
    misfit_message,
    pick_representative,
    read_ads,
)
from cts_core.sites.htcondor.constraints import MAX_NAMED, for_jobs, for_processes
from cts_core.sites.htcondor.duplicates import Claimants, Deduplicator
from cts_core.sites.htcondor.event_logs import EventLogs
from cts_core.sites.htcondor.history import find_in_history
from cts_core.sites.site import ContainerReport
from cts_core.states import TERMINAL, JobState

log = logging.getLogger(__name__)

RELEASES = 3
"""How often a held container is released whose node could not fetch its input files."""
RELEASE_SECONDS = 10.0
"""Before the first release; twice as long before each further one."""
SPOOL_SECONDS = 300.0
"""How long a container may be held because HTCondor does not have its spooled files yet."""
VANISHED_SECONDS = 60.0
"""How long a container may be in neither queue nor history before it is given up."""
HISTORY_RETRY_SECONDS = 60.0
"""Seconds until the history is read again after a failure or a timeout."""
MATCH_CHECK_SECONDS = 300.0
"""Between two checks of the nodes for the same waiting cluster."""
MATCH_RETRY_SECONDS = 15.0
"""Until the nodes are checked again after a check that could not see them."""
MAX_REMEMBERED = 20_000
"""The most jobs and clusters whose last sighting or check is remembered."""
LOST_REASON = "CTS: its node does not answer"


@dataclass
class _Missing:
    """A container that is not in the queue any more."""

    since: float
    cycles: int = 0
    is_history_read: bool = False

    def is_over(self, now: float) -> bool:
        """Return whether the container has been missing for too long."""
        return now - self.since > VANISHED_SECONDS


@dataclass
class _Cycle:
    """The containers of one cycle that have not ended, and the reports on them."""

    states: Mapping[ContainerKey, JobState]
    ads: Mapping[ContainerKey, JobAd]
    superseded: Sequence[JobAd]
    """Processes that were superseded, and are still in the queue."""
    reports: dict[str, list[ContainerReport]] = field(default_factory=dict)

    def add(self, key: ContainerKey, report: ContainerReport) -> None:
        self.reports.setdefault(key[0], []).append(report)


class Tracker:
    """Tracks the containers of submitted jobs."""

    def __init__(
        self,
        bindings: BindingsClient,
        logs: EventLogs,
        claimants: Claimants | None,
        *,
        match_wait: float,
        node_wait: float,
    ) -> None:
        """Set the seconds to wait for a first node, and for one that does not answer; for ``claimants`` see Deduplicator."""
        self._bindings = bindings
        self._logs = logs
        self._deduplicator = Deduplicator(bindings, claimants)
        self._match_wait = match_wait
        self._node_wait = node_wait
        self._missing: dict[ContainerKey, _Missing] = {}
        self._seen: FIFOCache[str, datetime] = FIFOCache(MAX_REMEMBERED)
        """By job, when it was last in the queue."""
        self._match_due: FIFOCache[int, float] = FIFOCache(MAX_REMEMBERED)
        """By cluster, when nodes are to be checked for it again, by the monotonic clock."""
        self._no_history_until = float("-inf")
        self._holds: dict[str, str] = {}
        """By job, why containers of it were on hold in the last cycle that are released again."""

    def hold_of(self, job_id: str) -> str | None:
        """Return why containers of a job are on hold that go on by themselves; None if none is."""
        return self._holds.get(job_id)

    async def poll(
        self, jobs: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        """Return reports on what workers could not report, by job. Raises UnavailableError."""
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
        reports = await self._track(live) if live else {}
        await self._deduplicator.remove_finished(jobs.keys() - {job_id for job_id, _ in live})
        return reports

    async def _track(
        self, live: Mapping[ContainerKey, JobState]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        cycle = _Cycle(live, *await self._queue({job_id for job_id, _ in live}))
        await self._logs.watch(cycle.ads)
        await self._handle_lost(cycle)
        await self._handle_held(cycle)
        await self._handle_waiting(cycle)
        await self._handle_missing(cycle)
        return cycle.reports

    async def _queue(self, job_ids: set[str]) -> tuple[dict[ContainerKey, JobAd], list[JobAd]]:
        """Return the ads of these jobs, one for each container in the queue, and the ads that were superseded."""
        rows = await self._bindings.call(
            "query", constraint=for_jobs(job_ids), attributes=ATTRIBUTES
        )
        jobs, superseded = await run_in_pool(_group_by_job, rows, job_ids)
        self._seen.update(dict.fromkeys(jobs, utc_now()))
        resolved = [await self._deduplicator.resolve(job_id, ads) for job_id, ads in jobs.items()]
        ads = await run_in_pool(_by_container, resolved)
        for key in ads:
            self._missing.pop(key, None)
        return ads, superseded

    async def _handle_lost(self, cycle: _Cycle) -> None:
        """Give up containers whose node does not answer.

        HTCondor itself waits for a node for as long as the job's lease, which may be half a day.
        """
        tracked = (cycle.ads[key] for key in cycle.states if key in cycle.ads)
        lost = [ad for ad in (*tracked, *cycle.superseded) if ad.seconds_lost > self._node_wait]
        lost = lost[:MAX_NAMED]
        if not lost:
            return
        # What was removed already keeps its reason.
        reasons: dict[str, list[JobAd]] = {}
        for ad in lost:
            reasons.setdefault(ad.remove_reason or LOST_REASON, []).append(ad)
        for reason, ads in reasons.items():
            constraint = for_processes(ads)
            await self._bindings.attempt(
                "Remove", f"{constraint} && JobStatus =!= {Status.REMOVED}", reason
            )
            # A removed process stays in the queue until its node answers, unless it is forced out.
            await self._bindings.attempt("RemoveX", constraint, reason)
        for ad in lost:
            if ad.status != Status.REMOVED:
                cycle.add((ad.job_id, ad.number), _failed(ad, lost_message(ad)))

    async def _handle_held(self, cycle: _Cycle) -> None:
        release = []
        self._holds = {}
        for key, state in cycle.states.items():
            ad = cycle.ads.get(key)
            if ad is None or ad.status != Status.HELD:
                continue
            if ad.hold_code == HoldCode.SPOOLING and ad.seconds_in_status < SPOOL_SECONDS:
                continue
            holds = ad.holds or 1
            # Beyond that state a worker has started, and a container is never run twice.
            is_new = state is JobState.DOWNLOAD_SUBMITTED
            if ad.hold_code == HoldCode.INPUT_TRANSFER and is_new and holds <= RELEASES:
                if ad.seconds_in_status >= Backoff(RELEASE_SECONDS).delay(holds):
                    release.append(ad)
                self._holds[ad.job_id] = hold_reason(ad)
                continue
            cycle.add(key, _failed(ad, hold_message(ad)))
        if release:
            await self._bindings.attempt("Release", for_processes(release), "CTS: tried again")

    async def _handle_waiting(self, cycle: _Cycle) -> None:
        now = time.monotonic()
        waiting = {key: ad for key in cycle.states if (ad := cycle.ads.get(key)) and ad.is_waiting}
        late = {ad.cluster_id for ad in waiting.values() if ad.seconds_waiting > self._match_wait}
        due = sorted(i for i in late if now >= self._match_due.get(i, now))[:MAX_NAMED]
        if not due:
            return
        # A check that fails says nothing, nor does one while the pool shows no node.
        self._match_due.update(dict.fromkeys(due, now + MATCH_RETRY_SECONDS))
        try:
            pool = await self._bindings.call("never_matching", clusters=due)
        except UnavailableError as e:
            # The queue has answered: its reports on other containers must not be lost.
            log.warning("Whether waiting containers fit any node is looked at later: %s", e)
            return
        if pool["nodes"]:
            self._match_due.update(dict.fromkeys(due, now + MATCH_CHECK_SECONDS))
        for misfit in pool["misfits"]:
            # The whole cluster asks for the same.
            ads = {key: ad for key, ad in waiting.items() if ad.cluster_id == misfit["cluster"]}
            # Otherwise they would start once such a node is added.
            await self._bindings.attempt(
                "Remove", for_processes(ads.values()), "CTS: no node can ever take it"
            )
            for key, ad in ads.items():
                message = misfit_message(ad, misfit, pool)
                cycle.add(key, _failed(ad, message, misfit_admin_message(ad, misfit, pool)))

    async def _handle_missing(self, cycle: _Cycle) -> None:
        now = time.monotonic()
        due: dict[str, list[int]] = {}
        for job_id, number in cycle.states.keys() - cycle.ads.keys():
            missing = self._missing.setdefault((job_id, number), _Missing(now))
            missing.cycles += 1
            # In the first cycle its worker's last report may not have been stored yet.
            is_due = missing.cycles > 1 and not missing.is_history_read
            # Other jobs have their turn in the next cycles.
            if (is_due or missing.is_over(now)) and (job_id in due or len(due) < MAX_NAMED):
                due.setdefault(job_id, []).append(number)
        if now < self._no_history_until:
            return
        for job_id, numbers in due.items():
            try:
                history = await find_in_history(
                    self._bindings, job_id, numbers, self._seen.get(job_id)
                )
            except UnavailableError as e:
                # The reports on containers in the queue must not be lost.
                self._no_history_until = time.monotonic() + HISTORY_RETRY_SECONDS
                message = "HTCondor's history cannot be read, and is asked again in %d s: %s"
                log.warning(message, HISTORY_RETRY_SECONDS, e)
                return
            ads = {ad.number: ad for ad in reversed(history)}
            for number in numbers:
                key = (job_id, number)
                self._missing[key].is_history_read = True
                if ad := ads.get(number):
                    cycle.add(key, _gone(ad))
                elif self._missing[key].is_over(now):
                    message = gone_message(None)
                    outcome = ContainerOutcome(error=message, admin_error=message)
                    cycle.add(key, _report(number, JobState.ERROR, outcome))


def _group_by_job(
    rows: Sequence[Sequence[Any]], job_ids: Collection[str]
) -> tuple[dict[str, list[JobAd]], list[JobAd]]:
    """Return the ads of these jobs, by job, without the superseded ones, and then those."""
    jobs: dict[str, list[JobAd]] = {}
    superseded = []
    for ad in read_ads([row for row in rows if row[0] in job_ids]):
        if (ad.remove_reason or "").startswith(SUPERSEDED_REASON):
            superseded.append(ad)
        else:
            jobs.setdefault(ad.job_id, []).append(ad)
    return jobs, superseded


def _by_container(jobs: Sequence[Sequence[JobAd]]) -> dict[ContainerKey, JobAd]:
    ads_by_key: dict[ContainerKey, list[JobAd]] = {}
    for ad in chain.from_iterable(jobs):
        ads_by_key.setdefault((ad.job_id, ad.number), []).append(ad)
    return {key: pick_representative(ads) for key, ads in ads_by_key.items()}


def _failed(ad: JobAd, message: str, admin_message_: str | None = None) -> ContainerReport:
    errors = {"error": message, "admin_error": admin_message_ or admin_message(ad)}
    outcome = measured(ad).model_copy(update=errors)
    return _report(ad.number, JobState.ERROR, outcome)


def _gone(ad: JobAd) -> ContainerReport:
    # HTCondor appends the user who removed it.
    if (ad.remove_reason or "").startswith(CANCELED_REASON):
        return _report(ad.number, JobState.CANCELED, measured(ad))
    return _failed(ad, gone_message(ad))


def _report(number: int, state: JobState, outcome: ContainerOutcome) -> ContainerReport:
    return ContainerReport(number, list(_steps(state)), outcome)


def _steps(state: JobState) -> Iterator[ContainerTransition]:
    now = utc_now()
    if state is JobState.CANCELED:
        yield ContainerTransition(state=JobState.CANCELING, time=now)
    yield ContainerTransition(state=state, time=now)
