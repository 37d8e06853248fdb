"""What workers that run elsewhere say of their containers, each update by a call of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cts_core.clock import utc_now
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.transitions import check_number, move_container
from cts_core.errors import JobStateError, UnsupportedError
from cts_core.model.record import ContainerOutcome, ContainerTransition
from cts_core.model.update import ContainerUpdate
from cts_core.records.store import RecordStore
from cts_core.states import JobState, is_late, may_follow

_OURS = frozenset({JobState.CANCELING, JobState.CANCELED})
"""States that the engine alone decides on."""


class ContainerUpdates:
    """Takes updates. One that is repeated, or comes late, changes nothing: its answer may have been lost."""

    def __init__(
        self, store: RecordStore, sites: SiteDirectory, *, on_change: Callable[[str], None]
    ) -> None:
        """``on_change(job_id)`` is told of each job of which a container has moved."""
        self._store = store
        self._sites = sites
        self._on_change = on_change

    async def take(
        self, job_id: str, number: int, state: JobState, update: ContainerUpdate
    ) -> None:
        """Note that a container has reached a state.

        Raises NoSuchJobError, NoSuchContainerError, NewerRecordError, SiteUnavailableError, UnsupportedError for a
        site whose workers do not report like this, JobStateError for a state that cannot come next.
        """
        job = await self._store.get_drivable(job_id)
        check_number(job, number)
        if not self._sites.get(job.cluster).takes_updates:
            raise UnsupportedError(
                f"The containers of cluster {job.cluster.value} are watched by this service itself"
            )
        if state in _OURS:
            raise JobStateError(f"A container becomes {state.value} by the service alone")
        outcome = _outcome(update, ended=state is JobState.COMPLETE)
        while True:
            # A container moves forward only, so that this ends.
            container = await self._store.container(job_id, number)
            if is_late(container.state, state):
                return
            if not may_follow(container.state, state):
                raise JobStateError(
                    f"Container {number} of job {job_id} is {container.state.value}, and cannot become "
                    f"{state.value} next"
                )
            step = ContainerTransition(
                state=state, time=_clamped(update.time, container.transition_times[-1].time)
            )
            if await move_container(
                self._store, job, number, container.state, steps=[step], outcome=outcome
            ):
                self._on_change(job_id)
                return


def _clamped(said: datetime, last: datetime) -> datetime:
    """Not before the last transition, not in the future, and no finer than every store can keep."""
    time = said if said.tzinfo else said.replace(tzinfo=UTC)
    time = max(last, min(time, utc_now()))
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _outcome(update: ContainerUpdate, *, ended: bool) -> ContainerOutcome:
    said = {name: value for name, value in update if name != "time"}
    if ended:
        said["outputs"] = update.outputs or []
    # An empty text is none.
    return ContainerOutcome(**{k: None if v == "" else v for k, v in said.items()})
