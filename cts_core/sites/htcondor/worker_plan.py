"""What our worker on a node is told. The node adds what only it knows: which runtime it has."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cts_core.config.settings import Settings
from cts_core.model.record import JobSummary
from cts_core.plan import ContainerPlan
from cts_core.sites.local.images import HowToRun
from cts_core.sites.local.worker_plan import worker_plan
from cts_core.sites.site import PlanMaker
from cts_core.worker.plan import WorkerPlan

UNDECIDED = ""
"""The runtime in a plan whose node is to choose it."""


def plan_maker(settings: Settings) -> PlanMaker:
    """Makes the plans of this service's containers."""
    return partial(_plan, settings)


def _plan(settings: Settings, job: JobSummary, plan: ContainerPlan) -> WorkerPlan:
    staged = settings.htcondor.refdata_host_path
    refdata_id = job.image.refdata_id
    registry = job.image.name.partition("/")[0]
    return worker_plan(
        job,
        plan,
        how=HowToRun(
            container_runtime=UNDECIDED,
            image=f"{job.image.name}@{job.image.digest}",
            plain_http=registry in settings.images.plain_http,
        ),
        settings=settings.local,
        objects_root=None,
        log_dir=settings.log_dir,
        refdata_folder=Path(staged, refdata_id) if staged and refdata_id else None,
    )
