"""The commands ``%cts submit``, ``check`` and ``resubmit``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from cts_core.states import JobState
from cts_core.why import memory_used
from cts_core.worker.units import format_size
from cts_jupyter import formatting
from cts_jupyter.client.faults import JOB_FIELDS
from cts_jupyter.client.models import JobPreview
from cts_jupyter.client.resubmit import Overrides, has_numbered_outputs, resubmit
from cts_jupyter.notebook import patterns
from cts_jupyter.notebook.check_report import (
    CheckReport,
    resubmission_warnings,
    submission_warnings,
)
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.magics.command import (
    Command,
    CommandParser,
    container_numbers,
    duration,
)
from cts_jupyter.notebook.magics.context import Context
from cts_jupyter.notebook.magics.inputs import collect_inputs, expand_named, pattern_words
from cts_jupyter.notebook.magics.jobs import watch_jobs
from cts_jupyter.notebook.magics.submission import (
    PartialSubmission,
    add_submission_options,
    merge,
    submission_from_options,
    submission_from_yaml,
)
from cts_jupyter.notebook.magics.yaml_cell import load_cell
from cts_jupyter.notebook.output_folder import (
    FRESH,
    OVERWRITE,
    OVERWRITE_CELL,
    check_output_folder,
    check_repeated,
    find_rival,
)
from cts_jupyter.notebook.typed_paths import object_path, with_object_paths

_REQUIRED = {
    "image": "IMAGE",
    "input_files": "input files (-i, -g or --tsv)",
    "output_dir": "--output-dir",
    "memory": "--memory",
    "runtime": "--runtime",
}
_MAX_LOOKED_BACK = 200

_DETAILS = """\
ARGS go to the container after its entrypoint. In them, and in --env, these stand for what differs by container:
  <files>                     its files, a word each; --flag=<files> joins the first to the flag
  <files:comma>               its files in one word, separated by commas
  -i <files:repeat>           the flag again before each file
  <manifest>                  the path of a file that lists its files
  <manifest:data_ids:HEADER>  the path of a file that lists their data ids below a header
  <n>                         its number from 0, as in out_<n>.tsv
Containers find their files in /input_files and leave outputs in /output_files.

As a cell, the same in YAML, with the names of the REST API. Words such as 0012, 1.10 and no are taken as they stand:
  %%cts submit -o job
  image: host/fasta-stats
  input_files: $genomes
  output_dir: demo/stats/
  memory: 200MB
  runtime: 1m
  params:
    args: [/output_files/stats.tsv, <files>]"""


def _configure_submit(parser: CommandParser) -> None:
    add_submission_options(parser)
    _add_check(parser)
    _configure_submission(parser)


def _add_check(parser: CommandParser) -> None:
    parser.add_argument("--check", action="store_true", help="check only, as %%cts check does")


def _configure_submission(parser: CommandParser) -> None:
    _add_overwrite(parser)
    parser.add_argument(
        "--watch", action="store_true", help="wait for the end; interrupting leaves the job alone"
    )
    parser.add_result_name()


def _add_overwrite(parser: CommandParser) -> None:
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="although the output folder is not empty, a live job stores outputs there, or the same was submitted",
    )


def _configure_check(parser: CommandParser) -> None:
    add_submission_options(parser)
    _add_overwrite(parser)
    parser.add_result_name()


def _configure_resubmit(parser: CommandParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument(
        "--failed", action="store_true", help="only the inputs of containers that did not complete"
    )
    parser.add_argument(
        "--containers",
        metavar="N,N",
        type=container_numbers,
        help="of those, only the ones with these numbers, such as 1,3",
    )
    parser.add_argument("--memory", metavar="M", help="per container, instead of what it was")
    parser.add_argument("--runtime", metavar="T", type=duration, help="the same for the runtime")
    parser.add_argument(
        "--output-dir", metavar="DIR", type=object_path, help="instead of a fresh folder beside it"
    )
    parser.add_argument(
        "--refresh-inputs",
        action="store_true",
        help="take inputs as they are now; otherwise those that have changed are refused",
    )
    _add_check(parser)
    _configure_submission(parser)


def _read_submission(context: Context, options: argparse.Namespace) -> PartialSubmission:
    files = collect_inputs(context, options.sources) if options.sources else []
    submission = submission_from_options(options, files, context.arguments)
    if context.cell is not None:
        submission = merge(
            submission_from_yaml(load_cell(context.cell, context.namespace)), submission
        )
    submission.body = with_object_paths(submission.body)
    if (named := submission.body.get("input_files")) is not None:
        submission.body["input_files"] = expand_named(context, named)
    _require(context, submission.body)
    submission.body.setdefault("params", {})
    if submission.body.get("cluster") is None:
        submission.body["cluster"] = _only_site(context)
    return submission


def _require(context: Context, body: dict[str, Any]) -> None:
    missing = [key for key in _REQUIRED if not body.get(key)]
    if not missing:
        return
    for key in body:
        if key not in JOB_FIELDS and formatting.nearest(key, missing):
            raise MagicError(formatting.unknown("key", key, missing))
    named = formatting.join_names(
        [_REQUIRED[key] if context.cell is None else key for key in missing]
    )
    verb = "is" if len(missing) == 1 else "are"
    hint = "see %cts help submit"
    if isinstance(body.get("image"), str) and set(missing) <= {"memory", "runtime"}:
        hint = _suggestion(context, body["image"]) or "start small, and look at what the job used"
    elif missing == ["output_dir"]:
        hint = f"name a folder of the object store for the outputs, as in {named}{'' if context.cell is None else ':'} demo/results/"
    raise MagicError(f"{named} {verb} missing: {hint}")


def _suggestion(context: Context, image: str) -> str | None:
    """Return what the user's last complete job with this image requested and used; None without one."""
    jobs = context.client.jobs(state=JobState.COMPLETE, limit=_MAX_LOOKED_BACK)
    last = next((job for job in jobs if _has_image(job, image)), None)
    if last is None:
        return None
    limits = (
        f"--memory {format_size(last.job_input.memory).replace(' ', '')} "
        f"--runtime {formatting.format_brief_duration(last.job_input.runtime)}"
    )
    memory = memory_used(last)
    used = f", and used {format_size(memory)} of memory at most" if memory else ""
    return (
        f"your last complete job with this image, {formatting.short_id(last.id)}, had {limits}, took "
        f"{formatting.format_duration(last.transition_times[-1].time - last.transition_times[0].time)}{used}"
    )


def _has_image(job: JobPreview, image: str) -> bool:
    names = {job.job_input.image, job.image.name, f"{job.image.name}:{job.image.tag}"}
    return image in names or image.partition("@")[0].rpartition(":")[0] in names


def _only_site(context: Context) -> str:
    sites = context.client.sites()
    open_ = [site.cluster for site in sites if site.active and site.available]
    if len(open_) == 1:
        return open_[0]
    if not open_:
        raise MagicError("No site takes jobs now; %cts sites says why")
    raise MagicError(f"--cluster is missing: there are {', '.join(open_)}")


def _check_output_folder(
    context: Context,
    folder: str,
    body: Mapping[str, Any] | None = None,
    *,
    way_out: str = OVERWRITE,
) -> None:
    if not context.client.supports("GET", "/files"):
        context.add_note(f"This service does not list files, so {folder} was not looked at.")
    check_output_folder(context.client, folder, body, way_out=way_out)


def _run_submit(context: Context, options: argparse.Namespace) -> Job | CheckReport:
    submission = _read_submission(context, options)
    if options.check:
        return _check(context, options, submission)
    if not options.overwrite:
        way_out = OVERWRITE if context.cell is None else OVERWRITE_CELL
        _check_output_folder(
            context, submission.body["output_dir"], submission.body, way_out=way_out
        )
    for note in submission.notes:
        context.add_note(f"Note: {note}")
    for warning in submission_warnings(submission.body):
        context.add_note(f"Warning: {warning}")
    job_id = context.client.submit(submission.body)
    if words := pattern_words(options.sources or []):
        patterns.remember(job_id, words)
    return _show(context, _accepted(context, job_id), watch=options.watch)


def _accepted(context: Context, job_id: str) -> Job:
    """Return the job of a submission that was accepted; it is bound first of all, whatever becomes of it."""
    job = context.bind(Job.accepted(context.session, job_id))
    job.try_to_follow()
    return job


def _show(context: Context, job: Job, *, watch: bool) -> Job:
    if watch:
        context.print_notes()
        watch_jobs([job])
    else:
        context.add_note(job.headline())
    return job


def _check(
    context: Context, options: argparse.Namespace, submission: PartialSubmission
) -> CheckReport:
    body = submission.body
    result = context.client.check(body)
    rival = None if options.overwrite else find_rival(context.client, body["output_dir"], body)
    return CheckReport(result, body, submission.notes, rival=rival)


def _run_check(context: Context, options: argparse.Namespace) -> CheckReport:
    return _check(context, options, _read_submission(context, options))


def _run_resubmit(context: Context, options: argparse.Namespace) -> Job | CheckReport:
    old = context.job(options.job)
    overrides = Overrides(
        only_failed=options.failed,
        memory=options.memory,
        runtime=options.runtime,
        output_dir=options.output_dir,
        refresh_inputs=options.refresh_inputs,
        containers=options.containers,
    )
    if options.check:
        return old.check_resubmission(
            only_failed=options.failed,
            containers=options.containers,
            memory=options.memory,
            runtime=options.runtime,
            output_dir=options.output_dir,
            refresh_inputs=options.refresh_inputs,
            overwrite=options.overwrite,
        )
    if options.output_dir and not options.overwrite:
        mixes = options.failed and has_numbered_outputs(old.summary)
        _check_output_folder(context, options.output_dir, way_out=FRESH if mixes else OVERWRITE)
    if not options.overwrite:
        check_repeated(context.client, old.id, overrides)
    job_id, note = resubmit(context.client, old.id, overrides)
    if note is not None:
        context.add_note(note)
    job = _accepted(context, job_id)
    for warning in resubmission_warnings(context.client, old.id, job.id, overrides):
        context.add_note(f"Warning: {warning}")
    return _show(context, job, watch=options.watch)


COMMANDS = (
    Command(
        "submit", "submit a job: an image over input files", _configure_submit, _run_submit,
        details=_DETAILS, submits=True, takes_cell=True, takes_arguments=True,
    ),
    Command(
        "check", "make every check of a submission, and show what would run; stores nothing",
        _configure_check, _run_check,
        details="Takes what %cts submit takes.", takes_cell=True, takes_arguments=True,
    ),
    Command(
        "resubmit", "submit a job again, into a fresh folder", _configure_resubmit, _run_resubmit,
        details="Inputs must be the same still, unless --refresh-inputs: changed ones are refused by their checksums.",
    ),
)  # fmt: skip
