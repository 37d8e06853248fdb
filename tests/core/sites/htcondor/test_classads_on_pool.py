"""Tests that a container that a real pool stops for a limit reports the limit and what it used."""

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
MEMORY = r"it asked for 20 MiB of memory and used \d+ MiB"
RUNTIME = r"it ran for [1-9][\d.]* s, and its limit is 1.0 s"
TOLD = [
    (MEMORY, "memory usage exceeded request_memory"),
    (MEMORY, "SYSTEM_PERIODIC_HOLD"),
    (RUNTIME, "SYSTEM_PERIODIC_HOLD"),
    (RUNTIME, "PeriodicHold"),
    (RUNTIME, "allowed job duration"),
    (RUNTIME, "allowed execute duration"),
]
"""The error and the admin error of each container."""
LIMITS = {
    "Periodic_Hold": "( RemoteWallClockTime > 1 && CTSContainerNumber == 3 )",
    "MY.AllowedJobDuration": "ifThenElse(CTSContainerNumber == 4, 1, undefined)",
    "MY.AllowedExecuteDuration": "ifThenElse(CTSContainerNumber == 5, 1, undefined)",
}
"""The limits of the last three; the others are held by rules that the tests' pool has for one user."""


@pytest.mark.slow
async def test_limits_of_a_pool(harness: HTCondorHarness, monkeypatch) -> None:
    monkeypatch.setattr(site, "submit_description", lambda *job: submit_description(*job) | LIMITS)
    count = len(TOLD)
    job = await harness.start(
        SCRIPT, user="limited", memory="20MiB", num_containers=count, files=count
    )
    reports = await harness.until_ended(job)
    for number, (owner, admin) in enumerate(TOLD):
        outcome = reports[number].outcome
        assert re.search(owner, outcome.error or ""), (number, outcome)
        assert admin in (outcome.admin_error or "")
