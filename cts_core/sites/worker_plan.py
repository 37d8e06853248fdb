"""Makes the plan of a container's worker from the job and the container's plan. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cts_core.config.settings import LocalSettings
from cts_core.model.record import JobSummary
from cts_core.object_paths import FolderPath
from cts_core.plan import ContainerPlan
from cts_core.sites.site import LogStream
from cts_core.worker.plan import Input, WorkerPlan


@dataclass(frozen=True)
class ImagePlan:
    """The fields of a WorkerPlan that depend on the image, under the same names."""

    program_file: str = ""
    container_runtime: str = "host"
    runtime_command: Sequence[str] = ()
    runtime_arguments: Sequence[str] = ()
    image: str = ""
    image_folder: str = ""
    plain_http: bool = False
    network: bool = True
    mount_namespace: bool = False
    visible_folders: Sequence[str] | None = None
    hidden_folders: Sequence[str] = ()


def make_worker_plan(
    job: JobSummary,
    plan: ContainerPlan,
    *,
    image_plan: ImagePlan,
    settings: LocalSettings,
    objects_root: Path | None,
    log_dir: FolderPath,
    refdata_folder: Path | None = None,
) -> WorkerPlan:
    """Return the plan of one container's worker.

    Without ``objects_root`` objects are on S3. ``refdata_folder`` holds the reference data that the image needs.
    """
    entrypoint = job.image.entrypoint
    return WorkerPlan(
        tag=f"{job.id}/{plan.number}",
        entrypoint=entrypoint,
        arguments=plan.argv[len(entrypoint) :],
        environment=plan.environment,
        digest=job.image.digest,
        inputs=[
            # Every input has a checksum: a submission without one is refused.
            Input(placed.path, placed.file.crc64nvme or "", placed.place)
            for placed in plan.files
        ],
        input_mount=plan.mounts.inputs,
        output_mount=plan.mounts.outputs,
        objects_root=str(objects_root or ""),
        output_dir=plan.output_dir.rstrip("/"),
        log_paths={
            stream.value: log_dir.file(job.id, stream.file_name(plan.number))
            for stream in LogStream
        },
        memory=job.job_input.memory,
        runtime=job.job_input.runtime.total_seconds(),
        stop_grace=settings.stop_grace,
        log_limit=settings.log_limit,
        image_bytes=settings.image_bytes,
        manifest_name=plan.manifest.name if plan.manifest else None,
        manifest_text=plan.manifest.text if plan.manifest else "",
        refdata_mount=plan.mounts.refdata if refdata_folder else None,
        refdata_folder=str(refdata_folder or ""),
        cpus=job.job_input.cpus,
        **asdict(image_plan),
    )
