"""The site ``kbase``: submits jobs to HTCondor, and tracks what becomes of them there."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr
from typing_extensions import override

from cts_core.errors import ConfigError, UnavailableError, UnsupportedError
from cts_core.identity.identity import User
from cts_core.images.names import HOST_PREFIX
from cts_core.model.image import JobImage
from cts_core.model.job import HTCondorDetails, JobInputPreview
from cts_core.model.record import ContainerOutcome, JobOutcome, JobSummary, Waiting
from cts_core.model.refdata import AdminReferenceData, RefdataReport, ReferenceDataState
from cts_core.model.site import SITE_LIMITS, SiteDescription, SiteName
from cts_core.plan import ContainerPlan
from cts_core.sites.htcondor.bindings_client import BindingsClient
from cts_core.sites.htcondor.classads import (
    ATTRIBUTES,
    CANCELED_REASON,
    CONTAINER_NUMBER,
    JOB_ID,
    SUPERSEDED_REASON,
    HoldCode,
    Status,
    measured,
    read_ads,
)
from cts_core.sites.htcondor.constraints import (
    OURS,
    UNENDED,
    WITHOUT_FILES,
    for_group,
    for_named_jobs,
    for_started_job,
)
from cts_core.sites.htcondor.diagnosis import explain_job, make_survey
from cts_core.sites.htcondor.event_logs import EventLogs
from cts_core.sites.htcondor.history import find_in_history, history_bound
from cts_core.sites.htcondor.refdata_client import RefdataClient
from cts_core.sites.htcondor.submit_description import (
    NUMBER,
    NodeSetup,
    check_user,
    itemdata,
    submit_description,
    token_name,
)
from cts_core.sites.htcondor.tracker import Tracker
from cts_core.sites.site import JobReport, LiveJob, Log, LogStream, Site, Survey

log = logging.getLogger(__name__)

EXIT_TIMEOUT_SECONDS = 20.0
"""How long to wait for workers that have reported the end of their containers, but have not exited yet."""
_EXIT_POLL_SECONDS = 0.5
PING_SECONDS = 5.0
"""How long ``describe`` waits for the pool, and how long it relies on an answer."""
COUNT_SECONDS = 30.0
"""Between two counts of the pool's free cpus."""
SUBMIT_SECONDS = 0.02
"""The additional seconds that a submission may take for each container."""
FIRST_START = timedelta(seconds=3)
"""A younger job was not submitted before: a server that crashed while it did so would still hold the job's lease."""

UNREACHABLE = "its pool of HTCondor does not answer"
NO_STAGING = (
    "Reference data cannot be staged at the site kbase, as no staging service is set for it (refdata.server_url): "
    "use the image at another site, or have its operators set one."
)


class CodeStore(Protocol):
    """Keeps the code of CTS's own workers."""

    async def publish(self, files: Mapping[str, bytes]) -> None:
        """Make these files available to nodes, at every server of this service, for as long as a job may need them."""


class TokenIssuer(Protocol):
    """Issues tokens to CTS's own workers, and knows their claims."""

    async def issue(self, job: JobSummary) -> list[SecretStr]:
        """Return a token for each of a job's containers."""

    async def claimants(self, job_id: str) -> Mapping[int, str]:
        """Return, by number, the processes that have claimed containers of a job."""


class HTCondorSite(Site):
    """A pool of HTCondor. Workers on its nodes report by calling this service."""

    cluster = SiteName.KBASE
    max_starts = 1
    takes_updates = True
    takes_jobs_while_away = False

    def __init__(
        self,
        setup: NodeSetup,
        tokens: TokenIssuer,
        code: CodeStore,
        refdata: RefdataClient | None = None,
    ) -> None:
        """Raise ConfigError if HTCondor's bindings are not installed."""
        if importlib.util.find_spec("htcondor2") is None:
            raise ConfigError(
                "sites: kbase needs HTCondor's bindings, which there are for Linux; "
                "pip install 'cts-jupyter[htcondor]'"
            )
        self._setup = setup
        self._tokens = tokens
        self._code = code
        self._refdata = refdata
        self._bindings = BindingsClient(setup.settings.timeout_s)
        self._logs = EventLogs(self._bindings)
        self._tracker = Tracker(
            self._bindings,
            self._logs,
            # Only CTS's own workers claim their containers.
            tokens.claimants if setup.own is not None else None,
            match_wait=setup.settings.match_wait_min * 60,
            node_wait=setup.settings.node_wait_min * 60,
        )
        self._last_ping = float("-inf")
        self._free_cpus: int | None = None
        self._last_count = float("-inf")

    @override
    async def open(self, on_change: Callable[[str], None]) -> None:
        folder = Path(self._setup.settings.initialdir)
        try:
            # HTCondor checks that it exists on this machine, too, although nothing is written into it.
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(
                f"htcondor.initialdir: {folder} is needed on this machine too, if empty, and cannot be made: "
                f"{e.strerror}"
            ) from e
        try:
            await self._bindings.call("ping")
        except UnavailableError as e:
            log.warning("The site kbase waits for its pool: %s", e)
        except ConfigError:
            await self.close()
            raise
        self._logs.open(on_change)

    @override
    async def close(self) -> None:
        await self._logs.close()
        if self._refdata is not None:
            await self._refdata.close()
        await self._bindings.close()

    @override
    async def describe(self) -> SiteDescription:
        # A running call may take long: the result of the last one says as much as waiting for it would.
        is_due = self._bindings.last_error or time.monotonic() - self._last_ping > PING_SECONDS
        if is_due and not self._bindings.is_busy:
            self._last_ping = time.monotonic()
            try:
                await self._bindings.call("ping", seconds=PING_SECONDS)
            except UnavailableError as e:
                log.warning("The site kbase cannot be used: %s", e)
        is_available = self._bindings.last_error is None
        limits = SITE_LIMITS[self.cluster]
        return SiteDescription(
            cluster=self.cluster,
            cpus_per_node=limits.cpus_per_node,
            memory_per_node_gb=limits.memory_per_node_gb,
            max_runtime_min=limits.max_runtime_min,
            active=True,
            available=is_available,
            # Every user can read this, and the bindings' errors have addresses in them.
            unavailable_reason=None if is_available else UNREACHABLE,
        )

    @override
    async def preflight(self, user: User, job: JobInputPreview, image: JobImage) -> list[str]:
        """May raise UnsupportedError."""
        check_user(user.name)
        if image.name.startswith(HOST_PREFIX):
            raise UnsupportedError(
                f"The image {image.name} is a program of the machine that this service runs on; the site kbase "
                "runs images of registries"
            )
        if job.params.manifest is not None and self._setup.own is None:
            raise UnsupportedError(
                "The worker that runs at the site kbase cannot write manifest files: name the input files in "
                "the arguments, or choose another site"
            )
        return []

    @override
    async def start(
        self, job: JobSummary, plans: Sequence[ContainerPlan], *, now: datetime
    ) -> JobOutcome:
        """May raise UnsupportedError, IllegalParameterError, ResourceUnavailableError, UnavailableError."""
        clusters, is_complete = await self._find_submitted(job, now)
        if not is_complete:
            # Containers that have a process already get a second one; the claim decides, as after every duplicate start.
            clusters.add(await self._submit(job))
        return JobOutcome(htcondor_details=HTCondorDetails(cluster_id=sorted(clusters)))

    async def _submit(self, job: JobSummary) -> int:
        if self._setup.own is not None:
            own = await asyncio.to_thread(self._setup.own)
            await self._code.publish(own.files)
        description = submit_description(job, self._setup)
        contents = {}
        if self._setup.has_own_tokens:
            tokens = await self._tokens.issue(job)
            contents = {token_name(n): token.get_secret_value() for n, token in enumerate(tokens)}
        cluster_id: int = await self._bindings.call(
            "submit",
            seconds=self._setup.settings.timeout_s + SUBMIT_SECONDS * job.job_input.num_containers,
            description=description,
            itemdata=itemdata(job),
            file=token_name(f"$({NUMBER})"),
            contents=contents,
        )
        return cluster_id

    async def _find_submitted(self, job: JobSummary, now: datetime) -> tuple[set[int], bool]:
        """Return the clusters of a start that was not recorded, and whether they have a process for every container.

        Processes whose files were never spooled completely are removed as superseded.
        """
        ours = for_started_job(job.id)
        attributes = ["ClusterId", CONTAINER_NUMBER, "JobStatus", "HoldReasonCode"]
        rows = await self._bindings.call("query", constraint=ours, attributes=attributes)
        kept = [row for row in rows if row[2:] != [Status.HELD, HoldCode.SPOOLING]]
        if len(kept) < len(rows):
            unspooled = f"{ours} && {WITHOUT_FILES}"
            await self._bindings.call(
                "act", action="Remove", constraint=unspooled, reason=SUPERSEDED_REASON
            )
        count = job.job_input.num_containers
        if len(kept) < count and now - _created(job) > FIRST_START:
            kept += await self._bindings.call(
                "history",
                constraint=ours,
                attributes=attributes,
                match=count,
                since=history_bound(_created(job)),
            )
        clusters = {row[0] for row in kept}
        if self._setup.has_own_tokens:
            return clusters, len({row[1] for row in kept}) == count
        # A submission without files is atomic.
        return clusters, bool(clusters)

    @override
    async def poll(self, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        """May raise UnavailableError."""
        reports = await self._tracker.poll({live.job.id: live.states for live in jobs})
        return {job_id: JobReport(containers) for job_id, containers in reports.items()}

    @override
    async def cancel(self, job_id: str) -> bool:
        """May raise UnavailableError, IllegalParameterError for jobs of another user."""
        ours = for_named_jobs([job_id])
        left = await self._bindings.call("query", constraint=ours, attributes=["JobStatus"])
        if left:
            await self._bindings.call(
                "act",
                action="Remove",
                constraint=f"{ours} && JobStatus =!= {Status.REMOVED}",
                reason=CANCELED_REASON,
            )
        return not left

    @override
    async def unended_jobs(self) -> Collection[str]:
        """May raise UnavailableError."""
        rows = await self._bindings.call("query", constraint=UNENDED, attributes=[JOB_ID])
        return {row[0] for row in rows if isinstance(row[0], str)}

    @override
    async def measured(
        self, job: JobSummary, numbers: Collection[int]
    ) -> Mapping[int, ContainerOutcome]:
        """May raise UnavailableError."""
        # A worker reports the end before it exits, and HTCondor measures what it used when it has exited.
        deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
        while True:
            rows = await self._bindings.call(
                "query", constraint=for_started_job(job.id), attributes=ATTRIBUTES
            )
            queue = [ad for ad in read_ads(rows) if ad.number in numbers]
            if time.monotonic() > deadline or not any(ad.is_on_node for ad in queue):
                break
            await asyncio.sleep(_EXIT_POLL_SECONDS)
        left = set(numbers) - {ad.number for ad in queue}
        gone = []
        if left:
            gone = await find_in_history(self._bindings, job.id, left, _created(job))
        return {ad.number: measured(ad) for ad in reversed([*queue, *gone])}

    @override
    async def open_log(self, job_id: str, number: int, stream: LogStream) -> Log | None:
        # Logs are on the nodes until the workers have stored them.
        return None

    @override
    async def runner_status(self, job: JobSummary, number: int) -> dict[str, Any]:
        """May raise UnavailableError."""
        constraint = f"{for_started_job(job.id)} && {CONTAINER_NUMBER} == {number}"
        return await self._bindings.call("ad", constraint=constraint) or {}

    @override
    def waits_for(self, job: Waiting) -> str | None:
        reason = self._tracker.hold_of(job.id)
        return reason and f"On hold at the site: {reason}. It is tried again by itself"

    @override
    async def free_cpus(self) -> int | None:
        # Whatever calls HTCondor now is worth more than a newer number.
        is_due = time.monotonic() - self._last_count > COUNT_SECONDS
        if is_due and not self._bindings.is_busy:
            self._last_count = time.monotonic()
            try:
                self._free_cpus = await self._bindings.call(
                    "free_cpus", seconds=PING_SECONDS, takes=self._takes
                )
            except UnavailableError as e:
                log.warning("How many cpus of the pool are free is not known: %s", e)
                self._free_cpus = None
        return self._free_cpus

    @override
    async def survey(self) -> Survey:
        """May raise UnavailableError."""
        facts = await self._bindings.call("survey", ours=OURS, takes=self._takes)
        return make_survey(facts, self._setup.settings.clientgroup)

    @property
    def _takes(self) -> str:
        """The constraint that nodes of the client group match."""
        group = self._setup.settings.clientgroup
        return for_group(group) if group else "true"

    @override
    async def explain(self, job: JobSummary) -> list[str]:
        """May raise UnavailableError."""
        rows = await self._bindings.call(
            "query", constraint=for_started_job(job.id), attributes=ATTRIBUTES
        )
        ads = read_ads(rows)
        waiting = sorted({ad.cluster_id for ad in ads if ad.status == Status.IDLE})
        pool = await self._bindings.call("never_matching", clusters=waiting) if waiting else None
        return list(explain_job(ads, pool))

    @override
    async def clean(self, job_id: str) -> None:
        """May raise UnavailableError, IllegalParameterError for jobs of another user."""
        await self._bindings.call(
            "act",
            action="Remove",
            constraint=for_named_jobs([job_id]),
            reason="CTS: the job was cleaned up",
        )

    @override
    async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
        # The staging service reports its progress by itself.
        if self._refdata is None:
            return RefdataReport(ReferenceDataState.ERROR, error=NO_STAGING)
        await self._refdata.stage(refdata)
        return RefdataReport(ReferenceDataState.CREATED)

    @override
    async def clean_refdata(self, refdata_id: str) -> None:
        # The staging service leaves nothing but the data.
        pass


def _created(job: JobSummary) -> datetime:
    return job.transition_times[0].recorded_at
