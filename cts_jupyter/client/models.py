"""Models of responses. They keep fields, states and roles of newer services that are unknown here."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Response(BaseModel):
    """The base of all responses: the declared fields, and any others that the service sent."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Root(Response):
    """A service's name, version and time."""

    service_name: str
    version: str
    server_time: datetime
    git_hash: str = ""
    notes: str = ""
    instance: str | None = None
    """The id of the service's records, whatever its address; None from a deployed service."""


class AllowedPath(Response):
    """A folder that the caller may use, and the permission."""

    path: str
    perm: str


class WhoAmI(Response):
    """The user, roles and allowed paths of the caller."""

    user: str
    roles: list[str] = []
    allowed_paths: list[AllowedPath] = []
    instance: str | None = None


class Health(Response):
    """The liveness of a service."""

    status: str


class Dependency(Response):
    """The state of something that the service depends on; only admins get the last error."""

    name: str
    state: str
    needed: bool
    since: datetime
    error: str | None = None


class Readiness(Response):
    """The readiness of a service, and its dependencies."""

    status: str
    dependencies: list[Dependency]
    warnings: list[str] = []


class Site(Response):
    """A site where jobs run, and its limits."""

    cluster: str
    nodes: int | None = None
    cpus_per_node: int
    memory_per_node_gb: int
    max_runtime_min: int
    notes: list[str] = []
    active: bool
    available: bool
    unavailable_reason: str | None = None


class QueuedJob(Response):
    """A live job of the caller's at a site, and how many containers wait in older ones if some of its own do."""

    job_id: str
    state: str
    ahead: int | None = None
    waits_for: str | None = None


class SiteLoad(Response):
    """The containers that wait and run at a site, and those that wait before the caller's oldest waiting job."""

    cluster: str
    waiting: int
    running: int
    cpus_free: int | None = None
    ahead: int | None = None
    jobs: list[QueuedJob] = []


class Image(Response):
    """A registered image, or the copy of it that a job keeps."""

    name: str
    digest: str
    entrypoint: list[str]
    tag: str = ""
    registered_by: str
    registered_on: datetime
    refdata_id: str | None = None
    default_refdata_mount_point: str | None = None
    variables: list[str] | None = None
    urls: list[str] | None = None
    usage_notes: str | None = None


class ImageHelp(Response):
    """Advice about an image that is not registered."""

    nearest: list[str] = []
    contact: str | None = None
    request: str | None = None
    """The text of a request to have it registered."""
    command: str | None = None
    """The line by which an admin registers it."""


class S3File(Response):
    """An object, its checksum, and the data unit that it belongs to."""

    file: str
    crc64nvme: str | None = None
    data_id: str | None = None


def _as_file(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


class JobInputPreview(Response):
    """A submission without its files. ``memory`` in bytes."""

    cluster: str
    image: str
    params: dict[str, Any]
    num_containers: int = 1
    cpus: int = 1
    memory: int
    runtime: timedelta
    input_roots: list[str] | None = None
    output_dir: str


class JobInput(JobInputPreview):
    """A submission. Dumped as JSON without nulls it can be submitted again."""

    input_files: list[Annotated[S3File, BeforeValidator(_as_file)]]


class Transition(Response):
    """A state, and when it was reached."""

    state: str
    time: datetime


class JobStatus(Response):
    """A job's state and its history."""

    id: str
    state: str
    user: str
    transition_times: list[Transition]
    admin_meta: dict[str, Any] = {}
    containers: dict[str, int] = {}
    """The number of containers in each state, of a job that is not complete, where it was asked for."""
    waits_for: str | None = None
    """What keeps a live job from going on, in one sentence; None if nothing does."""


class JobPreview(JobStatus):
    """A job in a listing. Memory in bytes."""

    image: Image
    job_input: JobInputPreview
    input_file_count: int
    output_file_count: int | None = None
    cpu_hours: float | None = None
    cpu_factor: float | None = None
    max_memory: int | None = None
    max_anonymous_memory: int | None = None
    error: str | None = None
    logpath: str | None = None
    labels: dict[str, str] = {}
    warnings: list[str] = []
    parent_id: str | None = None
    """The job of which this is a resubmission."""


class JobDetails(JobPreview):
    """A job with its input and output files."""

    job_input: JobInput
    outputs: list[S3File] = []


class Container(Response):
    """One container of a job."""

    number: int
    state: str
    transition_times: list[Transition]
    exit_code: int | None = None
    error: str | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    max_memory: int | None = None
    max_anonymous_memory: int | None = None
    inputs: list[S3File] = []
    outputs: list[S3File] = []
    warnings: list[str] = []


class Fix(Response):
    """A resubmission that mends a failure, see ``CTSClient.resubmit``."""

    failed: bool = False
    containers: list[int] | None = None
    memory: int | None = None
    runtime: timedelta | None = None
    output_dir: str | None = None
    refresh_inputs: bool = False


class Reason(Response):
    """Containers that failed for one reason; ``containers`` is empty where the job failed by itself."""

    reason: str | None = None
    exit_code: int | None = None
    containers: list[int] = []
    inputs: list[str] = []
    """Some of their inputs; those that the error or the logs name come first."""
    input_count: int = 0
    stdout: str | None = None
    """The end of the first one's; of stdout and stderr, only one is there."""
    stderr: str | None = None
    hint: str
    fix: Fix | None = None


class Why(Response):
    """The reasons why a job failed, and the resubmission that mends them, as far as one can."""

    state: str
    reasons: list[Reason] = []
    fix: Fix | None = None


class ContainerPage(Response):
    """One page of a job's containers; hand ``next`` back as ``after`` for the following one."""

    containers: list[Container]
    next: int | None = None


class LogPart(Response):
    """A part of a container's log."""

    content: bytes
    size: int | None
    """The bytes of the whole log; None from an older service."""
    ended: bool
    """Whether the log is known to grow no more."""


class JobPage(Response):
    """One page of a listing; hand ``next`` back as ``cursor`` for the following one."""

    jobs: list[JobPreview]
    next: str | None = None
    is_cut: bool = False
    """Whether a text was searched for in the latest jobs only, and there are more."""
    searched_until: datetime | None = None
    """When the oldest of them was last updated; the same search ``before`` that time goes on. None also from an older service."""


class JobCount(Response):
    """The number of jobs in a state at a site."""

    cluster: str
    state: str
    count: int


class JobOutput(S3File):
    """An output, and the job and container that wrote it."""

    job_id: str
    container: int | None = None


class JobOutputs(Response):
    """One page of outputs; hand ``next`` back as ``after`` for the following one."""

    outputs: list[JobOutput]
    jobs: list[str]
    """The jobs whose outputs these are, oldest first."""
    open_inputs: int
    """The number of their input files that no container has completed."""
    replaced: list[JobOutput] = []
    """Some outputs that are lost, since a later job stored another at the path, of other inputs."""
    next: str | None = None


class PlannedContainer(Response):
    """The command, environment and files that a container would have."""

    number: int
    argv: list[str]
    environment: dict[str, str]
    files: list[S3File]
    manifest: str | None = None


class CheckResult(Response):
    """A job as it would run."""

    image: Image
    containers: list[PlannedContainer]
    input_file_count: int
    input_bytes: int
    cpu_hours: float
    warnings: list[str] = []


class ResubmissionCheck(CheckResult):
    """A resubmission as it would run, with the folder for its outputs."""

    output_dir: str


class Problem(Response):
    """What is wrong with a submission: the place in it, as keys and indexes behind ``body``, and what to do."""

    loc: list[str | int]
    appcode: int | None = None
    message: str
    hint: str | None = None


class DraftCheck(Response):
    """The problems of a submission, and the job as far as it is known how it would run."""

    problems: list[Problem] = []
    image: Image | None = None
    containers: list[PlannedContainer]
    input_file_count: int
    input_bytes: int
    cpu_hours: float
    warnings: list[str] = []


class StoredObject(Response):
    """An object. ``crc64nvme`` is its checksum; ``checksum`` says whether it has one: ``stored``, ``missing`` or ``mismatch``."""

    path: str
    size: int
    etag: str
    content_type: str
    modified: datetime
    checksum: str
    crc64nvme: str | None = None


class ObjectPage(Response):
    """One page of a listing; hand ``next`` back as ``after`` for the following one."""

    objects: list[StoredObject]
    folders: list[str] = []
    next: str | None = None
    left_out: list[str] = []
    """Some of what lies there and is no object, such as links in a directory."""
    scanned: int | None = None
    """The objects that a search has looked at."""


class Roots(Response):
    """The folders, or buckets, in which the caller can look for objects."""

    roots: list[AllowedPath]


class FileSummary(Response):
    """Totals of objects, of those that were looked at; hand ``next`` back as ``after``, and add up, until it is complete."""

    objects: int
    bytes: int
    missing: int
    scanned: int
    complete: bool
    next: str | None = None


class FileResult(Response):
    """An object of a request for checksums; ``state`` is ``waiting``, ``done`` or ``failed``."""

    file: str
    etag: str | None = None
    state: str
    crc64nvme: str | None = None
    error: str | None = None


class ChecksumSummary(Response):
    """A request for checksums; ``state`` is ``running``, ``ended`` or ``canceled``."""

    id: str
    state: str
    created: datetime


class ChecksumTask(ChecksumSummary):
    """A request for checksums, and what became of each object."""

    user: str
    files: list[FileResult]


class Event(Response):
    """A transition of a job, or its progress: the number of containers in each state."""

    type: str
    job_id: str
    user: str | None = None
    state: str | None = None
    time: datetime | None = None
    trans_id: str | None = None
    recorded_at: datetime | None = None
    containers: dict[str, int] | None = None
    changed: list[tuple[int, str]] | None = None
    """The containers that have moved since the progress before, with their states; None if there are too many to name."""
