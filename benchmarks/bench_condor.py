"""What the site kbase costs on a real pool: handing a job over, and following what was handed over.

One submission of 1,000 containers, beside the bindings alone with the same description: at most 1.3 times as long. Tokens for
our own worker are files that HTCondor is sent after that; the bindings alone send the same. Then a cycle over 5,000
containers that wait, beside itself after 50,000 others have left the queue: at most 1.2 times as long. The bare query of the
same attributes is told, too, for the schedd itself is slower while it still clears what has left: it is waited for. Needs root,
as the pool runs in a chroot; the first run builds it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).parents[1]))

from cts_core.clock import utc_now
from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.model.record import JobRecord, JobSummary
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
from cts_core.states import JobState
from tests.harness.factories import make_job_record
from tests.services.condor import INITIALDIR, CondorPool
from tests.services.server import MissingError

CONTAINERS = 1000
SUBMISSIONS, CYCLES = 5, 15
GONE = 50
"""Jobs of 1,000 containers that leave the queue between the two measurements of a cycle."""
CALM, CALM_SECONDS, MAX_SECONDS = 0.05, 5.0, 300.0
"""The schedd has cleared up when it uses less than so much of a cpu for so long; it is waited for at most so long."""
# No node is of this group: everything waits.
SETTINGS = HTCondorSettings(initialdir=INITIALDIR, clientgroup="nowhere", timeout_s=120)
SETUPS = {
    what: NodeSetup(
        "http://cts.invalid/cts", S3Settings(url="http://s3.invalid"), "logs", SETTINGS, own
    )
    for what, own in {
        "": None,
        ", with tokens": partial(WorkerArchive, b"launcher", b"code"),
    }.items()
}


class Supply:
    """What the service would provide."""

    async def publish(self, files: Mapping[str, bytes]) -> None:
        """Nobody asks for them."""

    async def issue(self, job: JobSummary) -> list[SecretStr]:
        """As many as the service would."""
        return [SecretStr("t" * 43)] * job.job_input.num_containers

    async def claimants(self, job_id: str) -> Mapping[int, str]:  # noqa: ARG002 - as the site asks
        """No worker runs."""
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
    """By the bindings alone; the seconds it took."""
    import htcondor2  # noqa: PLC0415 - as above

    for number in range(CONTAINERS):
        (folder / token_name(number)).write_text("t" * 43)
    start = time.perf_counter()
    description = submit_description(job, setup)
    if setup.has_own_tokens:
        description["transfer_input_files"] += f", {folder}/{token_name(f'$({NUMBER})')}"
    submission = htcondor2.Submit(description)
    made = schedd.submit(submission, itemdata=iter(itemdata(job)), spool=setup.has_own_tokens)
    if setup.has_own_tokens:
        schedd.spool(made)
    return time.perf_counter() - start


async def compare_submissions(pool: CondorPool, what: str, folder: Path) -> None:
    site, schedd = HTCondorSite(SETUPS[what], Supply(), Supply()), pool.schedd()
    await site.open(lambda _: None)
    ours, bare = [], []
    for _ in range(SUBMISSIONS):
        job = new_job()
        start = time.perf_counter()
        await site.start(job, [])
        ours.append(time.perf_counter() - start)
        remove(schedd, job)
        job = new_job()
        bare.append(submit(schedd, job, SETUPS[what], folder))
        remove(schedd, job)
    await site.close()
    ratio = statistics.median(ours) / statistics.median(bare)
    print(
        f"submission of {CONTAINERS} containers{what}: {statistics.median(ours):.2f} s, "
        f"{ratio:.2f} times the bindings alone",
        flush=True,
    )


async def cycle(site: HTCondorSite, schedd: Any, jobs: list[JobRecord]) -> tuple[float, float]:
    """The middle of some cycles over these jobs, and of as many bare queries for them, in seconds."""
    states = {job.id: [JobState.DOWNLOAD_SUBMITTED] * CONTAINERS for job in jobs}
    ours, bare = [], []
    for _ in range(CYCLES):
        start = time.perf_counter()
        await site.poll(states)
        between = time.perf_counter()
        schedd.query(for_named_jobs(sorted(states)), list(ATTRIBUTES))
        ours.append(between - start)
        bare.append(time.perf_counter() - between)
    return statistics.median(ours), statistics.median(bare)


def until_calm(pool: CondorPool) -> None:
    def used() -> float:
        stat = Path(f"/proc/{pool.daemon('condor_schedd')}/stat").read_text().rpartition(")")[2]
        user, system = stat.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    deadline, before = time.monotonic() + MAX_SECONDS, used()
    while time.monotonic() < deadline:
        time.sleep(CALM_SECONDS)
        now = used()
        if now - before < CALM * CALM_SECONDS:
            return
        before = now


async def compare_cycles(pool: CondorPool, folder: Path) -> None:
    site, schedd = HTCondorSite(SETUPS[""], Supply(), Supply()), pool.schedd()
    await site.open(lambda _: None)
    jobs = [new_job() for _ in range(5)]
    for job in jobs:
        await site.start(job, [])
    until_calm(pool)
    await cycle(site, schedd, jobs)  # the first is for caches
    ours, bare = await cycle(site, schedd, jobs)
    for _ in range(GONE):
        job = new_job()
        submit(schedd, job, SETUPS[""], folder)
        remove(schedd, job)
    for when in ("at once", "once the schedd has cleared up"):
        later, bare_later = await cycle(site, schedd, jobs)
        print(
            f"cycle over {5 * CONTAINERS} that wait: {ours * 1000:.0f} ms; {GONE * CONTAINERS} others gone, {when}: "
            f"{later / ours:.2f} times that, and the bare query {bare_later / bare:.2f} times",
            flush=True,
        )
        until_calm(pool)
    await site.close()


async def measure(pool: CondorPool, folder: Path) -> None:
    for what in SETUPS:
        await compare_submissions(pool, what, folder)
    await compare_cycles(pool, folder)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name:
        folder = Path(name)
        try:
            pool = CondorPool(folder / "condor")
        except MissingError as e:
            print(f"not measured: {e}")
            return
        (folder / "tokens").mkdir()
        os.environ["CONDOR_CONFIG"] = str(pool.client_config())
        pool.start()
        try:
            asyncio.run(measure(pool, folder / "tokens"))
        finally:
            pool.stop()


if __name__ == "__main__":
    main()
