"""A job in place of paths: it stands for its outputs, with ``--family`` for those of its whole lineage."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from cts_core.object_paths import as_folder
from cts_jupyter import formatting
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.lookups import find_family, find_file
from cts_jupyter.client.models import JobOutput, StoredObject
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.magics.command import CommandParser
from cts_jupyter.notebook.magics.context import Context, is_path


def add_family(parser: CommandParser) -> None:
    """Add ``--family``."""
    parser.add_argument(
        "--family",
        action="store_true",
        help="of a job, also what its resubmissions left, and what it is a resubmission of, as of one job",
    )


def check_family(places: Iterable[str], *, family: bool) -> None:
    """Raise MagicError for ``--family`` of a path."""
    paths = [place for place in places if is_path(place)]
    if family and paths:
        raise MagicError(f"--family is for jobs, and {paths[0]} is a path")


def find_outputs(job: Job, *, family: bool) -> Sequence[JobOutput]:
    """Return the outputs that a job stands for. Raises MagicError when there are none."""
    outputs = job.all_outputs() if family else job.outputs
    if not outputs:
        short = formatting.short_id(job.id)
        state = formatting.format_state(job.state).lower()
        if job.has_ended:
            raise MagicError(
                f"Job {short} has no outputs: it is {state}. %cts why {short} says more"
            )
        raise MagicError(
            f"Job {short} has no outputs yet: it is {state}. %cts watch {short} waits for its end"
        )
    return outputs


def family_notes(context: Context, job: Job, outputs: Sequence[JobOutput]) -> Iterator[str]:
    """Yield which outputs are of which job of a lineage, which inputs lack them, and which are lost."""
    page = find_family(context.client, job.id)
    if page is None:
        return
    folders = _folders(context, outputs)
    counts = Counter(output.job_id for output in outputs)
    for job_id in filter(counts.__getitem__, page.jobs):
        yield (
            f"Of job {formatting.short_id(job_id)}: {formatting.plural(counts[job_id], 'output')} in {folders[job_id]}"
        )
    if page.open_inputs:
        yield _describe_open(page.open_inputs, len(page.jobs))
    if page.replaced:
        lost = [
            f"{output.file} (container {output.container} of job {formatting.short_id(output.job_id)})"
            for output in page.replaced
        ]
        yield f"Replaced by outputs that a later job has of other inputs, and lost: {formatting.name_some(lost)}"


def _describe_open(inputs: int, jobs: int) -> str:
    which = "none of these jobs has" if jobs > 1 else "this job has not"
    verb, them = ("is", "it") if inputs == 1 else ("are", "them")
    return f"{formatting.plural(inputs, 'input')} {verb} still to be done: {which} completed {them}"


def has_family(context: Context, job_id: str) -> bool:
    """Return whether a job is a resubmission, or has one."""
    page = find_family(context.client, job_id)
    return page is not None and len(page.jobs) > 1


def local_names(
    context: Context, outputs: Sequence[JobOutput], *, family: bool
) -> Iterator[tuple[str, str]]:
    """Yield each output's path, and its path below a local folder; there, each job of a lineage has its own folder."""
    folders = _folders(context, outputs)
    for output in outputs:
        folder = folders[output.job_id]
        base = folder.rstrip("/").rpartition("/")[0] + "/" if family else folder
        yield output.file, output.file.removeprefix(base)


def as_stored(
    context: Context, outputs: Sequence[JobOutput]
) -> tuple[list[StoredObject], list[str]]:
    """Return the objects that are stored for outputs, and the paths of outputs that are missing."""
    there: dict[str, StoredObject] = {}
    for folder in _folders(context, outputs).values():
        there |= {file.path: file for file in context.client.iter_files(folder)}
    paths = [output.file for output in outputs]
    there |= _unlisted(context.client, [path for path in paths if path not in there])
    return [there[p] for p in paths if p in there], [p for p in paths if p not in there]


def _unlisted(client: CTSClient, paths: Sequence[str]) -> dict[str, StoredObject]:
    """Return the objects at these paths that no listing has: some stores leave out what lies below another object."""
    is_object = functools.cache(lambda folder: find_file(client, folder) is not None)
    found = {}
    for path in paths:
        hidden = any(is_object(folder) for folder in _above(path))
        if hidden and (file := find_file(client, path)):
            found[path] = file
    return found


def _above(path: str) -> Iterator[str]:
    folder = path.rpartition("/")[0]
    while "/" in folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _folders(context: Context, outputs: Sequence[JobOutput]) -> dict[str, str]:
    """Return each job's output folder, with a slash at the end."""
    jobs = dict.fromkeys(output.job_id for output in outputs)
    return {job_id: as_folder(context.client.job(job_id).job_input.output_dir) for job_id in jobs}
