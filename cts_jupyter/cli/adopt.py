"""``cts adopt``: lists the live jobs that another program left in a store, and continues or fails them."""

from __future__ import annotations

import argparse
from datetime import datetime

from cts_core.model.record import JobSummary
from cts_jupyter import formatting
from cts_jupyter.cli.fail import fail_job
from cts_jupyter.cli.output import CommandError, Status, print_json, print_line, print_table
from cts_jupyter.cli.stores import Stores, open_stores

_REASON = "The job was still unfinished when the service that ran it was replaced: submit it again"


async def run(arguments: argparse.Namespace) -> Status:
    """List the jobs that wait for adoption, or continue or fail the chosen ones. Raises CommandError."""
    async with open_stores() as stores:
        now = await stores.store.now()
        chosen = _choose(await stores.store.unadopted_jobs(), arguments, now)
        if arguments.go_on or arguments.fail:
            for job in chosen:
                await _decide(stores, job, arguments)
            print_line(
                f"{formatting.plural(len(chosen), 'job')} {'failed' if arguments.fail else 'taken over'}"
            )
            return Status.OK
    rows = [_row(job, now) for job in chosen]
    if arguments.json:
        print_json(rows)
    else:
        print_table(rows, empty="no job waits to be adopted")
        if rows:
            print_line(
                "\nNothing is done with these until you say so: cts adopt --continue, or --fail,"
            )
            print_line("each with --older-than or --newer-than TIME, or with the ids of jobs")
    return Status.OK


def _choose(
    jobs: list[JobSummary], arguments: argparse.Namespace, now: datetime
) -> list[JobSummary]:
    if missing := set(arguments.jobs) - {job.id for job in jobs}:
        raise CommandError(f"these wait for no adoption: {', '.join(sorted(missing))}")
    return [
        job
        for job in jobs
        if (not arguments.jobs or job.id in arguments.jobs)
        and (arguments.older_than is None or now - job.updated >= arguments.older_than)
        and (arguments.newer_than is None or now - job.updated < arguments.newer_than)
    ]


async def _decide(stores: Stores, job: JobSummary, arguments: argparse.Namespace) -> None:
    if arguments.fail:
        await fail_job(stores, job, arguments.reason or _REASON, action="adopt: fail")
    else:
        await stores.record_audit(job.id, "adopt: continue", arguments.reason or "")
        await stores.store.adopt(job.id)


def _row(job: JobSummary, now: datetime) -> dict[str, object]:
    return {
        "job": job.id,
        "user": job.user,
        "site": job.cluster.value,
        "state": job.state.value,
        "unmoved for": formatting.format_duration(now - job.updated),
        "since": job.updated,
    }
