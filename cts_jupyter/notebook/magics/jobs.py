"""The commands ``%cts ls``, ``status``, ``why``, ``watch``, ``cancel`` and ``logs``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cts_core.states import JobState
from cts_core.why import has_failed
from cts_jupyter import formatting
from cts_jupyter.client.logs import STREAMS, PlainText, follow_log, read_log
from cts_jupyter.client.lookups import find_containers
from cts_jupyter.client.models import JobCount
from cts_jupyter.client.search import JobQuery
from cts_jupyter.notebook.columns import count_table
from cts_jupyter.notebook.each import try_each
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.job_table import list_jobs
from cts_jupyter.notebook.magics.command import (
    Command,
    CommandParser,
    key_value,
    one_of,
    positive,
    since,
    states,
    until,
)
from cts_jupyter.notebook.magics.context import Context
from cts_jupyter.notebook.magics.why import explain
from cts_jupyter.notebook.session import LATEST
from cts_jupyter.notebook.table import Table
from cts_jupyter.notebook.typed_paths import searched_text
from cts_jupyter.notebook.watch_list import WatchList

_MAX_FAILED_LOGS = 5
_OTHER_STREAM = {"stdout": "--err shows stderr", "stderr": "without --err, stdout is shown"}
FAILED = "failed"
_UPDATED, _CREATED = "updated", "created"


def _configure_ls(parser: CommandParser) -> None:
    add = parser.add_argument
    add(
        "text",
        metavar="TEXT",
        nargs="?",
        help="only jobs with this in id, image, folder, label or error",
    )
    add(
        "--state",
        metavar="STATE",
        type=states,
        help=f"one of {', '.join(formatting.STATE_NAMES)}, or several with commas between them",
    )
    add(
        "--image",
        metavar="IMAGE",
        help="only jobs of this image, or whose image has this in its name",
    )
    add(
        "--label",
        metavar="LABEL=V",
        type=key_value,
        action="append",
        help="only jobs with this label",
    )
    add(
        "--since",
        metavar="7d",
        type=since,
        help="only jobs whose last change was since then: an age such as 2d or '3 weeks', yesterday, monday, 'last week', or "
        "2026-11-20",
    )
    add(
        "--until",
        metavar="1d",
        type=until,
        help="only jobs whose last change was before then, or on that day or in that week, as in 2026-11-20 or 'last week'",
    )
    add(
        "--new",
        action="store_true",
        help="only jobs that ended since the last %%cts ls --new that asked for nothing else",
    )
    add(
        "--sort",
        type=one_of(_UPDATED, _CREATED),
        metavar=f"{{{_UPDATED},{_CREATED}}}",
        default=_UPDATED,
        help="by the last change, or by submission; newest first",
    )
    add("--counts", action="store_true", help="how many jobs you have by site and state")
    parser.add_result_name()


def _query(options: argparse.Namespace) -> JobQuery:
    return JobQuery(
        text=searched_text(options.text),
        image=options.image,
        states=options.state,
        labels=dict(options.label or ()),
        since=options.since,
        until=options.until,
        by_creation=options.sort == _CREATED,
        new=options.new,
    )


def _run_ls(context: Context, options: argparse.Namespace) -> Table[Job] | Table[JobCount]:
    query = _query(options)
    if options.counts:
        return _counts(context, query)
    return list_jobs(context.session, query)


def _counts(context: Context, query: JobQuery) -> Table[JobCount]:
    if query != JobQuery():
        raise MagicError("--counts counts all your jobs: leave out everything else")
    if not context.client.supports("GET", "/jobs/counts"):
        raise MagicError(
            f"The service at {context.session.where} does not count jobs: %cts ls --state S lists them"
        )
    return count_table(context.client.job_counts())


def _configure_job(parser: CommandParser) -> None:
    parser.add_argument("job", metavar="JOB", nargs="?", default=LATEST, help="- if not given")
    parser.add_result_name()


def _run_status(context: Context, options: argparse.Namespace) -> Job:
    return context.job(options.job)


def _run_why(context: Context, options: argparse.Namespace) -> PlainText:
    return explain(context.session, context.job(options.job))


def _run_methods(context: Context, options: argparse.Namespace) -> PlainText:
    return context.job(options.job).methods()


def _configure_jobs(parser: CommandParser) -> None:
    parser.add_argument("jobs", metavar="JOB", nargs="*", help="- if none is given")


def watch_jobs(jobs: Sequence[Job]) -> None:
    """Show a job's card, or several jobs as one list, until all have ended. Raises MagicError, which names those that did not complete.

    Interrupting does not affect the jobs.
    """
    try:
        if len(jobs) == 1:
            _watch_card(jobs[0])
        else:
            _watch_list(jobs)
    except KeyboardInterrupt:
        raise MagicError(
            "You stopped watching; the jobs go on. %cts cancel JOB would stop one"
        ) from None
    bad = [job for job in jobs if job.state != JobState.COMPLETE]
    if bad:
        named = formatting.name_some(
            [
                f"job {formatting.short_id(job.id)} ({formatting.format_state(job.state).lower()})"
                for job in bad
            ]
        )
        raise MagicError(
            f"{len(bad)} of {formatting.plural(len(jobs), 'job')} not complete: {named}. %cts why {formatting.short_id(bad[0].id)} says more"
        )


def _watch_card(job: Job) -> None:
    job.show()
    job.wait()
    job.show_end()


def _watch_list(jobs: Sequence[Job]) -> None:
    shown = WatchList(jobs)
    try:
        for job in jobs:
            job.wait()
    finally:
        shown.close()


def _run_watch(context: Context, options: argparse.Namespace) -> None:
    jobs = context.jobs(options.jobs or [LATEST])
    context.print_notes()
    watch_jobs(jobs)


def _configure_cancel(parser: CommandParser) -> None:
    parser.add_argument("jobs", metavar="JOB", nargs="+")


def _run_cancel(context: Context, options: argparse.Namespace) -> None:
    jobs = context.jobs(options.jobs)
    cancels = try_each(jobs, lambda job, _: job.cancel(), doing="cancel")
    for job in cancels.done:
        context.add_note(f"Job {formatting.short_id(job.id)} is being cancelled")
    if cancels.failed:
        raise MagicError(
            f"{len(cancels.failed)} of {formatting.plural(len(jobs), 'job')} not cancelled: "
            + cancels.name_failures(context.describe, lambda job: formatting.short_id(job.id))
        )


def _container(text: str) -> int | str:
    if text != FAILED and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be a container's number, or {FAILED}")
    return FAILED if text == FAILED else int(text)


def _configure_logs(parser: CommandParser) -> None:
    add = parser.add_argument
    add("job", metavar="JOB", nargs="?", default=LATEST, help="- if not given")
    add(
        "-c",
        "--container",
        metavar="N|failed",
        type=_container,
        help="which container, or those that failed; if not given, the first that failed, or 0",
    )
    add("--err", action="store_true", help="stderr instead of stdout")
    add("-f", "--follow", action="store_true", help="go on as it grows; interrupting is harmless")
    add("--tail", metavar="N", type=positive, help="only the last N lines")  # fmt: skip


def _run_logs(context: Context, options: argparse.Namespace) -> PlainText | None:
    job = context.job(options.job)
    stream = STREAMS[options.err]
    inputs = {options.container or 0: ""}
    if options.container == FAILED:
        inputs = _failed_containers(context, job)
    elif options.container is None and job.state == JobState.ERROR:
        inputs = _first_failed(context, job)
    numbers = list(inputs)
    if options.follow:
        _follow(context, job, numbers[0], stream)
        return None
    texts = [
        read_log(context.client, job.id, number, stream, lines=options.tail)
        for number in numbers[:_MAX_FAILED_LOGS]
    ]
    if len(numbers) == 1:
        if inputs[numbers[0]]:
            context.add_note(f"Container {numbers[0]}{inputs[numbers[0]]}:")
        return texts[0] or PlainText(f"Nothing was written to {stream}: {_OTHER_STREAM[stream]}")
    parts = [
        f"--- container {number}{inputs[number]}\n{text.rstrip() or f'nothing was written to {stream}'}\n"
        for number, text in zip(numbers, texts, strict=False)
    ]
    hidden = len(numbers) - len(texts)
    more = (
        f"--- and {formatting.plural(hidden, 'container')} more: {numbers[len(texts) :]}"
        if hidden
        else ""
    )
    return PlainText("\n".join([*parts, more]).rstrip())


def _first_failed(context: Context, job: Job) -> dict[int, str]:
    """Return the first failed container, or the first one if none has failed, as in a job without outputs."""
    if job.details.job_input.num_containers == 1:
        return {0: ""}
    try:
        failed = _failed_containers(context, job)
    except MagicError:
        return {0: ""}
    first = next(iter(failed))
    which = "" if len(failed) == 1 else f", the first of {len(failed):,} that failed"
    return {first: f"{failed[first]}{which}"}


def _failed_containers(context: Context, job: Job) -> dict[int, str]:
    """Return the inputs of each failed container, in words, by its number. Raises MagicError if there is none."""
    containers = find_containers(context.client, job.id)
    if containers is None:
        codes = context.client.exit_codes(job.id)
        failed = {number: "" for number, code in enumerate(codes) if code}
    else:
        failed = {
            container.number: f" ({formatting.name_some([file.file for file in container.inputs])})"
            for container in containers
            if has_failed(container)
        }
    if not failed:
        raise MagicError(
            f"No container of job {formatting.short_id(job.id)} has failed: it is {job.state}. "
            "-c N shows the log of container N"
        )
    return failed


def _follow(context: Context, job: Job, number: int, stream: str) -> None:
    job.follow()
    try:
        for text in follow_log(context.client, job.id, number, stream, lambda: job.has_ended):
            print(formatting.printable(text), end="", flush=True)  # noqa: T201 - a log belongs into the cell's output
    except KeyboardInterrupt:
        context.add_note("\nYou stopped reading; the job goes on.")


COMMANDS = (
    Command("ls", "list your jobs, newest first", _configure_ls, _run_ls),
    Command("status", "show a job's card", _configure_job, _run_status),
    Command("why", "say in plain words where a job is, and why", _configure_job, _run_why),
    Command("methods", "write a paragraph on a job for a paper", _configure_job, _run_methods),
    Command(
        "watch", "wait for jobs; fails when one did not complete", _configure_jobs, _run_watch,
        details="Several jobs are one list. Interrupting leaves the jobs alone.",
    ),
    Command("cancel", "stop jobs", _configure_cancel, _run_cancel),
    Command("logs", "show what a container wrote", _configure_logs, _run_logs),
)  # fmt: skip
