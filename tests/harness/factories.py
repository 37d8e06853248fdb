"""Factories of valid models; each argument changes one field."""

from __future__ import annotations

import io
import tarfile
import uuid
from datetime import UTC, datetime
from typing import Any

from cts_core.model.event import JobEvent
from cts_core.model.image import Image
from cts_core.model.job import S3File, Submission
from cts_core.model.record import JobRecord, Transition
from cts_core.model.refdata import (
    AdminReferenceData,
    AdminReferenceDataStatus,
    RefDataStateTransition,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.states import JobState

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
CRC = "5O33DmauDQI="
DIGEST = "sha256:" + "ab" * 32
TO_COMPLETE = [
    JobState.CREATED,
    JobState.DOWNLOAD_SUBMITTED,
    JobState.JOB_SUBMITTING,
    JobState.JOB_SUBMITTED,
    JobState.UPLOAD_SUBMITTING,
    JobState.UPLOAD_SUBMITTED,
    JobState.COMPLETE,
]
"""The states of a job that completes."""


def packed(**files: bytes) -> bytes:
    """Return a gzipped tar archive of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def make_submission(**changes: Any) -> Submission:
    """Return a submission as a client sends it; ``files`` may be a number of input files."""
    files = changes.pop("files", 3)
    if isinstance(files, int):
        files = [{"file": f"data/in/{number}.fa", "crc64nvme": CRC} for number in range(files)]
    body = {
        "cluster": "local",
        "image": "host/tool",
        "params": {
            "args": ["run", {"type": "input_files", "input_files_format": "space_separated_list"}]
        },
        "num_containers": 1,
        "cpus": 1,
        "memory": "100MB",
        "runtime": 60,
        "output_dir": "data/out",
        "input_files": files,
    }
    return Submission.model_validate(body | changes)


def make_image(**changes: Any) -> Image:
    """Return a registered image."""
    image = Image(
        registered_by="admin",
        registered_on=NOON,
        name="host/tool",
        digest=DIGEST,
        entrypoint=["/opt/tool"],
        tag="latest",
    )
    return image.model_copy(update=changes)


def make_transition(**changes: Any) -> Transition:
    """Return a new transition of a job."""
    transition = Transition(
        state=JobState.CREATED, time=NOON, trans_id=str(uuid.uuid4()), recorded_at=NOON
    )
    return transition.model_copy(update=changes)


def make_job_record(
    *,
    id: str | None = None,  # noqa: A002 - the field's name
    user: str = "ana",
    time: datetime = NOON,
    labels: dict[str, str] | None = None,
    registered: Image | None = None,
    parent_id: str | None = None,
    **submission: Any,
) -> JobRecord:
    """Return a job that was submitted at ``time``; further arguments change its submission."""
    submitted = make_submission(**submission)
    return JobRecord(
        id=id or str(uuid.uuid4()),
        user=user,
        state=JobState.CREATED,
        transition_times=[make_transition(time=time, recorded_at=time)],
        job_input=submitted.job_input(),
        image=(registered or make_image()).for_job(),
        input_file_count=len(submitted.input_files),
        labels=labels or {},
        parent_id=parent_id,
    )


def make_refdata(**changes: Any) -> AdminReferenceData:
    """Return registered reference data, in state ``created`` at the site ``local``."""
    refdata = AdminReferenceData(
        registered_by="admin",
        registered_on=NOON,
        file="data/ref/db.tar.gz",
        crc64nvme=CRC,
        id=str(uuid.uuid4()),
        unpack=True,
        statuses=[make_refdata_status()],
    )
    return refdata.model_copy(update=changes)


def make_refdata_status(**changes: Any) -> AdminReferenceDataStatus:
    """Return the status of reference data at one site."""
    created = RefDataStateTransition(state=ReferenceDataState.CREATED, time=NOON)
    status = AdminReferenceDataStatus(
        cluster=SiteName.LOCAL, state=ReferenceDataState.CREATED, transition_times=[created]
    )
    return status.model_copy(update=changes)


def many_outputs(count: int, folder: str = "0") -> list[S3File]:
    """Return this many outputs of a job, not validated: that takes long for so many files."""
    name = "x" * 80
    return [
        S3File.model_construct(file=f"data/out/{folder}/{name}{number}", crc64nvme=CRC)
        for number in range(count)
    ]


def make_event(**changes: Any) -> JobEvent:
    """Return a new event of a job."""
    event = JobEvent(
        job_id=str(uuid.uuid4()),
        user="ana",
        state=JobState.CREATED,
        time=NOON,
        trans_id=str(uuid.uuid4()),
        recorded_at=NOON,
    )
    return event.model_copy(update=changes)
