"""``cts jobs``: why a job is where it is, which are stuck, and how to move one."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cts_core.clock import utc_now
from cts_core.errors import ConfigError, CTSError, NewerRecordError
from cts_core.model.record import JobSummary
from cts_core.states import TERMINAL, JobState
from cts_jupyter import formatting
from cts_jupyter.cli.fail import end_as_error
from cts_jupyter.cli.output import CommandError, Status, say, say_json, say_table
from cts_jupyter.cli.stores import Ground, open_ground

if TYPE_CHECKING:
    from cts_core.sites.site import Site
    from cts_jupyter.cli.diagnosis import Facts

MAX_EVENTS = 1000
"""Jobs with an event that waits of which ``stuck`` tells at the most."""
_OWNER = "cts-command"
"""The holder of a lease that ends as it begins."""
STOP_SECONDS = 20.0
"""How long a site may take to stop what runs of a job."""
ASK_SECONDS = 10.0
"""How long a site may take to say how it is."""


async def why(arguments: argparse.Namespace) -> Status:
    """Say why a job is where it is. Raises NoSuchJobError."""
    from cts_jupyter.cli.diagnosis import explain  # noqa: PLC0415 - pulls in the engine

    async with open_ground() as ground:
        facts = await _facts(ground, arguments.job)
    lines = list(explain(facts))
    if arguments.json:
        say_json(_for_scripts(facts, lines))
    else:
        say("\n".join(lines))
    return Status.FINE


async def _facts(ground: Ground, job_id: str) -> Facts:
    from cts_jupyter.cli.diagnosis import Facts  # noqa: PLC0415 - as above

    store = ground.store
    job = await store.get_summary(job_id)
    is_live = job.state not in TERMINAL
    is_unadopted = is_live and job.id in {other.id for other in await store.unadopted_jobs()}
    now = utc_now()
    # It is had only where no server holds it, and has run out at once.
    is_free = is_live and bool(await store.take_leases([job.id], _OWNER, now=now, until=now))
    trouble, at_site = await _at_site(ground, job) if is_live else (None, [])
    return Facts(
        job=job,
        containers=await store.containers(job.id),
        audit=await store.audit(job.id),
        now=now,
        is_unadopted=is_unadopted,
        is_driven=is_live and not is_unadopted and not is_free,
        site_trouble=trouble,
        at_site=at_site,
        is_site_active=job.cluster not in await store.inactive_sites(),
    )


def _site(ground: Ground, job: JobSummary) -> Site:
    from cts_core.engine import adapters  # noqa: PLC0415 - as above

    objects = adapters.object_store(ground.settings)
    site = adapters.sites(ground.settings, ground.store, objects).get(job.cluster)
    if site is None:
        raise CommandError(f"the site {job.cluster.value} is not configured here: see sites")
    return site


async def _at_site(ground: Ground, job: JobSummary) -> tuple[str | None, list[str]]:
    """Why the job's site cannot be used, if so, and what it says of the job."""
    try:
        site = _site(ground, job)
        await site.open(lambda _: None)
    except (CommandError, ConfigError, CTSError) as e:
        return str(e), []
    try:
        async with asyncio.timeout(ASK_SECONDS):
            told = await site.explain(job)
            found = await site.describe()
            return (None if found.available else found.unavailable_reason), told
    except TimeoutError:
        return "it does not answer", []
    except CTSError as e:
        return str(e), []
    finally:
        await site.close()


def _for_scripts(facts: Facts, lines: list[str]) -> dict[str, Any]:
    return {
        "job": facts.job.model_dump(mode="json", exclude_none=True),
        "containers": dict(facts.counts),
        "unadopted": facts.is_unadopted,
        "driven": facts.is_driven,
        "site_trouble": facts.site_trouble,
        "site_active": facts.is_site_active,
        "at_site": list(facts.at_site),
        "unsent_events": [t.trans_id for t in facts.unsent],
        "audit": [entry.model_dump(mode="json") for entry in facts.audit],
        "why": lines,
    }


async def stuck(arguments: argparse.Namespace) -> Status:
    """List live jobs, and events, that have waited for longer than they should."""
    from cts_jupyter.cli.diagnosis import EVENT_PATIENCE, patience  # noqa: PLC0415 - as above

    async with open_ground() as ground:
        now = utc_now()
        rows = [
            _row(job, now - job.updated, "nobody drives it: cts adopt")
            for job in await ground.store.unadopted_jobs()
        ]
        for job in await ground.store.live_jobs():
            most = patience(job) if arguments.patience is None else arguments.patience
            if now - job.updated > most:
                rows.append(
                    _row(job, now - job.updated, f"longer than {formatting.format_duration(most)}")
                )
        waiting = EVENT_PATIENCE if arguments.patience is None else arguments.patience
        for event in await ground.store.unsent(limit=MAX_EVENTS, recorded_before=now - waiting):
            # Such a job is for the command of its version to tell of.
            with suppress(NewerRecordError):
                job = await ground.store.get_summary(event.job_id)
                waits = now - event.recorded_at
                rows.append(_row(job, waits, f"its event {event.state.value} is not acknowledged"))
    if arguments.json:
        say_json(rows)
    else:
        say_table(rows, empty="nothing is stuck")
    return Status.FOUND if rows else Status.FINE


def _row(job: JobSummary, waits: Any, reason: str) -> dict[str, object]:  # noqa: ANN401 - a timedelta
    return {
        "job": job.id,
        "user": job.user,
        "site": job.cluster.value,
        "state": job.state.value,
        "waits": formatting.format_duration(waits),
        "why": reason,
    }


async def retry(arguments: argparse.Namespace) -> Status:
    """Do here what a server does at each look at a job, under the same lease.

    That is safe as often as one likes: each effect may be repeated, and compare-and-set decides every move. A
    job that has ended is not run again, since nobody can know how far its containers came. Raises CommandError, and
    NewerRecordError for a job that servers of a newer version alone can drive.
    """
    from cts_core.engine import adapters  # noqa: PLC0415 - as above
    from cts_core.engine.driver import Driver  # noqa: PLC0415 - as above
    from cts_core.events.hub import Hub  # noqa: PLC0415 - as above
    from cts_core.events.outbox import Outbox  # noqa: PLC0415 - as above

    async with open_ground() as ground:
        store = ground.store
        before = await store.get_drivable(arguments.job)
        if before.state in TERMINAL:
            raise CommandError(
                f"job {before.id} has ended ({before.state.value}), and what has ended is not run again: its owner "
                "can submit it again, as a new job (resubmit)"
            )
        if before.id in {job.id for job in await store.unadopted_jobs()}:
            raise CommandError(
                f"job {before.id} is not ours to drive: cts adopt --continue {before.id}"
            )
        if ground.settings.test_mode and before.state is JobState.CREATED:
            raise CommandError(
                f"job {before.id} is stored and never started, because test_mode is on: turn it off, or end the "
                f"job (cts jobs fail {before.id} --reason TEXT)"
            )
        # A driver leaves such a job to others without a word.
        await store.containers(before.id)
        site = _site(ground, before)
        objects = adapters.object_store(ground.settings)
        hub = Hub(store)
        driver = Driver(
            site, store, objects, Outbox(store, hub), hub, log_dir=ground.settings.log_dir
        )
        await ground.note(before.id, "retry", f"it was {before.state.value}")
        await objects.open()
        try:
            await site.open(driver.wake)
            try:
                job = before
                while is_ours := await driver.reconcile_job(job):
                    after = await store.get_summary(job.id)
                    if after.state is job.state or after.state in TERMINAL:
                        break
                    job = after
            finally:
                await driver.stop()
        finally:
            await objects.close()
        after = await store.get_summary(before.id)
    if not is_ours:
        say(
            "a server holds its lease, and has looked at it within the last seconds: nothing was done here"
        )
        return Status.FINE
    if after.state is before.state:
        say(f"it stays {after.state.value}: cts jobs why {after.id} says what it waits for")
        return Status.FOUND
    say(f"it was {before.state.value}, and is {after.state.value}")
    return Status.FINE


async def fail(arguments: argparse.Namespace) -> Status:
    """End a live job as an error, and stop what runs of it. Raises CommandError."""
    async with open_ground() as ground:
        job = await ground.store.get_summary(arguments.job)
        if job.state in TERMINAL:
            raise CommandError(f"job {job.id} has ended already: it is {job.state.value}")
        await end_as_error(ground, job, arguments.reason, action="fail")
        trouble = await _stop(ground, job)
    say(f"job {job.id} is error now; its owner is told: {arguments.reason}")
    if trouble:
        say(f"its containers could not be stopped yet, which servers go on trying: {trouble}")
        return Status.FOUND
    return Status.FINE


async def _stop(ground: Ground, job: JobSummary) -> str | None:
    """Stop what runs of the job; why not, if not."""
    try:
        site = _site(ground, job)
        await site.open(lambda _: None)
    except (CommandError, ConfigError, CTSError) as e:
        return str(e)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            while not await site.cancel(job.id):  # noqa: ASYNC110 - nothing tells when it is time to ask again
                await asyncio.sleep(0.5)
    except TimeoutError:
        return f"the site did not stop them within {STOP_SECONDS:.0f} s"
    except CTSError as e:
        return str(e)
    finally:
        await site.close()
    return None
