"""Stages reference data: into JAWS's folder of it at NERSC by a helper, and from there to Lawrencium by JAWS itself."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from cts_core.backoff import KeyedBackoff
from cts_core.errors import CTSError, ResourceUnavailableError, UnavailableError
from cts_core.job_tasks import JobTasks
from cts_core.model.refdata import (
    AdminReferenceData,
    RefdataReport,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.object_paths import ObjectPath
from cts_core.sites.jaws import commands, transfers
from cts_core.sites.jaws.facility import Facility
from cts_core.sites.jaws.follow import Begun
from cts_core.sites.jaws.layout import Attempt, Machine, Step
from cts_core.sites.jaws.look import SeenFolder, is_rested
from cts_core.sites.jaws.runner import LIFETIME, PASSING, RETRY, LinkStore, stored_objects
from cts_core.sites.jaws.sfapi import CommandError, SFAPIError
from cts_core.sites.jaws.steps import UNEXPECTED, DeployedStep, Next, Seen, decide
from cts_core.states import JobState

log = logging.getLogger(__name__)

MAX_STAGED = 4
"""Stagings that are begun at once."""
ANSWER_SECONDS = 60.0
"""Between two looks for JAWS's answer."""
_CALLBACK_SECONDS = 86_400
"""How long NERSC watches for that answer on our behalf."""
_S = ReferenceDataState


@dataclass
class _Staged:
    """What this process knows of a staging."""

    report: RefdataReport = field(default_factory=lambda: RefdataReport(_S.CREATED))
    """The last one; a task makes the next."""
    begun: Begun = field(default_factory=Begun)
    look_at: float = 0.0
    """When JAWS's answer is looked for next."""


class Stagings:
    """The stagings at one site; each may be asked for again and again, by several servers at once."""

    def __init__(self, site: SiteName, facility: Facility, objects: LinkStore) -> None:
        self._site = site
        self._facility = facility
        self._objects = objects
        self._staged: dict[str, _Staged] = {}
        self._tasks = JobTasks("staging", MAX_STAGED)
        self._failing = KeyedBackoff(RETRY)

    async def stop(self) -> None:
        """End all work; what goes on at NERSC is found again."""
        await self._tasks.stop()

    def stage(self, refdata: AdminReferenceData) -> RefdataReport:
        """Have done what comes next, and report what is known."""
        staged = self._staged.setdefault(refdata.id, _Staged())
        status = refdata.at(self._site)
        state = status.state if status else _S.CREATED
        if self._site is SiteName.PERLMUTTER_JAWS:
            self._go_on(refdata, staged)
        elif state is _S.CREATED and staged.report.state is _S.CREATED:
            self._do(refdata.id, partial(self._ask_for_callback, refdata.id, staged))
        elif time.monotonic() >= staged.look_at:
            self._do(refdata.id, partial(self._read_answer, refdata.id, staged))
        return staged.report

    def nudge(self, refdata_id: str) -> None:
        """Look for JAWS's answer now."""
        if (staged := self._staged.get(refdata_id)) is not None:
            staged.look_at = 0.0

    async def clean(self, refdata_id: str) -> None:
        """Remove what a transfer has left, but never the data. Raises UnavailableError, and ResourceUnavailableError where only this one cannot be removed."""
        self._staged.pop(refdata_id, None)
        if self._site is not SiteName.PERLMUTTER_JAWS:
            return
        layout = self._facility.layout
        folder = layout.refdata_work(refdata_id)
        self._facility.lookout.forget(folder)
        command = commands.remove_staging(folder, layout.refdata(refdata_id), layout.plans())
        try:
            await self._facility.command(Machine.DTNS, command)
        except (SFAPIError, CommandError) as e:
            raise ResourceUnavailableError(
                f"What reference data {refdata_id} has left at NERSC cannot be removed yet: {e}"
            ) from e

    def _do(self, refdata_id: str, work: Callable[[], Awaitable[None]]) -> None:
        if self._failing.is_due(refdata_id) and self._facility.nersc().is_usable:
            self._tasks.add(refdata_id, partial(self._try, refdata_id, work))

    async def _try(self, refdata_id: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (*PASSING, SFAPIError, CommandError) as e:
            seconds = self._failing.fail(refdata_id, str(e))
            log.warning("Reference data %s is staged on in %.0f s: %s", refdata_id, seconds, e)
        except CTSError as e:
            self._staged[refdata_id].report = RefdataReport(_S.ERROR, str(e), str(e))
        except Exception as e:  # a bug must not be tried each second
            log.exception("Reference data %s was not staged on", refdata_id)
            self._failing.fail(refdata_id, type(e).__name__)
        else:
            self._failing.reset(refdata_id)

    # -- Perlmutter --

    def _go_on(self, refdata: AdminReferenceData, staged: _Staged) -> None:
        try:
            folder = self._facility.layout.refdata_work(refdata.id)
        except UnavailableError:
            return
        lookout = self._facility.lookout
        seen = lookout.find(folder)
        lookout.want(folder, lambda _: None)
        if seen is None:
            return
        # A staging is the first step of a job, and its end is the next one's begin.
        decision = decide(JobState.DOWNLOAD_SUBMITTED, None, _seen(seen))
        attempt = Attempt(Step.DOWNLOAD, decision.attempt)
        task_ids = staged.begun.task_ids(Step.DOWNLOAD) or None
        may_begin = not staged.begun.is_awaited(attempt) and is_rested(seen, attempt)
        if decision.error is not None:
            error, reason = decision.error, decision.reason
            staged.report = RefdataReport(_S.ERROR, error, reason, decision.traceback)
        elif decision.states:
            staged.report = RefdataReport(_S.COMPLETE, task_ids=task_ids)
        elif decision.next is Next.DOWNLOAD and may_begin:
            self._do(refdata.id, partial(self._begin, refdata, staged, attempt))
        elif seen.attempts or task_ids:
            staged.report = RefdataReport(_S.DOWNLOAD_SUBMITTED, task_ids=task_ids)

    async def _begin(self, refdata: AdminReferenceData, staged: _Staged, attempt: Attempt) -> None:
        path = ObjectPath(refdata.file)
        (stored,) = await stored_objects(self._objects, {path: refdata.crc64nvme})
        (link,) = await self._objects.presign_gets([path], LIFETIME)
        setup, layout = self._facility.setup, self._facility.layout
        plan = transfers.stage(
            refdata.id, stored, link, layout, unpack=refdata.unpack, insecure=setup.insecure_ssl
        )
        callback = self._callback(refdata.id)
        work = layout.refdata_work(refdata.id)
        task = await self._facility.begin(lambda _: work, attempt, {**plan, "callback": callback})
        staged.begun.add(attempt, task)
        task_ids = staged.begun.task_ids(Step.DOWNLOAD)
        staged.report = RefdataReport(_S.DOWNLOAD_SUBMITTED, task_ids=task_ids)

    def _callback(self, refdata_id: str) -> str:
        return self._facility.setup.callback("refdata_download", refdata_id, self._site.value)

    # -- Lawrencium --

    async def _ask_for_callback(self, refdata_id: str, staged: _Staged) -> None:
        answer = self._facility.layout.change_answer(refdata_id, self._site)
        url = self._callback(refdata_id)
        try:
            await self._facility.sfapi.call_back(
                Machine.DTNS, answer, url, seconds=_CALLBACK_SECONDS
            )
        except SFAPIError as e:
            # The answer is looked for besides.
            log.warning("NERSC does not watch for JAWS's copy of %s: %s", refdata_id, e)
        staged.report = RefdataReport(_S.DOWNLOAD_SUBMITTED)

    async def _read_answer(self, refdata_id: str, staged: _Staged) -> None:
        staged.look_at = time.monotonic() + ANSWER_SECONDS
        path = self._facility.layout.change_answer(refdata_id, self._site)
        content = await self._facility.read(path)
        if content is None:
            return
        try:
            answer = json.loads(content)
        except ValueError:
            # It may be half written.
            return
        result = answer.get("result") if isinstance(answer, dict) else None
        if result == "succeeded":
            staged.report = RefdataReport(_S.COMPLETE)
        else:
            reason = f"JAWS's copy of the reference data ended with {result!r}: see {path} at NERSC"
            staged.report = RefdataReport(_S.ERROR, UNEXPECTED, reason)


def _seen(folder: SeenFolder) -> Seen:
    deployed = {step: DeployedStep(end) for step, end in folder.deployed.items()}
    return Seen(attempts=folder.attempts, deployed=deployed)
