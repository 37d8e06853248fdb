"""The site port: everything that differs between the places where containers run is behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from cts_core.identity.identity import User
from cts_core.model.image import JobImage
from cts_core.model.job import JobInputPreview
from cts_core.model.record import (
    ContainerOutcome,
    ContainerTransition,
    JobOutcome,
    JobSummary,
    Waiting,
)
from cts_core.model.refdata import AdminReferenceData, RefdataReport
from cts_core.model.site import SiteDescription, SiteName
from cts_core.plan import ContainerPlan
from cts_core.states import JobState
from cts_core.worker.plan import WorkerPlan


class LogStream(StrEnum):
    """The two logs of a container."""

    STDOUT = "stdout"
    STDERR = "stderr"

    def file_name(self, number: int) -> str:
        """Return the file name of a container's log, wherever it is stored (docs/reference/contract.md §4)."""
        return f"container-{number}-{self.value}.txt"


@dataclass(frozen=True)
class Log:
    """A container's log as it is now."""

    size: int
    """Its bytes so far."""
    ended: bool
    """False while the container may still write to it."""
    read: Callable[[int, int | None], AsyncIterator[bytes]]
    """``read(seek, length)`` streams at most ``length`` bytes from byte ``seek`` on, or all of them."""


@dataclass(frozen=True)
class ContainerReport:
    """All that the site knows of one container, from its start; the engine applies what is new."""

    number: int
    steps: Sequence[ContainerTransition]
    """Every state after ``download_submitted``, in order."""
    outcome: ContainerOutcome


@dataclass(frozen=True)
class LiveJob:
    """A started job, and the states of its containers in the record, by their numbers."""

    job: JobSummary
    states: Sequence[JobState]


@dataclass(frozen=True)
class JobReport:
    """All that the site knows of one job."""

    containers: Sequence[ContainerReport] = ()
    details: JobOutcome | None = None
    """What the record has to keep of the job besides, such as the id of its run. It is stored with the next transition
    of the job, so that the site has to report it until it is in the record."""


@dataclass(frozen=True)
class Survey:
    """The state of a site for operators, beyond its description."""

    lines: Sequence[str] = ()
    trouble: Sequence[str] = ()
    """Reasons why containers cannot run there, although the site can be reached."""


@dataclass(frozen=True)
class ClientInfo:
    """The client by which this service uses a site, whose credentials end and are renewed by hand."""

    client_id: str
    expires_at: datetime


@runtime_checkable
class HasClient(Protocol):
    """A site that is used by a client with an end."""

    def client(self) -> ClientInfo:
        """Return the client in use. Raises UnavailableError before there is one."""


PlanMaker = Callable[[JobSummary, ContainerPlan], WorkerPlan]
"""Turns the plan of a container into the plan of the worker that runs it at a site."""


class Runner(Protocol):
    """Runs the containers of jobs at a site. All methods are idempotent."""

    cluster: SiteName
    """The site's name, as jobs give it in ``cluster``."""

    max_starts: int
    """How many calls of ``start`` may go on at once. With 1, jobs reach the site in the order of the records."""

    async def open(self, on_change: Callable[[str], None]) -> None:
        """Prepare for the other methods.

        The site may call ``on_change(job_id)`` at any time, from the event loop, when polling this job now is
        worthwhile. That only wakes the engine earlier: nothing depends on it. Raises ConfigError.
        """

    async def close(self) -> None:
        """Stop watching and release all resources. Containers keep running."""

    async def start(
        self, job: JobSummary, plans: Sequence[ContainerPlan], *, now: datetime
    ) -> JobOutcome:
        """Submit the job to the site, and return what the record has to keep about that.

        A second call, as after a crash, starts no container a second time. ``now`` is the record store's time, with which
        the times of the job can be compared.
        """

    async def poll(self, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        """Return, by id, reports on these started jobs; a job that is left out has nothing new.

        Only containers whose state in the record is not terminal are reported. The site also does its own work in
        this call, such as starting the next containers of its queue. A site of several parts raises UnavailableError only
        when it can follow no job at all, since that keeps every job of the site waiting.
        """

    def nudge(self, name: str) -> None:  # noqa: ARG002 - for sites that pace what they ask
        """Look at a job, or at reference data, with this id soon: somebody says that something has happened to it.

        Anybody may say so, and as often as they like: a site that paces what it asks bounds this itself. A site that looks
        at everything in each ``poll`` needs no nudge.
        """
        return None  # noqa: RET501 - by this line it may be inherited

    async def cancel(self, job_id: str) -> bool:
        """Stop all containers of a job. Return True once none of them runs or ever will."""

    async def measured(
        self, job: JobSummary, numbers: Collection[int]
    ) -> Mapping[int, ContainerOutcome]:
        """Return, by number, the resources that these containers used, as far as the site has measured them.

        The engine asks for containers whose workers did not report it. May wait some seconds for a measurement.
        """


class Site(Runner, Protocol):
    """A place where containers run. All methods are idempotent."""

    takes_updates: bool
    """Whether the site's workers report by calling this service (``/external_exec``) instead of through ``poll``."""

    takes_jobs_while_away: bool
    """Whether jobs are accepted, and wait, while the site is unavailable."""

    async def describe(self) -> SiteDescription:
        """Return the site's limits, and whether it can be reached now (the engine sets ``active``)."""

    async def preflight(self, user: User, job: JobInputPreview, image: JobImage) -> list[str]:
        """Return warnings about a job; raise a CTSError if this site cannot run it for this user."""

    async def unended_jobs(self) -> Collection[str]:
        """Return the ids of jobs with containers that run here or are queued; finished jobs add nothing to the cost.

        Jobs of other services may be among them. What uses no resources and only stays to be looked at is left out.
        """

    async def open_log(self, job_id: str, number: int, stream: LogStream) -> Log | None:
        """Open the site's own copy of a log; return None when there is none (yet, or any more)."""

    async def runner_status(self, job: JobSummary, number: int) -> dict[str, Any]:
        """Return what the site's scheduler says about a container of a submitted job, as JSON, for admins.

        Empty when it knows nothing about it (any more). Never holds a secret.
        """

    async def survey(self) -> Survey:
        """Check everything that containers need here. May take some seconds."""

    async def free_cpus(self) -> int | None:
        """Return the cpus that nothing uses now; None where that is not known. Asked often."""
        return None

    def waits_for(self, job: Waiting) -> str | None:  # noqa: ARG002 - for sites that know a reason
        """Return in one sentence for its owner why a live job does not go on here, and until when; None if nothing is known.

        Answers at once, from what the site knows already.
        """
        return None

    async def explain(self, job: JobSummary) -> list[str]:
        """Return what the site's scheduler says about a live job, in sentences for operators."""

    async def clean(self, job_id: str) -> None:
        """Remove everything that the job left at the site."""

    async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
        """Start or continue to stage reference data at this site, and report its state.

        Called repeatedly until the state is terminal, by several servers at once. A temporary problem, such as a
        full disk, is no terminal state. A site that ``takes_updates`` reports only what it alone knows.
        """

    async def clean_refdata(self, refdata_id: str) -> None:
        """Remove what staging left at the site, but never the data itself."""
