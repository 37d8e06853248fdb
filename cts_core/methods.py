"""The paragraph on a job for the methods section of a paper. Pure functions."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cts_core.model.job import JobInput
from cts_core.model.record import JobRecord
from cts_core.model.refdata import AdminReferenceData
from cts_core.model.service import SERVICE_NAME
from cts_core.placeholders import format_arguments, format_placeholder
from cts_core.states import TERMINAL, JobState
from cts_core.version import VERSION
from cts_core.worker.units import format_seconds, format_size

_LEGEND = " There, <files> are the input files of a container, <manifest> is a list of them, and <n> is its number from 0."


def describe_methods(job: JobRecord, refdata: AdminReferenceData | None) -> str:
    """Return what was run, on what, where and when."""
    return " ".join(_sentences(job, refdata))


def inputs_digest(job: JobInput) -> str:
    """Return the SHA-256 of the list of inputs: ``PATH<TAB>CHECKSUM`` on a line each, sorted."""
    lines = sorted(f"{file.file}\t{file.crc64nvme or ''}\n" for file in job.files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sentences(job: JobRecord, refdata: AdminReferenceData | None) -> Iterator[str]:
    request, image = job.job_input, job.image
    begun, last = (_time(job.transition_times[n].time) for n in (0, -1))
    when = f"from {begun} to {last}" if job.state in TERMINAL else f"since {begun}"
    yield f"Job {job.id} ran in the {SERVICE_NAME} at the site {job.cluster.value}, {when}."
    if job.state is not JobState.COMPLETE:
        yield f"It did not complete: its state was {job.state.value}."
    tag = f":{image.tag}" if image.tag else ""
    yield (
        f"The image {image.name}{tag} ({image.digest}) ran in {_count(request.num_containers, 'container')}, each with "
        f"{_count(request.cpus, 'cpu')}, {format_size(request.memory)} of memory and a runtime of at most "
        f"{_duration(request.runtime)}, as: {_command(job)}"
    )
    yield (
        f"The inputs were {_count(len(request.files), 'file')}; the list of their paths and CRC64/NVME checksums, with a line "
        f"PATH<TAB>CHECKSUM for each, sorted, has the SHA-256 {inputs_digest(request)}."
    )
    if refdata is not None:
        yield (
            f"The reference data were {refdata.file} (CRC64/NVME {refdata.crc64nvme or 'unknown'}, registered as "
            f"{refdata.id})."
        )
    yield from _usage(job)
    # A record does not tell by which version its job ran.
    yield f"This was written by version {VERSION} of CTS for Jupyter."


def _command(job: JobRecord) -> str:
    params = job.job_input.params.model_dump(mode="json", exclude_none=True)
    words = [*job.image.entrypoint, *format_arguments(params.get("args", []))]
    # Placeholders are for people to read, so that their brackets stay as they are.
    line = " ".join(word if "<" in word else shlex.quote(word) for word in words)
    variables = [f"{name}={_value(value)}" for name, value in params.get("environment", {}).items()]
    if variables:
        line += f" (with {', '.join(variables)})"
    return f"{line}.{_LEGEND}" if "<" in line else f"{line}."


def _value(value: str | Mapping[str, Any]) -> str:
    return value if isinstance(value, str) else format_placeholder(value)


def _usage(job: JobRecord) -> Iterator[str]:
    used = []
    if job.cpu_hours is not None:
        used.append(f"{_duration(timedelta(hours=job.cpu_hours))} of cpu time")
    if job.max_memory is not None:
        used.append(f"at most {format_size(job.max_memory)} of memory in a container")
    if used:
        yield f"It used {' and '.join(used)}."
    if job.output_file_count:
        yield (
            f"Its {_count(job.output_file_count, 'output')} in {job.job_input.output_dir} "
            f"{'has' if job.output_file_count == 1 else 'have'} CRC64/NVME checksums, too."
        )


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _duration(duration: timedelta) -> str:
    return format_seconds(duration.total_seconds())


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
