"""What a real pool stops containers for, and that their owners are told the limit and what was used."""

from __future__ import annotations

import re

import pytest

from cts_core.sites.htcondor import site
from cts_core.sites.htcondor.submit_description import submit_description
from tests.harness.htcondor import HTCondorHarness

# The first two use more than the smallest slot that HTCondor makes.
SCRIPT = """
[ $CONTAINER_NUMBER -lt 2 ] || exec sleep 600
exec python3 -c "import time; kept = b'x' * (150 << 20); time.sleep(600)"
"""
MEMORY = r"it asked for 20 MiB of memory and used 1[5-9]\d MiB"
RUNTIME = r"it ran for [1-9]\d* seconds, and its limit is 1 seconds"
TOLD = [
    (MEMORY, "memory usage exceeded request_memory"),
    (MEMORY, "SYSTEM_PERIODIC_HOLD"),
    (RUNTIME, "SYSTEM_PERIODIC_HOLD"),
    (RUNTIME, "PeriodicHold"),
    (RUNTIME, "allowed job duration"),
    (RUNTIME, "allowed execute duration"),
]
"""Of each container, what its owner is told, and what the pool says to admins."""
LIMITS = {
    "Periodic_Hold": "( RemoteWallClockTime > 1 && CTSContainerNumber == 3 )",
    "MY.AllowedJobDuration": "ifThenElse(CTSContainerNumber == 4, 1, undefined)",
    "MY.AllowedExecuteDuration": "ifThenElse(CTSContainerNumber == 5, 1, undefined)",
}
"""Of the last three; the others are held by rules that the tests' pool has for one user."""


@pytest.mark.slow
async def test_limits_of_a_pool(harness: HTCondorHarness, monkeypatch) -> None:
    monkeypatch.setattr(site, "submit_description", lambda *job: submit_description(*job) | LIMITS)
    count = len(TOLD)
    job = await harness.start(
        SCRIPT, user="limited", memory="20MiB", num_containers=count, files=count
    )
    told = await harness.until_told(job)
    for number, (owner, admin) in enumerate(TOLD):
        outcome = told[number].outcome
        assert re.search(owner, outcome.error or ""), (number, outcome)
        assert admin in (outcome.admin_error or "")
