"""Jobs: submissions, and responses about jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema

from cts_core import object_paths as paths
from cts_core.model.base import Closed, Crc64Nvme, Record, UTCTime, no_control_characters
from cts_core.model.image import ImageName, JobImage
from cts_core.model.parameters import ManifestFileFormat, Parameters
from cts_core.model.site import SITE_LIMITS, SiteName
from cts_core.states import JobState

MAX_INPUT_FILES = 10_000
MAX_CONTAINERS = 1000
MAX_LABELS = 20
MIN_MEMORY, MAX_MEMORY = 1_000_000, 990_000_000_000
MAX_RUNTIME = timedelta(minutes=max(site.max_runtime_min for site in SITE_LIMITS.values()))
"""The longest runtime at the sites whose limits are known; another site's own settings bound it there."""

S3Path = Annotated[
    str, BeforeValidator(paths.check_path), StringConstraints(min_length=5, max_length=1088)
]

STORED = {"stored": True}
"""The validation context of what was stored, maybe by the rules of an earlier version."""


def _check_folder(path: object, info: ValidationInfo) -> str:
    if info.context == STORED:
        # Once without the slash at its end, which may make it longer than a key can be. Such a job fails when it starts.
        return paths.as_folder(paths.check_path(path))
    return paths.check_folder(path)


S3Folder = Annotated[
    str, BeforeValidator(_check_folder), StringConstraints(min_length=5, max_length=1088)
]
DataId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    AfterValidator(no_control_characters),
]


def _bound_memory(schema: JsonDict) -> None:
    """Add the bounds to a schema of bytes: pydantic's own, ge and le, mean nothing in JSON schema."""
    if "anyOf" in schema:
        schema |= {"minimum": MIN_MEMORY, "maximum": MAX_MEMORY}


Memory = Annotated[
    ByteSize,
    Field(
        ge=MIN_MEMORY,
        le=MAX_MEMORY,
        json_schema_extra=_bound_memory,
    ),
]
_BOUNDED_RUNTIME = TypeAdapter(Annotated[timedelta, Field(le=MAX_RUNTIME)])
MetaValue = str | int | float
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f]*$")]
Labels = Annotated[
    dict[LabelKey, LabelValue],
    Field(max_length=MAX_LABELS, json_schema_extra={"additionalProperties": False}),
]


class S3File(Closed):
    """An object and its checksum."""

    file: S3Path
    crc64nvme: Crc64Nvme | None = None


class S3FileWithDataID(S3File):
    """An input object with the id of the data unit that it belongs to."""

    data_id: DataId | None = None


def _check_files(files: list[str] | list[S3FileWithDataID]) -> list[str] | list[S3FileWithDataID]:
    if isinstance(files[0], str):
        return paths.check_paths(files)
    with_id = sum(getattr(file, "data_id", None) is not None for file in files)
    if with_id not in (0, len(files)):
        raise ValueError("Either all or no files must have data IDs")
    return files


def _check_roots(roots: object) -> object:
    if not isinstance(roots, list):
        return roots
    return [paths.check_root(root, index=index) for index, root in enumerate(roots)]


class JobInputPreview(Closed):
    """A submission without its input files, as listings show it."""

    cluster: SiteName
    image: ImageName
    params: Parameters
    num_containers: Annotated[int, Field(ge=1, le=MAX_CONTAINERS)] = 1
    cpus: Annotated[int, Field(ge=1, le=256)] = 1
    """Per container."""
    memory: Memory = ByteSize(10_000_000)
    """Bytes per container; ``10MB`` and ``1.5GiB`` are understood on input."""
    runtime: Annotated[timedelta, Field(ge=timedelta(seconds=1))] = timedelta(seconds=60)
    """Per container, ISO-8601 on output."""
    input_roots: Annotated[list[str] | None, BeforeValidator(_check_roots)] = None
    output_dir: S3Folder

    @field_validator("runtime", mode="after")
    @classmethod
    def _check_runtime(cls, runtime: timedelta, info: ValidationInfo) -> timedelta:
        site = info.data.get("cluster")
        if site is None or site in SITE_LIMITS:
            _BOUNDED_RUNTIME.validate_python(runtime)
        return runtime


class JobInput(JobInputPreview):
    """A submission as the contract defines it."""

    input_files: Annotated[
        list[str] | list[S3FileWithDataID],
        Field(
            min_length=1,
            max_length=MAX_INPUT_FILES,
            # For a union of lists pydantic emits only the bounds of texts.
            json_schema_extra={"minItems": 1, "maxItems": MAX_INPUT_FILES},
        ),
        AfterValidator(_check_files),
    ]

    @model_validator(mode="after")
    def _check_input(self) -> Self:
        if self.num_containers > len(self.input_files):
            raise ValueError(
                "num_containers must be less than or equal to the number of input files"
            )
        manifest = self.params.manifest
        if (
            manifest is not None
            and manifest.manifest_file_format is ManifestFileFormat.DATA_IDS
            and getattr(self.input_files[0], "data_id", None) is None
        ):
            raise ValueError("A manifest of data IDs requires a data ID for every input file")
        return self

    @property
    def input_paths(self) -> list[str]:
        """The paths of the input files."""
        return [f if isinstance(f, str) else f.file for f in self.input_files]

    @property
    def files(self) -> list[S3FileWithDataID]:
        """The input files in one form, whether they were given as paths or as objects."""
        # The paths were checked with the whole list, and need no second check.
        return [
            S3FileWithDataID.model_construct(file=f, crc64nvme=None, data_id=None)
            if isinstance(f, str)
            else f
            for f in self.input_files
        ]

    @property
    def cpu_hours(self) -> float:
        """The maximum of CPU hours that the job can use."""
        return self.cpus * self.num_containers * self.runtime.total_seconds() / 3600


class Submission(JobInput):
    """A submission with CTS's own additions, which ``job_input`` leaves out."""

    labels: Labels = Field(default_factory=dict)

    def job_input(self) -> JobInput:
        """Return the part that the contract defines."""
        # The fields are valid already: dumping and parsing 10,000 files would take seconds.
        return JobInput.model_construct(
            _fields_set=self.model_fields_set - {"labels"},
            **{name: getattr(self, name) for name in JobInput.model_fields},
        )


class NewLabels(Closed):
    """The labels of a job, which replace those that it has."""

    labels: Labels


class JobStateTransition(Record):
    """A state and when it was reached, by the clock of the reporting process."""

    state: JobState
    time: UTCTime


class JobStatus(Record):
    """The state of a job."""

    id: str
    state: JobState
    transition_times: list[JobStateTransition]
    user: str
    admin_meta: dict[str, MetaValue] = Field(default_factory=dict)
    containers: dict[str, int] | SkipJsonSchema[None] = None
    """The number of containers in each state, of a job that is not complete, where the request asks for it."""
    waits_for: str | SkipJsonSchema[None] = None
    """What keeps a job from going on that has not ended, in one sentence, such as an outage of its site; absent if nothing does."""


class _JobBase(JobStatus):
    image: JobImage
    input_file_count: int
    output_file_count: int | None = None
    cpu_hours: float | None = None
    """User and system time of all containers, in hours."""
    cpu_factor: float | None = None
    """CPU seconds divided by (wall seconds times requested cpus)."""
    max_memory: int | None = None
    """Bytes; the maximum over the containers. Of a container it includes the page cache."""
    max_anonymous_memory: int | None = None
    """Bytes; the part of it that is no page of a file, which is what the program needs. The maximum over the containers."""
    error: str | None = None
    logpath: str | None = None
    labels: dict[str, str] | None = None
    warnings: list[str] | None = None
    """Problems that did not make the job fail, such as outputs that overwrote each other."""
    parent_id: str | None = None
    """The job of which this is a resubmission."""

    @field_validator("labels", "warnings", mode="after")
    @classmethod
    def _absent_when_empty(cls, value: object) -> object:
        return value or None


class JobPreview(_JobBase):
    """A job in a listing: everything but input files and outputs."""

    job_input: JobInputPreview


class Job(_JobBase):
    """A job as its owner sees it."""

    job_input: JobInput
    outputs: list[S3File] | None = None


class HTCondorDetails(Record):
    """The job's clusters at HTCondor."""

    cluster_id: list[int]


class NERSCDetails(Record):
    """The transfers of a job at NERSC."""

    download_task_id: list[str]
    # The schema has no null, as in the contract: fields that are not set are omitted.
    upload_task_id: list[str] | SkipJsonSchema[None] = None
    log_upload_task_id: list[str] | SkipJsonSchema[None] = None


class JAWSDetails(Record):
    """The runs of a job at JAWS."""

    run_id: list[str]


class Jobs(Record):
    """One page of a listing of jobs."""

    jobs: list[JobPreview]
    next: str | None = None
    """The cursor of the next page; absent on the last."""
    is_cut: bool | None = None
    """True if a text search covered only the latest jobs, and there are more."""
    searched_until: UTCTime | None = None
    """The sort time of the oldest job that such a search covered; with ``before`` it, the same search goes on where jobs are sorted by update."""


class Submitted(Record):
    """Response to a submission."""

    job_id: str


class ExitCodes(Record):
    """Exit codes by container; null for a container that never ran, or has not ended."""

    exit_codes: list[int | None]


class Container(Record):
    """One container of a job, as the job's owner sees it."""

    number: int
    state: JobState
    transition_times: list[JobStateTransition]
    exit_code: int | None = None
    error: str | None = None
    """A message for the owner, if the container failed."""
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    max_memory: int | None = None
    """Bytes, with the page cache."""
    max_anonymous_memory: int | None = None
    """Bytes that are no page of a file, which the program needs."""
    inputs: list[S3FileWithDataID] | SkipJsonSchema[None] = None
    """Absent, as outputs are, where the request asks for no details."""
    outputs: list[S3File] | None = None
    warnings: list[str] | None = None
    """Problems that did not make the container fail, such as files that were not stored."""


class Containers(Record):
    """One page of ``/jobs/{id}/containers``."""

    containers: list[Container]
    next: int | None = None
    """The ``after`` of the following page; absent on the last."""


class PlannedContainer(Record):
    """The plan of one container of a checked job."""

    number: int
    argv: list[str]
    environment: dict[str, str]
    files: list[S3FileWithDataID]
    manifest: str | None = None
    """The text of its manifest file."""


class Problem(Record):
    """What is wrong with a submission, and where."""

    loc: list[str | int]
    """The place in the submission: ``body``, then keys and indexes."""
    appcode: int | None = None
    message: str
    hint: str | None = None
    """What to do, where the message does not say it."""


class _Check(Record):
    containers: list[PlannedContainer]
    """Those that the request asks for, or all."""
    input_file_count: int
    input_bytes: int
    cpu_hours: float
    """The maximum that the job can use."""
    warnings: list[str]


class CheckResult(_Check):
    """Response to a check: the job as it would run. Nothing is stored."""

    image: JobImage


class DraftCheck(_Check):
    """Response to a check for all problems: what is wrong, and the job as far as it is known how it would run."""

    problems: list[Problem]
    image: JobImage | SkipJsonSchema[None] = None
