"""Benchmark of the site kbase on a real pool: submitting a job, and tracking submitted jobs.

A submission of 1,000 containers should take at most 1.3 times as long as with the bindings alone and the same
description. Tokens for CTS's own worker are files that are spooled after the submission; the bindings alone spool the
same. Then a cycle over 5,000 idle containers should take at most 1.2 times as long after 20,000 others have left the queue.
The bare query of the same attributes is printed, too, since the schedd itself is slower until it has cleared the removed
jobs; the benchmark waits for that. Needs root, as the pool runs in a chroot; the first run builds it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness import report, run, size
from pydantic import SecretStr

from cts_core.clock import utc_now
from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.model.record import JobRecord, JobSummary
from cts_core.object_paths import FolderPath
from cts_core.sites.htcondor.classads import ATTRIBUTES
from cts_core.sites.htcondor.constraints import for_named_jobs
from cts_core.sites.htcondor.site import HTCondorSite
from cts_core.sites.htcondor.submit_description import (
    NUMBER,
    NodeSetup,
    itemdata,
    submit_description,
    token_name,
)
from cts_core.sites.htcondor.worker_archive import WorkerArchive
from cts_core.sites.site import LiveJob
from cts_core.states import JobState
from tests.harness.factories import make_job_record
from tests.services.condor import INITIALDIR, CondorPool

CONTAINERS = size(1000, 10)
SUBMISSIONS, CYCLES = size((5, 15), (1, 1))
REMOVED_JOBS = size(20, 1)
"""Jobs of as many containers that leave the queue between the two measurements of a cycle."""
IDLE_CPU, IDLE_SECONDS, MAX_WAIT_SECONDS = size((0.05, 5.0, 120.0), (0.5, 0.1, 1.0))
"""The schedd is idle when it uses less than this share of a cpu for so many seconds; the wait for that is limited."""
# No node is in this group: all containers stay idle.
SETTINGS = HTCondorSettings(initialdir=INITIALDIR, clientgroup="nowhere", timeout_s=120)
SETUPS = {
    what: NodeSetup(
        "http://cts.invalid/cts",
        S3Settings(url="http://s3.invalid"),
        FolderPath("logs"),
        SETTINGS,
        own,
    )
    for what, own in {
        "": None,
        ", with tokens": partial(WorkerArchive, b"launcher", b"code"),
    }.items()
}


class FakeWorkerSupplies:
    """Stands in for the service's tokens and code."""

    async def publish(self, files: Mapping[str, bytes]) -> None:
        """Do nothing: no node fetches them."""

    async def issue(self, job: JobSummary) -> list[SecretStr]:
        """Return as many tokens as the service would."""
        return [SecretStr("t" * 43)] * job.job_input.num_containers

    async def claimants(self, job_id: str) -> Mapping[int, str]:  # noqa: ARG002 - as the site calls it
        """Return nothing: no worker runs."""
        return {}


def new_job() -> JobRecord:
    return make_job_record(
        cluster="kbase", num_containers=CONTAINERS, files=CONTAINERS, time=utc_now()
    )


def remove(schedd: Any, job: JobRecord) -> None:
    import htcondor2  # noqa: PLC0415 - reads its configuration when it is imported

    schedd.act(htcondor2.JobAction.Remove, for_named_jobs([job.id]))
    while schedd.query(for_named_jobs([job.id]), ["ClusterId"]):
        time.sleep(0.1)


def submit(schedd: Any, job: JobRecord, setup: NodeSetup, folder: Path) -> float:
    """Submit by the bindings alone; return the seconds it took."""
    import htcondor2  # noqa: PLC0415 - as above

    for number in range(CONTAINERS):
        (folder / token_name(number)).write_text("t" * 43)
    start = time.perf_counter()
    description = submit_description(job, setup)
    if setup.has_own_tokens:
        description["transfer_input_files"] += f", {folder}/{token_name(f'$({NUMBER})')}"
    submission = htcondor2.Submit(description)
    submitted = schedd.submit(submission, itemdata=iter(itemdata(job)), spool=setup.has_own_tokens)
    if setup.has_own_tokens:
        schedd.spool(submitted)
    return time.perf_counter() - start


async def compare_submissions(pool: CondorPool, what: str, folder: Path) -> None:
    site, schedd = (
        HTCondorSite(SETUPS[what], FakeWorkerSupplies(), FakeWorkerSupplies()),
        pool.schedd(),
    )
    await site.open(lambda _: None)
    ours, bare = [], []
    for _ in range(SUBMISSIONS):
        job = new_job()
        start = time.perf_counter()
        await site.start(job, [], now=utc_now())
        ours.append(time.perf_counter() - start)
        remove(schedd, job)
        job = new_job()
        bare.append(submit(schedd, job, SETUPS[what], folder))
        remove(schedd, job)
    await site.close()
    ratio = statistics.median(ours) / statistics.median(bare)
    report(
        f"submission of {CONTAINERS:,} containers{what}",
        f"{statistics.median(ours):.2f} s, {ratio:.2f} times the bindings alone",
        time_s=statistics.median(ours),
        ratio=ratio,
    )


async def cycle(site: HTCondorSite, schedd: Any, jobs: list[JobRecord]) -> tuple[float, float]:
    """Return the median seconds of cycles over these jobs, and of bare queries for them."""
    live = [LiveJob(job, [JobState.DOWNLOAD_SUBMITTED] * CONTAINERS) for job in jobs]
    ids = sorted(job.id for job in jobs)
    ours, bare = [], []
    for _ in range(CYCLES):
        start = time.perf_counter()
        await site.poll(live)
        polled = time.perf_counter()
        schedd.query(for_named_jobs(ids), list(ATTRIBUTES))
        ours.append(polled - start)
        bare.append(time.perf_counter() - polled)
    return statistics.median(ours), statistics.median(bare)


def wait_until_idle(pool: CondorPool) -> None:
    def used() -> float:
        stat = Path(f"/proc/{pool.daemon('condor_schedd')}/stat").read_text().rpartition(")")[2]
        user, system = stat.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    deadline, before = time.monotonic() + MAX_WAIT_SECONDS, used()
    while time.monotonic() < deadline:
        time.sleep(IDLE_SECONDS)
        now = used()
        if now - before < IDLE_CPU * IDLE_SECONDS:
            return
        before = now


async def compare_cycles(pool: CondorPool, folder: Path) -> None:
    site, schedd = (
        HTCondorSite(SETUPS[""], FakeWorkerSupplies(), FakeWorkerSupplies()),
        pool.schedd(),
    )
    await site.open(lambda _: None)
    jobs = [new_job() for _ in range(5)]
    for job in jobs:
        await site.start(job, [], now=utc_now())
    wait_until_idle(pool)
    await cycle(site, schedd, jobs)  # the first is for caches
    ours, bare = await cycle(site, schedd, jobs)
    for _ in range(REMOVED_JOBS):
        job = new_job()
        submit(schedd, job, SETUPS[""], folder)
        remove(schedd, job)
    for when in ("at once", "once the schedd has cleared up"):
        later, bare_later = await cycle(site, schedd, jobs)
        report(
            f"cycle over {5 * CONTAINERS:,} that wait, {REMOVED_JOBS * CONTAINERS:,} others gone, {when}",
            f"{later / ours:.2f} times the {ours * 1000:.0f} ms before; the bare query {bare_later / bare:.2f} times",
            before_ms=ours * 1000,
            ratio=later / ours,
            bare_ratio=bare_later / bare,
        )
        wait_until_idle(pool)
    await site.close()


async def measure(pool: CondorPool, folder: Path) -> None:
    for what in SETUPS:
        await compare_submissions(pool, what, folder)
    await compare_cycles(pool, folder)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name:
        folder = Path(name)
        pool = CondorPool(folder / "condor")
        (folder / "tokens").mkdir()
        os.environ["CONDOR_CONFIG"] = str(pool.client_config())
        pool.start()
        try:
            asyncio.run(measure(pool, folder / "tokens"))
        finally:
            pool.stop()


if __name__ == "__main__":
    run(main)
