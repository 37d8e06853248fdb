"""The columns of the tables that commands and jobs return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cts_core.model.refdata import ReferenceDataState
from cts_core.why import has_failed, memory_used
from cts_core.worker.units import format_seconds, format_size
from cts_jupyter import formatting
from cts_jupyter.client.api.refdata import Refdata
from cts_jupyter.client.models import (
    AllowedPath,
    Container,
    Image,
    JobCount,
    JobOutput,
    S3File,
    Site,
    StoredObject,
)
from cts_jupyter.examples.example import Example
from cts_jupyter.notebook.table import Column, Table

STORED, MISSING, MISMATCH = "stored", "missing", "mismatch"
_CHECKSUM_WORDS = {
    STORED: "",
    MISSING: "no checksum",
    MISMATCH: "CHANGED: not the bytes of its checksum",
}


_STAGED_WORDS: Mapping[str, str] = {
    ReferenceDataState.CREATED: "waits to be staged",
    ReferenceDataState.DOWNLOAD_SUBMITTED: "is being staged",
    ReferenceDataState.COMPLETE: "there",
    ReferenceDataState.ERROR: "failed",
}


def file_table(
    files: Sequence[StoredObject], *, empty: str, notes: Sequence[str] = ()
) -> Table[StoredObject]:
    """Return a table of stored files with their sizes and checksums."""
    return Table(
        [
            Column("file", lambda f: f.path),
            Column("size", lambda f: format_size(f.size), lambda f: f.size, is_number=True),
            Column("CRC64/NVME", lambda f: f.crc64nvme or "-", lambda f: f.crc64nvme),
            Column("checksum", lambda f: _CHECKSUM_WORDS.get(f.checksum, f.checksum), lambda f: f.checksum),
            Column("modified", lambda f: formatting.format_time(f.modified), lambda f: f.modified),
        ],
        files,
        empty=empty,
        notes=notes,
    )  # fmt: skip


def input_table(files: Sequence[S3File]) -> Table[S3File]:
    """Return a table of a job's inputs, as they were when it was submitted."""
    return Table(
        [
            Column("file", lambda f: f.file),
            Column("data id", lambda f: f.data_id or "", lambda f: f.data_id),
            Column("CRC64/NVME", lambda f: f.crc64nvme or "-", lambda f: f.crc64nvme),
        ],
        files,
        empty="The job has no inputs",
    )


def root_table(roots: Sequence[AllowedPath]) -> Table[AllowedPath]:
    """Return a table of the folders in which a user can look for objects."""
    return Table(
        [Column("folder", lambda r: r.path), Column("you may", lambda r: r.perm)],
        roots,
        empty="There is no bucket yet: %cts put LOCAL BUCKET/FOLDER/ creates one with its first file",
        notes=["%cts files FOLDER/ lists what is there"] if roots else [],
    )


def output_table(files: Sequence[JobOutput]) -> Table[JobOutput]:
    """Return a table of outputs as a job recorded them."""
    return Table(
        [
            Column("file", lambda f: f.file),
            Column("container", _format_writer, lambda f: f.container, is_number=True),
            Column("CRC64/NVME", lambda f: f.crc64nvme or "-", lambda f: f.crc64nvme),
        ],
        files,
        empty="No outputs yet",
    )


def _format_writer(output: JobOutput) -> str:
    """Return the container that wrote an output; nothing from a service that does not say."""
    return "" if output.container is None else str(output.container)


@dataclass(frozen=True)
class Verdict:
    """The result of comparing one file with its recorded checksum."""

    path: str
    recorded: str | None
    """The CRC64/NVME that the bytes should have."""
    found: str | None
    """The CRC64/NVME of the stored bytes."""
    verdict: str
    is_good: bool


def verdict_table(verdicts: Sequence[Verdict]) -> Table[Verdict]:
    """Return a table of verified files."""
    return Table(
        [
            Column("file", lambda v: v.path),
            Column("CRC64/NVME", lambda v: v.recorded or "-", lambda v: v.recorded),
            Column("verdict", lambda v: v.verdict),
        ],
        verdicts,
        empty="No files to verify",
    )


def container_table(containers: Sequence[Container]) -> Table[Container]:
    """Return a table of a job's containers; those that failed come first."""
    return Table(
        [
            Column("container", lambda c: str(c.number), lambda c: c.number, is_number=True),
            Column("state", lambda c: formatting.format_state(c.state), lambda c: c.state),
            Column("exit code", lambda c: "" if c.exit_code is None else str(c.exit_code),
                   lambda c: c.exit_code, is_number=True),
            Column("inputs", _format_inputs, lambda c: [file.file for file in c.inputs]),
            Column("outputs", lambda c: str(len(c.outputs)), lambda c: len(c.outputs), is_number=True),
            Column("took", lambda c: _format_optional(c.wall_seconds, format_seconds), lambda c: c.wall_seconds,
                   is_number=True),
            Column("memory", lambda c: _format_optional(memory_used(c), format_size), memory_used,
                   is_number=True),
            Column("error", lambda c: formatting.first_line(c.error or ""), lambda c: c.error, is_below=True),
        ],
        sorted(containers, key=lambda c: not has_failed(c)),
        empty="The job has no containers",
    )  # fmt: skip


def _format_inputs(container: Container) -> str:
    names = [file.file.rpartition("/")[2] for file in container.inputs]
    return f"{names[0]} and {len(names) - 1:,} more" if len(names) > 1 else "".join(names)


def _format_optional(value: float | None, format_: Callable[[float], str]) -> str:
    return "" if value is None else format_(value)


def image_reference(image: Image) -> str:
    """Return an image's name with its tag if it has one, else with its digest."""
    return f"{image.name}:{image.tag}" if image.tag else f"{image.name}@{image.digest}"


def image_table(images: Sequence[Image], *, empty: str) -> Table[Image]:
    """Return a table of registered images."""
    return Table(
        [
            Column("image", image_reference),
            Column("runs", lambda i: " ".join(i.entrypoint)),
            Column("refdata", lambda i: i.refdata_id or ""),
            Column("registered", lambda i: formatting.format_time(i.registered_on), lambda i: i.registered_on),
            Column("digest", lambda i: i.digest),
        ],
        images,
        empty=empty,
    )  # fmt: skip


def refdata_table(refdata: Sequence[Refdata], *, empty: str) -> Table[Refdata]:
    """Return a table of reference data and its staging at each site."""
    return Table(
        [
            Column("id", lambda r: r.id),
            Column("file", lambda r: r.file),
            Column("unpacked", lambda r: "yes" if r.unpack else "", lambda r: r.unpack),
            Column("at", _format_staging, lambda r: {s.cluster: s.state for s in r.statuses}),
            Column("registered", lambda r: formatting.format_time(r.registered_on), lambda r: r.registered_on),
            Column("CRC64/NVME", lambda r: r.crc64nvme or "-", lambda r: r.crc64nvme),
        ],
        refdata,
        empty=empty,
    )  # fmt: skip


def _format_staging(refdata: Refdata) -> str:
    stagings = []
    for status in refdata.statuses:
        why = f" ({status.error})" if status.error else ""
        stagings.append(f"{status.cluster}: {_STAGED_WORDS.get(status.state, status.state)}{why}")
    return "; ".join(stagings)


def count_table(counts: Sequence[JobCount]) -> Table[JobCount]:
    """Return a table of the numbers of jobs by site and state."""
    return Table(
        [
            Column("cluster", lambda c: c.cluster),
            Column("state", lambda c: formatting.format_state(c.state), lambda c: c.state),
            Column("jobs", lambda c: f"{c.count:,}", lambda c: c.count, is_number=True),
        ],
        counts,
        empty="You have no jobs",
    )


def site_table(sites: Sequence[Site], *, notes: Sequence[str] = ()) -> Table[Site]:
    """Return a table of a service's sites."""
    return Table(
        [
            Column("cluster", lambda s: s.cluster),
            Column("open", _format_open, lambda s: s.active and s.available),
            Column("cpus", lambda s: str(s.cpus_per_node), lambda s: s.cpus_per_node, is_number=True),
            Column("memory", lambda s: f"{s.memory_per_node_gb} GB", lambda s: s.memory_per_node_gb,
                   is_number=True),
            Column("longest run", lambda s: format_seconds(60 * s.max_runtime_min),
                   lambda s: s.max_runtime_min, is_number=True),
            Column("notes", lambda s: "; ".join(s.notes), is_below=True),
        ],
        sites,
        empty="The service has no sites",
        notes=notes,
    )  # fmt: skip


def _format_open(site: Site) -> str:
    if not site.active:
        return "no: switched off by an operator"
    return "yes" if site.available else f"no: {site.unavailable_reason or 'it cannot be reached'}"


def example_table(examples: Sequence[Example], *, notes: Sequence[str] = ()) -> Table[Example]:
    """Return a table of the example notebooks."""
    return Table(
        [
            Column("name", lambda e: e.name),
            Column("title", lambda e: e.title),
            Column("about", lambda e: e.summary, is_below=True),
        ],
        examples,
        empty="There are no examples",
        notes=notes,
    )
