"""The paragraph on a job for the methods section of a paper. Pure functions."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cts_core.model.job import S3File
from cts_core.model.parameters import ParameterType
from cts_core.model.record import JobRecord
from cts_core.model.refdata import AdminReferenceData
from cts_core.model.service import SERVICE_NAME
from cts_core.placeholders import format_arguments, format_placeholder
from cts_core.states import TERMINAL, JobState
from cts_core.version import VERSION
from cts_core.why import memory_used
from cts_core.worker.units import format_seconds, format_size

_LEGEND = {
    ParameterType.INPUT_FILES: "<files> are the input files of a container",
    ParameterType.MANIFEST_FILE: "<manifest> is a file that lists the input files of a container",
    ParameterType.CONTAINER_NUMBER: "<n> is the number of a container, from 0",
}


def describe_methods(
    job: JobRecord, refdata: AdminReferenceData | None, lineage: Sequence[str] = ()
) -> str:
    """Return what was run, on what, where and when. ``lineage`` has the ids of the job's lineage, oldest first."""
    return " ".join(_sentences(job, refdata, lineage))


def files_digest(files: Iterable[S3File]) -> str:
    """Return the SHA-256 of a list of files: ``PATH<TAB>CHECKSUM`` on a line each, sorted."""
    lines = sorted(f"{file.file}\t{file.crc64nvme or ''}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sentences(
    job: JobRecord, refdata: AdminReferenceData | None, lineage: Sequence[str]
) -> Iterator[str]:
    request, image = job.job_input, job.image
    begun, last = (_time(job.transition_times[n].time) for n in (0, -1))
    when = f"from {begun} to {last}" if job.state in TERMINAL else f"since {begun}"
    yield f"Job {job.id} ran in the {SERVICE_NAME} at the site {job.cluster.value}, {when}."
    if job.state is not JobState.COMPLETE:
        yield f"It did not complete: its state was {job.state.value}."
    yield from _family(job, lineage)
    tag = f":{image.tag}" if image.tag else ""
    yield (
        f"The image {image.name}{tag} ({image.digest}) ran in {_count(request.num_containers, 'container')}, each with "
        f"{_count(request.cpus, 'cpu')}, {format_size(request.memory)} of memory and a runtime of at most "
        f"{_duration(request.runtime)}, as: {_command(job)}"
    )
    inputs = len(request.files)
    yield (
        f"The {'input was' if inputs == 1 else 'inputs were'} {_count(inputs, 'file')}; the list of paths and CRC64/NVME "
        f"checksums, with a line PATH<TAB>CHECKSUM for each, sorted, has the SHA-256 {files_digest(request.files)}."
    )
    if refdata is not None:
        yield (
            f"The reference data were {refdata.file} (CRC64/NVME {refdata.crc64nvme or 'unknown'}, registered as "
            f"{refdata.id})."
        )
    yield from _usage(job)
    # A record does not tell by which version its job ran.
    yield f"This was written by version {VERSION} of CTS for Jupyter."


def _family(job: JobRecord, lineage: Sequence[str]) -> Iterator[str]:
    if job.parent_id is not None:
        yield f"It is a resubmission of job {job.parent_id}."
    if len(lineage) > 1:
        yield (
            f"Together, the jobs {', '.join(lineage)}, of which each after the first is a resubmission of another, have the "
            "outputs of these inputs."
        )


def _command(job: JobRecord) -> str:
    params = job.job_input.params.model_dump(mode="json", exclude_none=True)
    words = [*job.image.entrypoint, *format_arguments(params.get("args", []))]
    # Placeholders are for people to read, so that their brackets stay as they are.
    line = " ".join(word if "<" in word else shlex.quote(word) for word in words)
    variables = [f"{name}={_value(value)}" for name, value in params.get("environment", {}).items()]
    if variables:
        line += f" (with {', '.join(variables)})"
    used = {parameter.type for parameter in job.job_input.params.parameters()}
    legend = [words for type_, words in _LEGEND.items() if type_ in used]
    return f"{line}. There, {', and '.join(legend)}." if legend else f"{line}."


def _value(value: str | Mapping[str, Any]) -> str:
    return value if isinstance(value, str) else format_placeholder(value)


def _usage(job: JobRecord) -> Iterator[str]:
    used = []
    if job.cpu_hours is not None:
        used.append(f"{_duration(timedelta(hours=job.cpu_hours))} of cpu time")
    memory = memory_used(job)
    if memory is not None:
        used.append(f"at most {format_size(memory)} of memory in a container")
    if used:
        yield f"It used {' and '.join(used)}."
    if job.output_file_count:
        yield (
            f"Its {_count(job.output_file_count, 'output')} in {job.job_input.output_dir} "
            f"{'has' if job.output_file_count == 1 else 'have'} CRC64/NVME checksums, too{_outputs_digest(job)}."
        )


def _outputs_digest(job: JobRecord) -> str:
    return (
        f"; their list, written in the same way, has the SHA-256 {files_digest(job.outputs)}"
        if job.outputs
        else ""
    )


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _duration(duration: timedelta) -> str:
    return format_seconds(duration.total_seconds())


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
