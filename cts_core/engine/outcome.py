"""The outcome of a job as a pure function of its containers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cts_core.model.job import S3File
from cts_core.model.record import (
    ContainerOutcome,
    ContainerRecord,
    JobOutcome,
    JobSummary,
    set_fields,
)
from cts_core.states import JobState
from cts_core.why import NON_ZERO_EXIT
from cts_core.worker import checksum

UNEXPECTED = "An unexpected error occurred."
_MAX_TEXT = 10_000
"""Characters that are kept of a text that does not fit into the record."""
_MAX_NAMED = 10
"""Failed containers or overwritten paths that one message names."""


def has_begun(container: ContainerRecord) -> bool:
    """Return whether the container's program was started."""
    return any(step.state is JobState.JOB_SUBMITTED for step in container.transition_times)


def _all_outputs(containers: Sequence[ContainerRecord]) -> list[S3File]:
    """Return every output in the order of the containers; an overwritten path occurs once per writer."""
    return [output for container in containers for output in container.outputs or []]


def overwritten(containers: Sequence[ContainerRecord]) -> list[str]:
    """Return the paths that more than one container wrote, sorted."""
    times = Counter(output.file for output in _all_outputs(containers))
    return sorted(path for path, count in times.items() if count > 1)


def with_measures(
    containers: Sequence[ContainerRecord], measured: Mapping[int, ContainerOutcome]
) -> list[ContainerRecord]:
    """Return the containers with what their site measured, where their workers reported nothing."""
    return [
        c.model_copy(update={**set_fields(measured[c.sub_id]), **set_fields(c)})
        if c.sub_id in measured
        else c
        for c in containers
    ]


def usage(job: JobSummary, containers: Sequence[ContainerRecord]) -> JobOutcome:
    """Return the resource usage and the warnings of the containers; what no container has measured stays unset."""
    warnings = _limit_lines(
        [f"Container {c.sub_id}: {w}" for c in containers for w in c.warnings or []]
    )
    cpu = [c.cpu_seconds for c in containers if c.cpu_seconds is not None]
    wall = sum(c.wall_seconds or 0 for c in containers)
    return JobOutcome(
        cpu_hours=sum(cpu) / 3600 if cpu else None,
        cpu_factor=sum(cpu) / (wall * job.job_input.cpus) if cpu and wall else None,
        max_memory=_largest(c.max_memory for c in containers),
        max_anonymous_memory=_largest(c.max_anonymous_memory for c in containers),
        warnings=[*warnings, *_overwriting_warnings(containers)] or None,
    )


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _overwriting_warnings(containers: Sequence[ContainerRecord]) -> list[str]:
    paths = overwritten(containers)
    if not paths:
        return []
    warning = (
        f"More than one container wrote {_name(paths)}, and only the last one written was kept. "
        "Submit with the container's number in the names of outputs, or with declobber to keep the outputs of each "
        "container in a folder of its own."
    )
    return [warning]


def unlisted_warning(paths: Sequence[str], hiding: Sequence[str]) -> str:
    """Return the warning that the object store has outputs and does not list them, because of objects in their way."""
    return (
        f"The object store has {_name(paths)}, and leaves it out of listings, because of the object {_name(hiding)} in the "
        "place of a folder. It can be read by its path, and is not found by way of a folder: have the outputs named "
        "otherwise, or name another output folder."
    )


def _name(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _MAX_NAMED} more" if len(paths) > _MAX_NAMED else ""
    return ", ".join(paths[:_MAX_NAMED]) + more


def completed(
    job: JobSummary, containers: Sequence[ContainerRecord], actual: dict[str, str]
) -> JobOutcome:
    """Return the outcome of a job whose containers have all completed.

    ``actual`` has the checksum that the object store holds for each path that was written more than once: the
    last writer won, and only the store knows which one that was.
    """
    outputs = {output.file: output for output in _all_outputs(containers)}
    for path, crc64nvme in actual.items():
        outputs[path] = S3File(file=path, crc64nvme=crc64nvme)
    used = usage(job, containers)
    warnings = [*(used.warnings or []), *_nothing_warnings(containers, list(outputs.values()))]
    return used.model_copy(
        update={
            "outputs": list(outputs.values()),
            "output_file_count": len(outputs),
            "warnings": warnings or None,
        }
    )


def _nothing_warnings(
    containers: Sequence[ContainerRecord], outputs: Sequence[S3File]
) -> Iterator[str]:
    """Yield a warning about containers that ended well without outputs, and one about empty outputs."""
    idle = [str(c.sub_id) for c in containers if not c.outputs]
    if idle:
        yield f"Ended well, and wrote no output file: container {_name(idle)}"
    empty = sorted(output.file for output in outputs if output.crc64nvme == checksum.EMPTY)
    if empty:
        are = "is" if len(empty) == 1 else "are"
        yield f"{len(empty)} of {len(outputs)} output files {are} empty (0 bytes), although the program ended well: {_name(empty)}"


def failed(job: JobSummary, containers: Sequence[ContainerRecord]) -> JobOutcome:
    """Return the outcome of a job of which at least one container failed."""
    broken = [c for c in containers if c.state is JobState.ERROR]
    details = [f"Container {c.sub_id}: {c.admin_error}" for c in broken if c.admin_error]
    return usage(job, containers).model_copy(
        update={
            "error": _error_sentence(broken),
            "admin_error": "\n".join(_limit_lines(details)) or None,
            "traceback": next((c.traceback for c in broken if c.traceback), None),
        }
    )


def truncate(job: JobSummary, outcome: JobOutcome) -> JobOutcome:
    """Return what is kept of a job's outcome that is too large for the record."""
    error = outcome.error
    if outcome.outputs is not None:
        error = _too_many(len(outcome.outputs), "The job", job)
    return outcome.model_copy(
        update={
            "outputs": None,
            "output_file_count": None,
            "warnings": None,
            "error": error and error[:_MAX_TEXT],
            "admin_error": error and (outcome.admin_error or error)[:_MAX_TEXT],
            "traceback": None,
        }
    )


def truncate_container(job: JobSummary, number: int, outcome: ContainerOutcome) -> ContainerOutcome:
    """Return what is kept of a container's outcome that is too large for the record."""
    error = outcome.error
    if outcome.outputs is not None:
        error = _too_many(len(outcome.outputs), f"Container {number}", job)
    return outcome.model_copy(
        update={
            "outputs": None,
            "warnings": None,
            "error": error and error[:_MAX_TEXT],
            "admin_error": (outcome.admin_error or error or "")[:_MAX_TEXT] or None,
            "traceback": None,
        }
    )


def _too_many(count: int, what: str, job: JobSummary) -> str:
    return (
        f"{what} has stored {count} output files below {job.job_input.output_dir}, and their list is more than "
        "the records of this service can keep of one job. The files are there. Write fewer of them, such as an "
        "archive a container, or submit smaller jobs."
    )


def _error_sentence(broken: Sequence[ContainerRecord]) -> str:
    messages = [f"Container {c.sub_id}: {c.error}" for c in broken if c.error]
    if messages:
        return "\n".join(_limit_lines(messages))
    if any(c.exit_code for c in broken):
        return NON_ZERO_EXIT
    return UNEXPECTED


def _limit_lines(lines: list[str]) -> list[str]:
    if len(lines) <= _MAX_NAMED:
        return lines
    return [*lines[:_MAX_NAMED], f"and {len(lines) - _MAX_NAMED} more"]
