"""What operators are told of a real pool, and of a job in it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.htcondor.site import AWAY, HTCondorSite
from tests.core.sites.htcondor.conftest import Ground
from tests.services.condor import CPUS, DOMAIN, MEMORY_MIB, USER

pytestmark = pytest.mark.slow
HOLD_ON = "while :; do sleep 0.1; done"


async def test_a_pool_that_is_as_it_should_be(ground: Ground) -> None:
    ground.settings["clientgroup"] = "cts"
    job = await ground.start(HOLD_ON, num_containers=2)
    await ground.until_running(job)
    survey = await ground.site.survey()
    schedd, nodes, queue = survey.lines
    assert schedd.endswith(f"which knows this service as {USER}@{DOMAIN}")
    assert nodes.startswith("nodes: 1, of which 1 are of the group 'cts'")
    assert f"{CPUS} cpus, {MEMORY_MIB} MiB" in nodes
    assert queue.startswith("containers of CTS in its queue: ")
    assert "running" in queue
    assert survey.trouble == []


async def test_a_group_that_no_node_is_of(ground: Ground) -> None:
    async with _made(ground, clientgroup="nobody") as site:
        (trouble,) = (await site.survey()).trouble
        assert "no node is of the group 'nobody'" in trouble


async def test_who_may_not_submit(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ground.pool.client_config("PASSWORD")
    monkeypatch.setenv("CONDOR_CONFIG", str(config))
    async with _made(ground) as site:
        assert "log in with IDTOKENS" in (await site.survey()).trouble[0]


async def test_a_pool_that_is_away(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CONDOR_COLLECTOR_HOST", "127.0.0.1:9")
    async with _made(ground) as site:
        described = await site.describe()
        assert (described.available, described.unavailable_reason) == (False, AWAY)
        # Operators are told more.
        with pytest.raises(UnavailableError, match="HTCondor cannot be reached: Failed"):
            await site.survey()


async def test_a_pool_without_nodes(ground: Ground) -> None:
    job = await ground.start("true")
    await ground.until_told(job)
    async with _without_nodes(ground):
        survey = await ground.site.survey()
        assert "nodes: 0" in survey.lines[1]
        assert "no node of the pool can be seen" in survey.trouble[0]
        waiting = ground.job()
        await ground.hand_over(waiting)
        await ground.until(lambda: _says(ground, waiting, "No node of the pool can be seen."))


async def test_a_job_that_waits_runs_is_held_and_is_gone(ground: Ground) -> None:
    job = await ground.start("[ $CONTAINER_NUMBER = 0 ] || exit 3\n" + HOLD_ON, num_containers=2)
    (cluster,) = job.htcondor_details.cluster_id
    await ground.until(
        lambda: _says(ground, job, f"HTCondor has it as cluster {cluster}: 1 running, 1 held.")
    )
    assert any("container 1" in line and "OnExitHold" in line for line in await _told(ground, job))
    large = ground.job(cpus=CPUS + 1)
    (cluster,) = (await ground.hand_over(large)).cluster_id
    await ground.until(lambda: _says(ground, large, f"condor_q -better-analyze {cluster}.0"))
    assert any("No node of the pool can ever take" in line for line in await _told(ground, large))
    assert await _told(ground, ground.job()) == ["HTCondor has nothing of it in its queue."]


async def _told(ground: Ground, job) -> list[str]:
    return await ground.site.explain(job)


async def _says(ground: Ground, job, words: str) -> bool:
    return any(words in line for line in await _told(ground, job))


@contextlib.asynccontextmanager
async def _made(ground: Ground, **changes: str) -> AsyncIterator[HTCondorSite]:
    site = ground.make_site(**changes)
    try:
        yield site
    finally:
        await site.close()


@contextlib.asynccontextmanager
async def _without_nodes(ground: Ground) -> AsyncIterator[None]:
    """A startd that ends by itself tells the collector; the master does not start it again meanwhile."""
    startd, master = ground.pool.daemon("condor_startd"), ground.pool.daemon("condor_master")
    os.kill(master, signal.SIGSTOP)
    os.kill(startd, signal.SIGTERM)

    async def are_gone() -> bool:
        return "nodes: 0" in (await ground.site.survey()).lines[1]

    async def is_back() -> bool:
        return "nodes: 1" in (await ground.site.survey()).lines[1]

    try:
        await ground.until(are_gone)
        yield
    finally:
        os.kill(master, signal.SIGCONT)
        await ground.until(is_back)
