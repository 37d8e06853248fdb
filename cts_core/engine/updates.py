"""State updates of containers from remote workers, one call for each update."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cts_core.engine.sites import SiteDirectory
from cts_core.engine.transitions import check_number, move_container
from cts_core.errors import JobStateError, UnsupportedError
from cts_core.model.record import ContainerOutcome, ContainerTransition
from cts_core.model.worker import ContainerUpdate
from cts_core.records.store import RecordStore
from cts_core.states import JobState, is_late, may_follow

_ENGINE_STATES = frozenset({JobState.CANCELING, JobState.CANCELED})
"""States that only the engine sets."""


class ContainerUpdates:
    """Applies updates. A repeated or late update changes nothing: the response to the first one may have been lost."""

    def __init__(
        self, store: RecordStore, sites: SiteDirectory, *, on_change: Callable[[str], None]
    ) -> None:
        """``on_change(job_id)`` is called for each job of which a container has moved."""
        self._store = store
        self._sites = sites
        self._on_change = on_change

    async def apply(
        self, job_id: str, number: int, state: JobState, update: ContainerUpdate
    ) -> None:
        """Record that a container has reached a state.

        Raises NoSuchJobError, NoSuchContainerError, NewerRecordError, SiteUnavailableError, UnsupportedError for a
        site whose workers do not report like this, JobStateError for a state that cannot come next.
        """
        job = await self._store.get_drivable(job_id)
        check_number(job, number)
        if not self._sites.get(job.cluster).takes_updates:
            raise UnsupportedError(
                f"The containers of cluster {job.cluster.value} are watched by this service itself"
            )
        if state in _ENGINE_STATES:
            raise JobStateError(f"A container becomes {state.value} by the service alone")
        outcome = _outcome(update, ended=state is JobState.COMPLETE)
        while True:
            # A container only moves forward, so that this loop terminates.
            container = await self._store.container(job_id, number)
            if is_late(container.state, state):
                return
            if not may_follow(container.state, state):
                raise JobStateError(
                    f"Container {number} of job {job_id} is {container.state.value}, and cannot become "
                    f"{state.value} next"
                )
            step = ContainerTransition(
                state=state, time=_clamp(update.time, container.transition_times[-1].time)
            )
            if await move_container(
                self._store, job, number, container.state, steps=[step], outcome=outcome
            ):
                self._on_change(job_id)
                return


def _clamp(time: datetime, last: datetime) -> datetime:
    """Return the time, but not before the last transition, cut to the milliseconds that every store can keep."""
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    time = max(last, time)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _outcome(update: ContainerUpdate, *, ended: bool) -> ContainerOutcome:
    fields = {name: value for name, value in update if name != "time"}
    if ended:
        fields["outputs"] = update.outputs or []
    # Empty texts count as missing.
    return ContainerOutcome(**{k: None if v == "" else v for k, v in fields.items()})
