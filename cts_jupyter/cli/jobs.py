"""``cts jobs``: explains where a job is, lists stuck jobs, retries or fails one."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cts_core.errors import ConfigError, CTSError, NewerRecordError
from cts_core.model.record import JobSummary
from cts_core.states import TERMINAL, JobState
from cts_jupyter import formatting
from cts_jupyter.cli import outages
from cts_jupyter.cli.fail import fail_job
from cts_jupyter.cli.output import CommandError, Status, print_json, print_line, print_table
from cts_jupyter.cli.stores import Stores, open_stores

if TYPE_CHECKING:
    from cts_core.sites.site import Site
    from cts_jupyter.cli.diagnosis import Facts

MAX_EVENTS = 1000
"""The number of unacknowledged events that ``stuck`` lists at most."""
_OWNER = "cts-command"
"""The holder of the lease with which ``why`` tests whether a server holds one."""
STOP_SECONDS = 60.0
"""How long a site may take to stop a job's containers."""
DESCRIBE_SECONDS = 10.0
"""How long a site may take to describe itself."""


async def why(arguments: argparse.Namespace) -> Status:
    """Explain why a job is where it is. Raises NoSuchJobError."""
    from cts_jupyter.cli.diagnosis import explain  # noqa: PLC0415 - pulls in the engine

    async with open_stores() as stores:
        facts = await _facts(stores, await stores.find_job_id(arguments.job))
    lines = list(explain(facts))
    if arguments.json:
        print_json(_to_json(facts, lines))
    else:
        print_line("\n".join(lines))
    return Status.OK


async def _facts(stores: Stores, job_id: str) -> Facts:
    from cts_jupyter.cli.diagnosis import Facts  # noqa: PLC0415 - as above

    store = stores.store
    job = await store.get_summary(job_id)
    is_live = job.state not in TERMINAL
    is_unadopted = is_live and job.id in {other.id for other in await store.unadopted_jobs()}
    now = await store.now()
    # A lease can be taken only if no server holds it; this one expires at once.
    is_free = is_live and bool(await store.take_leases([job.id], _OWNER, now=now, until=now))
    trouble, at_site = await _at_site(stores, job) if is_live else (None, [])
    no_objects = await outages.objects_trouble(stores.settings) if is_live else None
    return Facts(
        job=job,
        containers=await store.containers(job.id),
        audit=await store.audit(job.id),
        now=now,
        is_unadopted=is_unadopted,
        is_driven=is_live and not is_unadopted and not is_free,
        site_trouble=trouble,
        objects_trouble=no_objects,
        at_site=at_site,
        is_site_active=job.cluster not in await store.inactive_sites(),
    )


def _site(stores: Stores, job: JobSummary, *, looks_only: bool) -> Site:
    from cts_core.engine import adapters  # noqa: PLC0415 - as above

    objects = adapters.object_store(stores.settings)
    sites = adapters.sites(stores.settings, stores.store, objects, looks_only=looks_only)
    site = sites.get(job.cluster)
    if site is None:
        raise CommandError(f"the site {job.cluster.value} is not configured here: see sites")
    return site


async def _at_site(stores: Stores, job: JobSummary) -> tuple[str | None, list[str]]:
    """Return why the job's site cannot be used, or None, and the site's sentences about the job."""
    try:
        site = _site(stores, job, looks_only=True)
        await site.open(lambda _: None)
    except (CommandError, ConfigError, CTSError) as e:
        return str(e), []
    try:
        async with asyncio.timeout(DESCRIBE_SECONDS):
            sentences = await site.explain(job)
            described = await site.describe()
            return (None if described.available else described.unavailable_reason), sentences
    except TimeoutError:
        return "it does not answer", []
    except CTSError as e:
        return str(e), []
    finally:
        await site.close()


def _to_json(facts: Facts, lines: list[str]) -> dict[str, Any]:
    return {
        "job": facts.job.model_dump(mode="json", exclude_none=True),
        "containers": dict(facts.counts),
        "unadopted": facts.is_unadopted,
        "driven": facts.is_driven,
        "site_trouble": facts.site_trouble,
        "objects_trouble": facts.objects_trouble,
        "site_active": facts.is_site_active,
        "at_site": list(facts.at_site),
        "unsent_events": [t.trans_id for t in facts.unsent],
        "audit": [entry.model_dump(mode="json") for entry in facts.audit],
        "why": lines,
    }


async def stuck(arguments: argparse.Namespace) -> Status:
    """List live jobs, and events, that have waited longer than they should."""
    from cts_jupyter.cli.diagnosis import EVENT_TIMEOUT, WAIT_TIMEOUT, timeout_of  # noqa: PLC0415 - as above

    async with open_stores() as stores:
        now = await stores.store.now()
        rows = [
            _row(job, now - job.updated, "nobody drives it: cts adopt")
            for job in await stores.store.unadopted_jobs()
        ]
        for job in await stores.store.live_jobs():
            limit = timeout_of(job) if arguments.timeout is None else arguments.timeout
            wait_limit = WAIT_TIMEOUT if arguments.timeout is None else arguments.timeout
            if job.wait and now - job.wait.since > wait_limit:
                why = f"waits for {outages.describe_wait(job.wait, now)}"
                rows.append(_row(job, now - job.updated, why))
            elif now - job.updated > limit:
                rows.append(
                    _row(job, now - job.updated, f"longer than {formatting.format_duration(limit)}")
                )
        event_limit = EVENT_TIMEOUT if arguments.timeout is None else arguments.timeout
        for event in await stores.store.unsent(
            limit=MAX_EVENTS,
            recorded_before=now - event_limit,
            foreign=stores.settings.kafka.send_foreign,
        ):
            # A job that a newer version wrote is listed by that version's command.
            with suppress(NewerRecordError):
                job = await stores.store.get_summary(event.job_id)
                waits = now - event.recorded_at
                rows.append(_row(job, waits, f"its event {event.state.value} is not acknowledged"))
    if arguments.json:
        print_json(rows)
    else:
        print_table(rows, empty="nothing is stuck")
    return Status.PROBLEM if rows else Status.OK


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
    """Reconcile a job here as a server does, under the same lease.

    That is always safe: each effect is idempotent, and compare-and-set decides every transition. A job that has ended
    is not run again, since it is unknown how far its containers came. Raises CommandError, and NewerRecordError for a
    job that only servers of a newer version can drive.
    """
    from cts_core.engine import adapters  # noqa: PLC0415 - as above
    from cts_core.engine.driver import Driver  # noqa: PLC0415 - as above
    from cts_core.events.hub import Hub  # noqa: PLC0415 - as above
    from cts_core.events.outbox import Outbox  # noqa: PLC0415 - as above
    from cts_core.observability.instrument import (  # noqa: PLC0415 - as above
        OBJECTS,
        RECORDS,
        instrument,
        site_name,
    )

    async with open_stores() as stores:
        store = stores.store
        before = await store.get_drivable(await stores.find_job_id(arguments.job))
        if before.state in TERMINAL:
            raise CommandError(
                f"job {before.id} has ended ({before.state.value}), and what has ended is not run again: its owner "
                "can submit it again, as a new job (resubmit)"
            )
        if before.id in {job.id for job in await store.unadopted_jobs()}:
            raise CommandError(
                f"job {before.id} is not ours to drive: cts adopt --continue {before.id}"
            )
        if stores.settings.test_mode and before.state is JobState.CREATED:
            raise CommandError(
                f"job {before.id} is stored and never started, because test_mode is on: turn it off, or end the "
                f"job (cts jobs fail {before.id} --reason TEXT)"
            )
        # Raises NewerRecordError here, because the driver skips such a job silently.
        await store.containers(before.id)
        # By the names of the ports the driver tells what a job waits for.
        store = instrument(store, RECORDS)
        site = instrument(_site(stores, before, looks_only=False), site_name(before.cluster))
        objects = instrument(adapters.object_store(stores.settings), OBJECTS)
        hub = Hub(store)
        driver = Driver(
            site, store, objects, Outbox(store, hub), hub, log_dir=stores.settings.log_folder
        )
        await stores.record_audit(before.id, "retry", f"it was {before.state.value}")
        await objects.open()
        try:
            await site.open(driver.wake)
            try:
                await _wait_until_usable(site)
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
        print_line(
            "a server holds its lease, and has looked at it within the last seconds: nothing was done here"
        )
        return Status.OK
    if after.state is before.state:
        print_line(f"it stays {after.state.value}: cts jobs why {after.id} says what it waits for")
        return Status.PROBLEM
    print_line(f"it was {before.state.value}, and is {after.state.value}")
    return Status.OK


async def _wait_until_usable(site: Site) -> None:
    """Wait some time for a site that has to be reached first; what is wrong with it then, the driver finds."""
    with suppress(CTSError, TimeoutError):
        async with asyncio.timeout(DESCRIBE_SECONDS):
            while not (await site.describe()).available:  # noqa: ASYNC110 - the site can only be polled
                await asyncio.sleep(0.5)


async def fail(arguments: argparse.Namespace) -> Status:
    """End a live job as an error and stop its containers. Raises CommandError."""
    async with open_stores() as stores:
        job = await stores.store.get_summary(await stores.find_job_id(arguments.job))
        if job.state in TERMINAL:
            raise CommandError(f"job {job.id} has ended already: it is {job.state.value}")
        await fail_job(stores, job, arguments.reason, action="fail")
        trouble = await _stop(stores, job)
    print_line(f"job {job.id} is error now; its owner is told: {arguments.reason}")
    if trouble:
        print_line(
            f"its containers could not be stopped yet, which servers go on trying: {trouble}"
        )
        return Status.PROBLEM
    return Status.OK


async def _stop(stores: Stores, job: JobSummary) -> str | None:
    """Stop the job's containers; return why they could not be stopped, or None."""
    try:
        site = _site(stores, job, looks_only=False)
        await site.open(lambda _: None)
    except (CommandError, ConfigError, CTSError) as e:
        return str(e)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            while not await site.cancel(job.id):  # noqa: ASYNC110 - the site can only be polled
                await asyncio.sleep(0.5)
    except TimeoutError:
        return f"the site did not stop them within {STOP_SECONDS:.0f} s"
    except CTSError as e:
        return str(e)
    finally:
        await site.close()
    return None
