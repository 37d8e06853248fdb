"""Tests of what operators learn about a real pool, and about a job in it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.htcondor.site import UNREACHABLE, HTCondorSite
from tests.harness.htcondor import HTCondorHarness
from tests.services.condor import CPUS, DOMAIN, MEMORY_MIB, USER

pytestmark = pytest.mark.slow
HOLD_ON = "while :; do sleep 0.1; done"


async def test_healthy_pool(harness: HTCondorHarness) -> None:
    harness.settings["clientgroup"] = "cts"
    job = await harness.start(HOLD_ON, num_containers=2)
    await harness.until_running(job)
    survey = await harness.site.survey()
    schedd, nodes, queue = survey.lines
    assert schedd.endswith(f"which knows this service as {USER}@{DOMAIN}")
    assert nodes.startswith("nodes: 1, of which 1 are of the group 'cts'")
    assert f"{CPUS} cpus, {MEMORY_MIB} MiB" in nodes
    assert queue.startswith("containers of CTS in its queue: ")
    assert "running" in queue
    assert survey.trouble == []


async def test_client_group_without_nodes(harness: HTCondorHarness) -> None:
    async with _made(harness, clientgroup="nobody") as site:
        (trouble,) = (await site.survey()).trouble
        assert "no node is of the group 'nobody'" in trouble


async def test_user_without_permission_to_submit(
    harness: HTCondorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = harness.pool.client_config("PASSWORD")
    monkeypatch.setenv("CONDOR_CONFIG", str(config))
    async with _made(harness) as site:
        assert "log in with IDTOKENS" in (await site.survey()).trouble[0]


async def test_pool_that_is_down(harness: HTCondorHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CONDOR_COLLECTOR_HOST", "127.0.0.1:9")
    async with _made(harness) as site:
        described = await site.describe()
        assert (described.available, described.unavailable_reason) == (False, UNREACHABLE)
        # Operators get the details.
        with pytest.raises(UnavailableError, match="HTCondor cannot be reached: Failed"):
            await site.survey()


async def test_pool_without_nodes(harness: HTCondorHarness) -> None:
    job = await harness.start("true")
    await harness.until_ended(job)
    async with _without_nodes(harness):
        survey = await harness.site.survey()
        assert "nodes: 0" in survey.lines[1]
        assert "no node of the pool can be seen" in survey.trouble[0]
        waiting = harness.job()
        await harness.submit(waiting)
        await harness.until(lambda: _says(harness, waiting, "No node of the pool can be seen."))


async def test_explain_idle_running_held_and_removed_jobs(harness: HTCondorHarness) -> None:
    job = await harness.start("[ $CONTAINER_NUMBER = 0 ] || exit 3\n" + HOLD_ON, num_containers=2)
    (cluster,) = job.htcondor_details.cluster_id
    await harness.until(
        lambda: _says(harness, job, f"HTCondor has it as cluster {cluster}: 1 running, 1 held.")
    )
    assert any(
        "container 1" in line and "OnExitHold" in line for line in await _explain(harness, job)
    )
    large = harness.job(cpus=CPUS + 1)
    (cluster,) = (await harness.submit(large)).cluster_id
    await harness.until(lambda: _says(harness, large, f"condor_q -better-analyze {cluster}.0"))
    assert any(
        "No node of the pool can ever take" in line for line in await _explain(harness, large)
    )
    assert await _explain(harness, harness.job()) == ["HTCondor has nothing of it in its queue."]


async def _explain(harness: HTCondorHarness, job) -> list[str]:
    return await harness.site.explain(job)


async def _says(harness: HTCondorHarness, job, words: str) -> bool:
    return any(words in line for line in await _explain(harness, job))


@contextlib.asynccontextmanager
async def _made(harness: HTCondorHarness, **changes: str) -> AsyncIterator[HTCondorSite]:
    site = harness.make_site(**changes)
    try:
        yield site
    finally:
        await site.close()


@contextlib.asynccontextmanager
async def _without_nodes(harness: HTCondorHarness) -> AsyncIterator[None]:
    """Stop the startd: it deregisters from the collector, and the master does not start it again meanwhile."""
    startd, master = harness.pool.daemon("condor_startd"), harness.pool.daemon("condor_master")
    os.kill(master, signal.SIGSTOP)
    os.kill(startd, signal.SIGTERM)

    async def are_gone() -> bool:
        return "nodes: 0" in (await harness.site.survey()).lines[1]

    async def is_back() -> bool:
        return "nodes: 1" in (await harness.site.survey()).lines[1]

    try:
        await harness.until(are_gone)
        yield
    finally:
        os.kill(master, signal.SIGCONT)
        await harness.until(is_back)
