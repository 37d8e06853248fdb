"""Reads the ClassAds of containers' processes, and describes them in plain words for users and admins. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, get_args, get_type_hints

from cts_core.model.record import ContainerOutcome
from cts_core.model.worker import MAX_SECONDS
from cts_core.worker.advice import AGAIN, LONGER_RUNTIME, MORE_MEMORY
from cts_core.worker.units import format_seconds

JOB_ID, CONTAINER_NUMBER = "CTSJobID", "CTSContainerNumber"
"""The attributes that CTS adds to its jobs' ads, by which it finds them again."""
CANCELED_REASON = "CTS: the job was canceled"
"""The reason with which canceled containers are removed; containers that leave the queue otherwise were not canceled."""
SUPERSEDED_REASON = "CTS: begun anew"
"""The reason with which superseded processes are removed: those of a start that failed halfway, and duplicates."""
ContainerKey = tuple[str, int]
"""A container: its job's id and its number."""
MAX_REASON_LENGTH = 500
"""The characters of a pool's own text that a message quotes."""
_MIB = 1 << 20
_MAX_VALUE = MAX_SECONDS
"""The greatest plausible time in seconds, count, or size in MiB."""
_WALL_LIMIT = re.compile(r"RemoteWallClockTime\s*>=?\s*(\d+)")
"""Finds the allowed seconds in the reason of a hold by an expression, which quotes it."""
_FROM_NODE = re.compile(r"^Error from \S+: ")


class Status(IntEnum):
    """HTCondor's ``JobStatus``."""

    IDLE = 1
    RUNNING = 2
    REMOVED = 3
    COMPLETED = 4
    HELD = 5
    TRANSFERRING_OUTPUT = 6
    SUSPENDED = 7


_STOPPED = (Status.HELD, Status.REMOVED)
_ON_NODE = (Status.RUNNING, Status.TRANSFERRING_OUTPUT, Status.SUSPENDED)


class HoldCode(IntEnum):
    """The values of HTCondor's ``HoldReasonCode`` that have their own message."""

    USER = 1
    JOB_POLICY = 3
    OUTPUT_TRANSFER = 12
    INPUT_TRANSFER = 13
    SPOOLING = 16
    NODE_POLICY = 21
    SYSTEM_POLICY = 26
    OUT_OF_RESOURCES = 34
    JOB_DURATION = 46
    EXECUTE_DURATION = 47


class JobAd(NamedTuple):
    """The attributes of a process, in the order of ``ATTRIBUTES``; None if the ad lacks one."""

    job_id: str
    number: int
    cluster_id: int
    process_id: int
    status: int
    server_time: int | None
    """When the schedd answered, in seconds since the epoch by its clock, as all times here."""
    submitted: int | None
    status_since: int | None
    starts: int | None
    holds: int | None
    hold_reason: str | None
    hold_code: int | None
    remove_reason: str | None
    exit_code: int | None
    node: str | None
    last_node: str | None
    disconnected: int | None
    """When the schedd last lost the node; it stays in the ad after the node has reconnected."""
    lease_renewed: int | None
    """When the node last answered."""
    cpus: int | None
    memory: int | None
    """In MiB, as all memory here."""
    memory_used: float | None
    user_cpu: float | None
    system_cpu: float | None
    committed: float | None
    wall: float | None
    job_limit: int | None
    """Seconds that it may run, file transfers included, by ``allowed_job_duration``."""
    execute_limit: int | None
    """Seconds that it may run, without file transfers, by ``allowed_execute_duration``."""

    @property
    def process(self) -> str:
        """HTCondor's id of the process, with which its worker claims the container."""
        return f"{self.cluster_id}.{self.process_id}"

    @property
    def seconds_in_status(self) -> float:
        """The seconds it has been in its status; 0 if unknown."""
        if self.server_time is None or self.status_since is None:
            return 0.0
        return self.server_time - self.status_since

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its first node."""
        return self.status == Status.IDLE and not self.starts

    @property
    def seconds_waiting(self) -> float:
        """The seconds it has waited for its first node; 0 once it has had one."""
        if not self.is_waiting or self.server_time is None or self.submitted is None:
            return 0.0
        return self.server_time - self.submitted

    @property
    def is_on_node(self) -> bool:
        """Whether it is on a node, as far as the schedd knows."""
        return self.status in _ON_NODE

    @property
    def seconds_lost(self) -> float:
        """The seconds its node has not answered, or, if it was removed, has not confirmed the removal; else 0."""
        if self.status == Status.REMOVED:
            return self.seconds_in_status
        if not self.is_on_node or self.server_time is None or self.disconnected is None:
            return 0.0
        if self.disconnected < (self.lease_renewed or 0):
            return 0.0
        return self.server_time - self.disconnected


ATTRIBUTES = (
    JOB_ID,
    CONTAINER_NUMBER,
    "ClusterId",
    "ProcId",
    "JobStatus",
    "ServerTime",
    "QDate",
    "EnteredCurrentStatus",
    "NumJobStarts",
    "NumHolds",
    "HoldReason",
    "HoldReasonCode",
    "RemoveReason",
    "ExitCode",
    "RemoteHost",
    "LastRemoteHost",
    "JobDisconnectedDate",
    "LastJobLeaseRenewal",
    "RequestCpus",
    "RequestMemory",
    "MemoryUsage",
    "RemoteUserCpu",
    "RemoteSysCpu",
    "CommittedTime",
    "RemoteWallClockTime",
    "AllowedJobDuration",
    "AllowedExecuteDuration",
)
"""The projection of every query for ads."""
_TYPES = [
    next(t for t in (str, int, float) if t in (hint, *get_args(hint)))
    for hint in get_type_hints(JobAd).values()
]
"""The type of each attribute."""
_REQUIRED = 5
"""The number of attributes, from the first, that every ad must have."""


def read_ads(rows: Sequence[Sequence[Any]]) -> list[JobAd]:
    """Parse the rows of a query with ``ATTRIBUTES``.

    Operators can write anything into an ad, and HTCondor has counted wrongly before: an implausible value becomes None.
    A row without one of the required attributes is dropped.
    """
    parsed = (tuple(map(_read, row, _TYPES)) for row in rows)
    return [JobAd(*row) for row in parsed if None not in row[:_REQUIRED]]


def _read(value: Any, kind: type) -> Any:  # noqa: ANN401 - of any type
    if value is None or (kind is str and isinstance(value, str)):
        return value
    if kind is str or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Every comparison with NaN is false.
    return kind(value) if 0 <= value <= _MAX_VALUE else None


def pick_representative(ads: Iterable[JobAd]) -> JobAd:
    """Return the process whose state stands for the container's: one that is not stopped, of the earliest cluster."""
    return min(ads, key=lambda ad: (ad.status in _STOPPED, ad.cluster_id))


def measured(ad: JobAd) -> ContainerOutcome:
    """Return what a container used, as far as HTCondor has measured it; a CPU time of 0 means not measured."""
    cpu = (ad.user_cpu or 0.0) + (ad.system_cpu or 0.0)
    return ContainerOutcome(
        cpu_seconds=cpu or None,
        wall_seconds=ad.committed or None,
        max_memory=None if ad.memory_used is None else int(ad.memory_used) * _MIB,
    )


def hold_message(ad: JobAd) -> str:
    """Say why HTCondor has stopped a container, for its owner."""
    return f"The container was stopped: {hold_reason(ad).rstrip('.')}."


def hold_reason(ad: JobAd) -> str:
    """Say why HTCondor holds a container, for its owner, as a clause."""
    reason = ad.hold_reason or ""
    match ad.hold_code:
        case HoldCode.INPUT_TRANSFER:
            why = "the node could not fetch the program that CTS starts there"
        case HoldCode.OUTPUT_TRANSFER:
            why = "the node could not hand back what CTS wrote there"
        case HoldCode.SPOOLING:
            why = f"its pool was never handed all that it needs. {AGAIN}"
        case HoldCode.JOB_DURATION if ad.job_limit:
            why = _duration_message(ad, ad.job_limit)
        case HoldCode.EXECUTE_DURATION if ad.execute_limit:
            why = _duration_message(ad, ad.execute_limit)
        case HoldCode.JOB_POLICY | HoldCode.SYSTEM_POLICY if limit := _WALL_LIMIT.search(reason):
            why = _duration_message(ad, int(limit[1]))
        case HoldCode.JOB_POLICY:
            why = "CTS's program on the node failed before it could say why"
        case HoldCode.NODE_POLICY | HoldCode.SYSTEM_POLICY | HoldCode.OUT_OF_RESOURCES:
            why = _memory_message(ad) if "memory" in reason.lower() else _rule_message(ad, reason)
        case HoldCode.USER:
            why = "an operator of the pool put it on hold"
        case _:
            why = "its pool put it on hold"
    return why


def _memory_message(ad: JobAd) -> str:
    requested, used = f"it asked for {ad.memory} MiB of memory", int(ad.memory_used or 0)
    if used > (ad.memory or 0):
        return f"{requested} and used {used} MiB. {MORE_MEMORY}"
    # It was killed for more than the pool had measured last.
    return f"{requested} and used more; {used} MiB were measured last. {MORE_MEMORY}"


def _duration_message(ad: JobAd, limit: int) -> str:
    ran = f"it ran for {format_seconds(ad.wall)}" if ad.wall else "it ran for too long"
    return f"{ran}, and its limit is {format_seconds(limit)}. {LONGER_RUNTIME}"


def _rule_message(ad: JobAd, reason: str) -> str:
    """Quote the pool's own text, which names the limit, and add what was used."""
    text = _FROM_NODE.sub("", reason)[:MAX_REASON_LENGTH].rstrip(".")
    used = f"it ran for {format_seconds(ad.wall or 0)} and used {int(ad.memory_used or 0)} MiB of memory"
    return f"its pool has a rule that says: {text}; {used}"


def gone_message(ad: JobAd | None) -> str:
    """Say why a container that never reported its end has left the queue, for its owner."""
    if ad is None:
        return f"HTCondor does not know this container any more, and what became of it cannot be told. {AGAIN}"
    if ad.status == Status.REMOVED:
        return "The container was removed from the pool's queue before it ended."
    return f"CTS's program on the node ended without a word about the container. {AGAIN}"


def lost_message(ad: JobAd) -> str:
    """Say why a container whose node does not answer was given up, for its owner."""
    return (
        "HTCondor has lost the node on which the container ran, and has not found it again for "
        f"{format_seconds(ad.seconds_lost)}. {AGAIN}"
    )


def admin_message(ad: JobAd) -> str:
    """Return the facts by which the pool's admins find the process, and what happened to it."""
    reason = ad.hold_reason if ad.status == Status.HELD else ad.remove_reason
    parts = [
        f"HTCondor {ad.cluster_id}, container {ad.number}, status {ad.status}",
        f"reason: {reason}" if reason else "",
        f"exit code {ad.exit_code}" if ad.exit_code is not None else "",
        f"on {node}" if (node := ad.node or ad.last_node) else "",
        f"started {ad.starts} times" if (ad.starts or 0) > 1 else "",
    ]
    return "; ".join(filter(None, parts))


def misfit_message(ad: JobAd, misfit: Mapping[str, Any], pool: Mapping[str, Any]) -> str:
    """Say why no node could ever run a container, for its owner; see ``PoolConnection.never_matching``."""
    request = (
        "No node of the pool can ever take this container: it asks for "
        f"{ad.cpus} cpus and {ad.memory} MiB of memory"
    )
    if misfit["roomy"]:
        return (
            f"{request}, which {misfit['roomy']} of {pool['nodes']} nodes have, but by the pool's rules none of these "
            "takes it. Ask the pool's admins."
        )
    return (
        f"{request}, and the largest nodes have {pool['Cpus']} cpus and {pool['Memory']} MiB. "
        "Ask for less, or ask the pool's admins."
    )


def misfit_admin_message(ad: JobAd, misfit: Mapping[str, Any], pool: Mapping[str, Any]) -> str:
    """Say what beyond cpus and memory may prevent a match, for the pool's admins."""
    return (
        f"{admin_message(ad)}; it asks for {misfit['disk']} KiB of disk, and a node has {pool['Disk']} at most; "
        f"its requirements: {str(misfit['requirements'])[:MAX_REASON_LENGTH]}"
    )
