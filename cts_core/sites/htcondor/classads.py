"""What HTCondor's ads say of our containers, in plain words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, get_args, get_type_hints

from cts_core.model.record import ContainerOutcome
from cts_core.model.worker import MAX_SECONDS

JOB_ID, CONTAINER_NUMBER = "CTSJobID", "CTSContainerNumber"
"""What is added to the ads of our jobs, by which they are found again."""
CANCELED_REASON = "CTS: the job was canceled"
"""Why we remove containers from the queue; all that leave it otherwise were not canceled."""
GIVEN_UP = "CTS: begun anew"
"""Why we remove what is to be as if it had never been: a start that broke off, or one too many."""
Key = tuple[str, int]
"""A container: its job's id and its number."""
MAX_REASON = 500
"""Characters of the words of a pool's rule that an owner is told."""
_MIB = 1 << 20
_MOST = MAX_SECONDS
"""No time, count or size in MiB is greater."""
_WALL_LIMIT = re.compile(r"RemoteWallClockTime\s*>=?\s*(\d+)")
"""In the reason of a hold by an expression, which it quotes: the seconds that it allows."""
_FROM_NODE = re.compile(r"^Error from \S+: ")
_UNITS = ((86_400, "days"), (3600, "hours"), (60, "minutes"))


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


class Hold(IntEnum):
    """Those of HTCondor's ``HoldReasonCode`` that we have words for."""

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


class Ad(NamedTuple):
    """What is read of each process, in the order of ``ATTRIBUTES``. None: the ad has no such attribute."""

    job_id: str
    number: int
    cluster_id: int
    process_id: int
    status: int
    server_time: int | None
    """When the schedd said so, in seconds of its clock, as all its times."""
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
    """When the schedd last lost its node; it stays in the ad when the node is found again."""
    lease_renewed: int | None
    """When its node last answered."""
    cpus: int | None
    memory: int | None
    """MiB, as all memory."""
    memory_used: float | None
    user_cpu: float | None
    system_cpu: float | None
    committed: float | None
    wall: float | None
    job_limit: int | None
    """Seconds that it may run with its files coming and going, by ``allowed_job_duration``."""
    execute_limit: int | None
    """Seconds that it may run without, by ``allowed_execute_duration``."""

    @property
    def process(self) -> str:
        """HTCondor's name of it, by which its worker claims the container."""
        return f"{self.cluster_id}.{self.process_id}"

    @property
    def seconds_in_status(self) -> float:
        """How long it has been in its status; 0 where the schedd does not say."""
        if self.server_time is None or self.status_since is None:
            return 0.0
        return self.server_time - self.status_since

    @property
    def seconds_waiting(self) -> float:
        """How long it has waited for its first node; 0 once it has had one."""
        if self.status != Status.IDLE or self.starts:
            return 0.0
        if self.server_time is None or self.submitted is None:
            return 0.0
        return self.server_time - self.submitted

    @property
    def is_on_node(self) -> bool:
        """Whether a node has it, as far as the schedd knows."""
        return self.status in _ON_NODE

    @property
    def seconds_lost(self) -> float:
        """How long its node has not answered, or not said that it is rid of what was removed; else 0."""
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
"""The projection of every question."""
_KINDS = [
    next(kind for kind in (str, int, float) if kind in (hint, *get_args(hint)))
    for hint in get_type_hints(Ad).values()
]
"""Of each attribute."""
_NEEDED = 5
"""The first so many have to be there."""


def read_ads(rows: Sequence[Sequence[Any]]) -> list[Ad]:
    """The ads of an answer with ``ATTRIBUTES``.

    Operators can write anything into an ad, and HTCondor has counted wrongly before: what cannot be is as if it were not
    there. An ad that does not say what it is of, and in which status, is none.
    """
    read = (tuple(map(_read, row, _KINDS)) for row in rows)
    return [Ad(*row) for row in read if None not in row[:_NEEDED]]


def _read(value: Any, kind: type) -> Any:  # noqa: ANN401 - as it comes
    if value is None or (kind is str and isinstance(value, str)):
        return value
    if kind is str or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # No comparison is true of what is no number.
    return kind(value) if 0 <= value <= _MOST else None


def most_hopeful(ads: Iterable[Ad]) -> Ad:
    """Of the processes that a container may be run by, the one by which to tell what becomes of it."""
    return min(ads, key=lambda ad: (ad.status in _STOPPED, ad.cluster_id))


def measured(ad: Ad) -> ContainerOutcome:
    """What a container used, as far as HTCondor measured it; no CPU time at all is none measured."""
    cpu = (ad.user_cpu or 0.0) + (ad.system_cpu or 0.0)
    return ContainerOutcome(
        cpu_seconds=cpu or None,
        wall_seconds=ad.committed or None,
        max_memory=None if ad.memory_used is None else int(ad.memory_used) * _MIB,
    )


def hold_words(ad: Ad) -> str:
    """Why HTCondor holds a container, for its owner."""
    reason = ad.hold_reason or ""
    match ad.hold_code:
        case Hold.INPUT_TRANSFER:
            why = "the node could not fetch the program that CTS starts there"
        case Hold.OUTPUT_TRANSFER:
            why = "the node could not hand back what CTS wrote there"
        case Hold.SPOOLING:
            why = "its pool was never handed all that it needs. Submit it again"
        case Hold.JOB_DURATION if ad.job_limit:
            why = _ran(ad, ad.job_limit)
        case Hold.EXECUTE_DURATION if ad.execute_limit:
            why = _ran(ad, ad.execute_limit)
        case Hold.JOB_POLICY | Hold.SYSTEM_POLICY if limit := _WALL_LIMIT.search(reason):
            why = _ran(ad, int(limit[1]))
        case Hold.JOB_POLICY:
            why = "CTS's program on the node failed before it could say why"
        case Hold.NODE_POLICY | Hold.SYSTEM_POLICY | Hold.OUT_OF_RESOURCES:
            why = _memory(ad) if "memory" in reason.lower() else _rule(ad, reason)
        case Hold.USER:
            why = "an operator of the pool put it on hold"
        case _:
            why = "its pool put it on hold"
    return f"The container was stopped: {why}."


def _memory(ad: Ad) -> str:
    asked, used = f"it asked for {ad.memory} MiB of memory", int(ad.memory_used or 0)
    if used > (ad.memory or 0):
        return f"{asked} and used {used} MiB"
    # What it was killed for came after the pool had measured.
    return f"{asked} and used more; {used} MiB were measured last"


def _ran(ad: Ad, limit: int) -> str:
    ran = f"it ran for {duration(ad.wall)}" if ad.wall else "it ran for too long"
    return f"{ran}, and its limit is {duration(limit)}"


def _rule(ad: Ad, reason: str) -> str:
    """The pool's own words name the limit; beside them, what was used."""
    words = _FROM_NODE.sub("", reason)[:MAX_REASON].rstrip(".")
    used = f"it ran for {duration(ad.wall or 0)} and used {int(ad.memory_used or 0)} MiB of memory"
    return f"its pool has a rule that says: {words}; {used}"


def duration(seconds: float) -> str:
    """A number of seconds in words."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def gone_words(ad: Ad | None) -> str:
    """Why a container that never reported its end has left the queue, for its owner."""
    if ad is None:
        return (
            "HTCondor does not know this container any more, and what became of it cannot be told. "
            "Submit it again."
        )
    if ad.status == Status.REMOVED:
        return "The container was removed from the pool's queue before it ended."
    return "CTS's program on the node ended without a word about the container. Submit it again."


def lost_words(ad: Ad) -> str:
    """Why a container was given up whose node does not answer, for its owner."""
    return (
        "HTCondor has lost the node on which the container ran, and has not found it again for "
        f"{duration(ad.seconds_lost)}. Submit it again."
    )


def admin_words(ad: Ad) -> str:
    """What the pool's admins look for."""
    reason = ad.hold_reason if ad.status == Status.HELD else ad.remove_reason
    said = [
        f"HTCondor {ad.cluster_id}, container {ad.number}, status {ad.status}",
        f"reason: {reason}" if reason else "",
        f"exit code {ad.exit_code}" if ad.exit_code is not None else "",
        f"on {node}" if (node := ad.node or ad.last_node) else "",
        f"started {ad.starts} times" if (ad.starts or 0) > 1 else "",
    ]
    return "; ".join(filter(None, said))


def misfit_words(ad: Ad, misfit: Mapping[str, Any], pool: Mapping[str, Any]) -> str:
    """Why no node could ever take a container, for its owner; see ``bindings.Pool.never_matching``."""
    asks = (
        "No node of the pool can ever take this container: it asks for "
        f"{ad.cpus} cpus and {ad.memory} MiB of memory"
    )
    if misfit["roomy"]:
        return (
            f"{asks}, which {misfit['roomy']} of {pool['nodes']} nodes have, but by the pool's rules none of these "
            "takes it. Ask the pool's admins."
        )
    return (
        f"{asks}, and the largest nodes have {pool['Cpus']} cpus and {pool['Memory']} MiB. "
        "Ask for less, or ask the pool's admins."
    )


def misfit_admin_words(ad: Ad, misfit: Mapping[str, Any], pool: Mapping[str, Any]) -> str:
    """What beyond cpus and memory may be in the way, for the pool's admins."""
    return (
        f"{admin_words(ad)}; it asks for {misfit['disk']} KiB of disk, and a node has {pool['Disk']} at most; "
        f"its requirements: {str(misfit['requirements'])[:MAX_REASON]}"
    )
