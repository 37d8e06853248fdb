"""Makes the plan of a worker on a node. The node adds what only it knows: which runtime it has."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cts_core.config.settings import Settings
from cts_core.model.record import JobSummary
from cts_core.plan import ContainerPlan
from cts_core.sites.site import PlanMaker
from cts_core.sites.worker_plan import ImagePlan, make_worker_plan
from cts_core.worker.plan import WorkerPlan

UNDECIDED = ""
"""The runtime in a plan for which the node chooses it."""


def plan_maker(settings: Settings) -> PlanMaker:
    """Return the function that makes the plans of this service's workers on nodes."""
    return partial(_plan, settings)


def _plan(settings: Settings, job: JobSummary, plan: ContainerPlan) -> WorkerPlan:
    refdata_root = settings.htcondor.refdata_host_path
    refdata_id = job.image.refdata_id
    registry = job.image.name.partition("/")[0]
    return make_worker_plan(
        job,
        plan,
        image_plan=ImagePlan(
            container_runtime=UNDECIDED,
            image=f"{job.image.name}@{job.image.digest}",
            plain_http=registry in settings.images.plain_http,
        ),
        settings=settings.local,
        objects_root=None,
        log_dir=settings.log_folder,
        refdata_folder=Path(refdata_root, refdata_id) if refdata_root and refdata_id else None,
    )
