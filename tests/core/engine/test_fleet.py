"""Ten servers that drive 100,000 live containers, in virtual time: what they ask the store, and who takes over.

docs/explanation/capacity.md has these numbers.
"""

import asyncio

import pytest

from cts_core.engine.driver import MOVES_AT_ONCE, POLL_SECONDS, STATES_OF_JOBS
from cts_core.engine.leases import LEASE
from tests.harness.fleet import ROUND_TRIP, Fleet, Pool, Records
from tests.harness.virtual_time import run_in_virtual_time

SERVERS = 10
SECONDS = 6
ENDS = 1_000_000 / 86_400
"""Containers that end in a second, of 1,000,000 a day."""


def fleet_of(jobs, containers):
    records = Records()
    records.add_jobs(jobs, containers)
    return Fleet(records, Pool(records, ENDS))


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "containers"), [(1_000, 100), (10_000, 10)])
def test_a_fleet_follows_each_job_and_takes_over_those_of_a_dead_server(jobs, containers):
    async def live():
        fleet = fleet_of(jobs, containers)
        await fleet.start(SERVERS)
        await fleet.run(SECONDS)
        calls, documents = fleet.records.calls, fleet.records.documents
        # Each job is looked at in each cycle, by one server alone.
        assert len(fleet.pool.gaps) == jobs
        assert max(fleet.pool.gaps.values()) < 1.5 * POLL_SECONDS
        assert calls["states_of_containers"] <= (SECONDS + 2) * jobs / STATES_OF_JOBS
        # Each job is read by the server that holds it, and by none besides.
        assert documents["live_jobs"] <= jobs * (SECONDS + 2)
        assert documents["states_of_containers"] <= (SECONDS + 2) * jobs * containers
        # Every container that ended is moved in the cycle after, in two round trips.
        assert calls["transition_container"] == pytest.approx(ENDS * SECONDS, rel=0.25)
        # Two round trips for the leases, each half of their time, of each server that tries to hold any.
        assert calls["take_leases"] <= 2 * SERVERS * (SECONDS + 2) / POLL_SECONDS
        (busiest, _), *_ = fleet.shares().most_common(1)
        fleet.pool.gaps.clear()
        fleet.kill(busiest)
        await fleet.run(SECONDS)
        assert len(fleet.pool.gaps) == jobs
        assert max(fleet.pool.gaps.values()) < LEASE.total_seconds() + 2 * POLL_SECONDS
        assert busiest not in fleet.shares()
        await fleet.kill_all()

    run_in_virtual_time(live)


def test_containers_of_a_job_that_end_together_are_moved_together():
    async def live():
        fleet = fleet_of(1, 160)
        fleet.pool.ended["job-00000"] |= set(range(160))
        began = asyncio.get_running_loop().time()
        await fleet.start(1)
        while fleet.records.calls["transition_container"] < 160:
            await asyncio.sleep(ROUND_TRIP)
        # A read of the clock and a write each, many at once, and the round trips of a cycle.
        assert asyncio.get_running_loop().time() - began < ROUND_TRIP * (
            2 * 160 / MOVES_AT_ONCE + 15
        )
        await fleet.kill_all()

    run_in_virtual_time(live)
