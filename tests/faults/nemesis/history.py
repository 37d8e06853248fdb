"""The history of a run: all that clients, subscribers, the topic, the records and the containers saw of it.

Times are seconds of one clock, counted from the beginning of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from tests.faults.nemesis.schedule import Fault

Action = Literal["submit", "resubmit", "cancel", "status", "list", "put", "get"]


@dataclass(frozen=True)
class Call:
    """One request to one server, and its answer. Several calls may be one wish that a client repeats."""

    action: Action
    subject: str
    """The job's id or the object's path that is asked for; of ``submit`` the run's name."""
    began: float
    ended: float
    server: str
    status: int | None
    """None if there was no whole answer."""
    appcode: int | None = None
    key: str | None = None
    """The idempotency key."""
    result: tuple[str, ...] = ()
    """What the answer says: the new job's id, the states of a status, the ids of a list, the checksum of an object."""
    message: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status is not None and self.status < 300

    def __str__(self) -> str:
        answer = f"{self.status} {self.appcode or ''} {self.message}".strip()
        return f"{self.action} {self.subject} at {self.server} ({self.began:.1f} to {self.ended:.1f} s): {answer}"


@dataclass(frozen=True)
class Step:
    """A transition as the record has it."""

    trans_id: str
    state: str
    is_sent: bool = True


@dataclass(frozen=True)
class Record:
    """A job in the records, at the end of the run."""

    job_id: str
    steps: tuple[Step, ...]
    key: str | None = None
    fails: bool = False
    """Whether one of its containers exits with another code than 0."""
    outputs: dict[str, str] | None = None
    """The checksums by path that the record has."""
    stored: dict[str, str] | None = None
    """The checksums by path of the objects in its output folder."""
    error: str = ""

    @property
    def state(self) -> str:
        return self.steps[-1].state


@dataclass(frozen=True)
class Delivery:
    """An event as a subscriber or a reader of the topic got it."""

    job_id: str
    trans_id: str
    at: float = 0.0


@dataclass(frozen=True)
class Subscriber:
    """What one subscriber got, over all servers at which it resumed."""

    name: str
    deliveries: tuple[Delivery, ...]
    job_id: str | None = None
    """The one job that it watches; None for all."""
    has_ended: bool = False
    """Whether the service said that nothing more will come."""


@dataclass(frozen=True)
class Run:
    """A start of a container's program."""

    job_id: str
    container: int
    at: float = 0.0
    overlaps: bool = False
    """Whether an earlier run of the same container was alive."""
    is_late: bool = False
    """Whether the record had the container's end before."""


@dataclass(frozen=True)
class History:
    """All of a run, after everything healed and the service had its time to recover."""

    seed: int
    faults: tuple[Fault, ...]
    calls: tuple[Call, ...]
    records: tuple[Record, ...]
    topic: tuple[Delivery, ...]
    subscribers: tuple[Subscriber, ...]
    runs: tuple[Run, ...]
    may_rerun: bool = False
    """Whether the site runs a container again that was lost with its node, as HTCondor does."""
    objects: tuple[tuple[str, str], ...] = ()
    """Paths and checksums of the objects that clients put."""
    unready: tuple[tuple[str, str], ...] = ()
    """The servers that are not ready at the end, and why."""
    deaths: tuple[tuple[str, str], ...] = ()
    """The servers that ended without being killed or stopped, and what they said."""


_history = TypeAdapter(History)


def save(history: History, file: Path) -> None:
    file.write_bytes(_history.dump_json(history, indent=1))


def load(file: Path) -> History:
    return _history.validate_json(file.read_bytes())
