"""What drives jobs: cycles over their records."""

from __future__ import annotations

from cts_core.engine.advance import Advance
from cts_core.model.site import Cluster
from cts_core.states import JobState
from tests.core.engine.conftest import Bench


async def _halt(bench: Bench) -> Advance:
    """The local site's driver, which from now on moves only when it is told to."""
    driver = bench.engine._drivers[Cluster.LOCAL]
    assert driver._task is not None
    driver._task.cancel()
    return driver


async def test_job_that_is_canceled_before_its_start_has_canceled_containers(bench: Bench):
    await bench.prepare("a", "b")
    driver = await _halt(bench)
    job_id = await bench.submit(["a", "b"], num_containers=2)
    await bench.engine.jobs.cancel(bench.user, job_id)
    await driver.cycle([await bench.engine._store.get_summary(job_id)])
    assert (await bench.engine.jobs.status(bench.user, job_id)).state is JobState.CANCELED
    containers = (await bench.engine.jobs.containers(bench.user, job_id)).containers
    assert [(c.state, c.error) for c in containers] == [(JobState.CANCELED, None)] * 2
