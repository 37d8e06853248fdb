"""``cts adopt``: what becomes of the live jobs that another program left in a store."""

from __future__ import annotations

import argparse
from datetime import datetime

from cts_core.clock import utc_now
from cts_core.model.record import JobSummary
from cts_jupyter import formatting
from cts_jupyter.cli.fail import end_as_error
from cts_jupyter.cli.output import CommandError, Status, say, say_json, say_table
from cts_jupyter.cli.stores import Ground, open_ground

_REASON = "The job was still unfinished when the service that ran it was replaced: submit it again"


async def run(arguments: argparse.Namespace) -> Status:
    """List them, or continue or fail those that were chosen. Raises CommandError."""
    async with open_ground() as ground:
        now = utc_now()
        chosen = _choose(await ground.store.unadopted_jobs(), arguments, now)
        if arguments.go_on or arguments.fail:
            for job in chosen:
                await _decide(ground, job, arguments)
            say(
                f"{formatting.plural(len(chosen), 'job')} {'failed' if arguments.fail else 'taken over'}"
            )
            return Status.FINE
    rows = [_row(job, now) for job in chosen]
    if arguments.json:
        say_json(rows)
    else:
        say_table(rows, empty="no job waits to be adopted")
        if rows:
            say("\nNothing is done with these until you say so: cts adopt --continue, or --fail,")
            say("each with --older-than or --newer-than TIME, or with the ids of jobs")
    return Status.FINE


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


async def _decide(ground: Ground, job: JobSummary, arguments: argparse.Namespace) -> None:
    if arguments.fail:
        await end_as_error(ground, job, arguments.reason or _REASON, action="adopt: fail")
    else:
        await ground.note(job.id, "adopt: continue", arguments.reason or "")
        await ground.store.adopt(job.id)


def _row(job: JobSummary, now: datetime) -> dict[str, object]:
    return {
        "job": job.id,
        "user": job.user,
        "site": job.cluster.value,
        "state": job.state.value,
        "unmoved for": formatting.format_duration(now - job.updated),
        "since": job.updated,
    }
