"""Turns the files in a container's folder into reports for the engine."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cts_core.clock import utc_now
from cts_core.model.record import ContainerOutcome, ContainerTransition
from cts_core.model.unvalidated import to_outputs
from cts_core.sites.local.launcher import read_worker_log
from cts_core.sites.site import ContainerReport
from cts_core.states import JobState
from cts_core.worker.advice import AGAIN
from cts_core.worker.boot import boot_id
from cts_core.worker.container_folder import PLAN, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.by_name import remove_leftovers
from cts_core.worker.runtimes.processes import kill_tagged

log = logging.getLogger(__name__)

GONE = (
    "The folder in which CTS keeps this container is gone, and what became of the container cannot be told. "
    f"{AGAIN}"
)
UNREADABLE = (
    "What CTS keeps of this container cannot be read, and what became of the container cannot be told. "
    f"{AGAIN}"
)
_REBOOTED = "The machine was restarted while this container ran."
_VANISHED = "The worker of this container ended before the container did, as when it is killed or memory runs out."
_NOT_AGAIN = f"CTS never runs a container twice. {AGAIN}"


def read_report(container: ContainerFolder, number: int) -> ContainerReport:
    """Report on a claimed container."""
    try:
        # In this order: once there is a result, all events are there.
        result = container.read_result()
        steps = [_step(event) for event in container.read_events()]
        if result is not None:
            return _from_result(number, steps, result)
    except (ValueError, KeyError, TypeError) as e:
        # One damaged file must not keep the site from its other containers.
        return _end_report(number, UNREADABLE, f"{UNREADABLE} {container.path}: {e!r}")
    if container.is_lost():
        return _lost(container, number, steps)
    return ContainerReport(number, steps, ContainerOutcome())


def gone_report(number: int) -> ContainerReport:
    """Report the end of a container whose folder is gone."""
    return _end_report(number, GONE, GONE)


def _end_report(number: int, error: str, admin_error: str) -> ContainerReport:
    return ContainerReport(
        number,
        list(_last_steps(JobState.ERROR, utc_now())),
        ContainerOutcome(error=error, admin_error=admin_error),
    )


def canceled_report(number: int) -> ContainerReport:
    """Report the end of a container that was canceled before a worker claimed it."""
    return ContainerReport(
        number, list(_last_steps(JobState.CANCELED, utc_now())), ContainerOutcome()
    )


def worker_status(container: ContainerFolder) -> dict[str, Any]:
    """Return the content of a container's files, for admins; empty when there are none."""
    if not Path(container.path).is_dir():
        return {}
    if not container.is_claimed():
        return {"status": "canceled" if container.is_canceled() else "waiting"}
    try:
        result, events = container.read_result(), container.read_events()
    except ValueError as e:
        return {"status": "damaged", "reason": str(e)}
    status = "ended" if result else "lost" if container.is_lost() else "running"
    # There may be thousands of outputs, and they are in the record.
    end = {name: value for name, value in (result or {}).items() if name != "outputs"}
    return {
        "status": status,
        "claim": container.read_claim(),
        "events": events,
        "result": end,
        "worker_log": read_worker_log(container),
    }


def clean_up_lost(container: ContainerFolder, tag: str) -> None:
    """Kill the processes and remove the runtime's container and files that a lost container left behind."""
    kill_tagged(tag)
    try:
        remove_leftovers(WorkerPlan.load(container.file(PLAN)))
    except (ContainerRuntimeError, OSError, ValueError, TypeError) as e:
        log.warning("What container %s left behind may not be gone: %s", tag, e)
    container.remove_transient()


def _lost(
    container: ContainerFolder, number: int, steps: Sequence[ContainerTransition]
) -> ContainerReport:
    rebooted = container.read_claim().get("boot_id", boot_id()) != boot_id()
    why = f"{_REBOOTED if rebooted else _VANISHED} {_NOT_AGAIN}"
    return ContainerReport(
        number,
        [*steps, *_last_steps(JobState.ERROR, utc_now())],
        ContainerOutcome(error=why, admin_error=f"{why} {read_worker_log(container)}".strip()),
    )


def _from_result(
    number: int, steps: Sequence[ContainerTransition], result: Mapping[str, Any]
) -> ContainerReport:
    fields = {name: result.get(name) for name in ContainerOutcome.model_fields}
    # The worker has validated the paths.
    fields["outputs"] = to_outputs(fields["outputs"])
    state, time = JobState(result["state"]), datetime.fromisoformat(result["time"])
    return ContainerReport(
        number, [*steps, *_last_steps(state, time)], ContainerOutcome.model_construct(**fields)
    )


def _step(event: Mapping[str, Any]) -> ContainerTransition:
    return ContainerTransition(
        state=JobState(event["state"]), time=datetime.fromisoformat(event["time"])
    )


def _last_steps(state: JobState, time: datetime) -> Iterator[ContainerTransition]:
    if state is JobState.CANCELED:
        yield ContainerTransition(state=JobState.CANCELING, time=time)
    yield ContainerTransition(state=state, time=time)
