"""The client of NERSC while jobs live: it expires, is refused and renewed, in memory and on a virtual clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cts_core.model.site import SiteName
from cts_core.states import JobState
from tests.harness.jaws_memory import (
    MemoryServer,
    MemoryWorld,
    RunFate,
    make_template,
    monotonic,
    now,
    run_in_memory,
)

CLUSTER = SiteName.PERLMUTTER_JAWS
EXPIRED = "The client by which this service uses NERSC has expired"
REFUSED = "NERSC refuses the client by which this service uses it"


async def _start(world: MemoryWorld) -> MemoryServer:
    server = MemoryServer(world, clusters=[CLUSTER])
    await server.start()
    return server


async def _until_state(world: MemoryWorld, job_id: str, state: JobState) -> None:
    async with asyncio.timeout(24 * 3600):
        while world.jobs[job_id].state is not state:
            await asyncio.sleep(1)


@pytest.mark.parametrize("state", [JobState.JOB_SUBMITTING, JobState.JOB_SUBMITTED])
@pytest.mark.parametrize(("has_expired", "said"), [(True, EXPIRED), (False, REFUSED)])
def test_job_lives_through_the_end_of_a_client_and_its_renewal(
    state: JobState, *, has_expired: bool, said: str
):
    async def live() -> None:
        world = MemoryWorld(run_fate=lambda _: RunFate(seconds=600))
        if has_expired:
            world.client_end = now() + timedelta(seconds=1)
        job_id = world.add_job(make_template(CLUSTER), "job")
        server = await _start(world)
        site = server.sites[CLUSTER]
        await _until_state(world, job_id, state)
        world.refused_keys.add(world.key)
        begun = monotonic()
        await asyncio.sleep(3 * 3600)
        job = world.jobs[job_id]
        # The site is said to be away, by which /ready has it, too, and the job says what it waits for.
        described = await site.describe()
        assert not described.available
        assert said in (described.unavailable_reason or "")
        assert said in (site.waits_for(job) or "")
        assert "gives no token for its client 0" in " ".join(await site.explain(job))
        assert world.live == {job_id: None}
        # NERSC is asked at looks and checks alone.
        assert world.refusals <= (monotonic() - begun) / 10
        world.key, world.client_end = 1, now() + timedelta(days=2)
        renewed = monotonic()
        await _until_state(world, job_id, JobState.COMPLETE)
        assert monotonic() - renewed < 1800
        assert (await site.describe()).available
        assert server.facility.client().client_id == "1"

    run_in_memory(live, poll_seconds=5.0)


def test_client_that_expires_while_nothing_lives_is_told():
    async def idle() -> None:
        world = MemoryWorld(client_end=now() + timedelta(hours=1))
        server = await _start(world)
        site = server.sites[CLUSTER]
        await asyncio.sleep(60)
        assert (await site.describe()).available
        world.refused_keys.add(world.key)
        await asyncio.sleep(2 * 3600)
        assert EXPIRED in ((await site.describe()).unavailable_reason or "")
        # Its owner has had its end moved.
        world.refused_keys.clear()
        world.client_end = now() + timedelta(days=1)
        await asyncio.sleep(61)
        assert (await site.describe()).available
        assert server.facility.client().expires_at == world.client_end

    run_in_memory(idle, poll_seconds=5.0)


def test_renewed_key_that_fails_once_is_tried_again_soon():
    async def renew() -> None:
        world = MemoryWorld()
        server = await _start(world)
        await asyncio.sleep(60)
        world.key = 1
        world.is_down = lambda _: monotonic() < begun + 700
        begun = monotonic()
        await asyncio.sleep(699)
        assert server.facility.client().client_id == "0"
        await asyncio.sleep(62)
        assert server.facility.client().client_id == "1"

    run_in_memory(renew, poll_seconds=5.0)
