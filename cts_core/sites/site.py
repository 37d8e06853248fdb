"""The site port: everything that differs between the places where containers run is behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from cts_core.identity.identity import User
from cts_core.model.image import JobImage
from cts_core.model.job import JobInputPreview
from cts_core.model.record import ContainerOutcome, ContainerTransition, JobOutcome, JobSummary
from cts_core.model.refdata import AdminReferenceData, ReferenceDataState
from cts_core.model.site import SiteDescription, SiteName
from cts_core.plan import ContainerPlan
from cts_core.states import JobState
from cts_core.worker.plan import WorkerPlan


class LogStream(StrEnum):
    """The two logs of a container."""

    STDOUT = "stdout"
    STDERR = "stderr"

    def file_name(self, number: int) -> str:
        """What the log of a container is called, wherever it is kept (contract, facts §4)."""
        return f"container-{number}-{self.value}.txt"


@dataclass(frozen=True)
class Log:
    """A container's log, or a part of it: ``size`` is the whole log's in bytes so far."""

    size: int
    ended: bool
    """False while the container may still write to it."""
    body: AsyncIterator[bytes]


@dataclass(frozen=True)
class ContainerReport:
    """All that the site knows of one container, from its start: the engine applies what is news."""

    number: int
    steps: Sequence[ContainerTransition]
    """Every state after ``download_submitted``, in order."""
    outcome: ContainerOutcome


@dataclass(frozen=True)
class RefdataReport:
    """How far reference data is at a site."""

    state: ReferenceDataState
    error: str | None = None
    """In plain words, for everybody."""
    admin_error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True)
class Survey:
    """What operators should know of a site, beyond its description."""

    lines: Sequence[str] = ()
    trouble: Sequence[str] = ()
    """What keeps containers from running there, although it can be reached."""


PlanMaker = Callable[[JobSummary, ContainerPlan], WorkerPlan]
"""What a site makes of a container's plan for a worker that asks for it."""


class Runner(Protocol):
    """What a site does with jobs. All methods may be repeated without harm."""

    @property
    def cluster(self) -> SiteName:
        """The name that jobs use."""

    async def open(self, on_change: Callable[[str], None]) -> None:
        """Get ready.

        ``on_change(job_id)`` may be called at any time, from the event loop, to say that polling this job
        now is worthwhile. It is a hint: nothing depends on it. Raises ConfigError.
        """

    async def close(self) -> None:
        """Stop watching. Containers go on without us."""

    async def start(self, job: JobSummary, plans: Sequence[ContainerPlan]) -> JobOutcome:
        """Hand the job over. Doubled by a crash it starts nothing twice. Returns what to keep about it."""

    async def poll(
        self, jobs: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        """What is known of these started jobs, whose containers are recorded in these states.

        Reports are needed only for containers that are not terminal in the record; others are left out.
        Also gives the site its time to do what it does itself, such as starting the next in its queue.
        """

    async def cancel(self, job_id: str) -> bool:
        """Stop everything of this job. True once no container of it runs or ever will."""

    async def resource_usage(
        self, job: JobSummary, numbers: Collection[int]
    ) -> Mapping[int, ContainerOutcome]:
        """What these containers used, whose workers did not say, by their numbers where the site knows it.

        May wait some seconds for what is about to be known.
        """


class Site(Runner, Protocol):
    """One place where containers run. All methods may be repeated without harm."""

    @property
    def takes_updates(self) -> bool:
        """Whether those who work for the site report by calling us (``/external_exec``), and not by ``poll``."""

    async def describe(self) -> SiteDescription:
        """Limits, and whether the site can be reached now (``active`` is the engine's to fill)."""

    async def preflight(self, user: User, job: JobInputPreview, image: JobImage) -> list[str]:
        """Refuse, by raising a CTSError, a job that this site cannot run for this user; else warnings."""

    async def unended_jobs(self) -> Collection[str]:
        """The jobs of which something runs here or waits for its turn, at a cost that does not grow with what is over.

        They may be of other services, too. What stays for people to look at, and uses nothing, is left out.
        """

    async def open_log(
        self,
        job_id: str,
        number: int,
        stream: LogStream,
        *,
        seek: int = 0,
        length: int | None = None,
    ) -> Log | None:
        """The site's own copy of a log while it has one; None when there is none (yet, or any more)."""

    async def runner_status(self, job: JobSummary, number: int) -> dict[str, Any]:
        """What the site's own machinery says of a container of a job that was handed over, as JSON, for admins.

        Empty when it knows nothing of it (any more). Never a secret.
        """

    async def survey(self) -> Survey:
        """Look at all that containers need here. May take some seconds."""

    async def explain(self, job: JobSummary) -> list[str]:
        """What the site's own machinery says of a live job, in sentences for operators."""

    async def clean(self, job_id: str) -> None:
        """Remove what the job left at the site."""

    async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
        """Bring reference data here: begin it, go on with it, and say how far it is.

        Called again and again until it has ended, by several servers at once. What is temporary, such as a full
        disk, is no end. A site that ``takes_updates`` reports only what it alone knows.
        """

    async def clean_refdata(self, refdata_id: str) -> None:
        """Remove what staging left at the site, and never the data itself."""
