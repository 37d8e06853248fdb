"""Two minutes of random faults, which ``python -m tests.faults.nemesis`` prints, of more seeds and for longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.nemesis.checker import find_violations
from tests.faults.nemesis.run import run, schedule_of, started_services
from tests.faults.nemesis.service import NemesisHarness
from tests.services.server import or_skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEED, SECONDS = 1, 60.0


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[NemesisHarness]:
    with ExitStack() as stack:
        with or_skip():
            new_service = stack.enter_context(started_services(tmp_path))
        yield stack.enter_context(new_service())


def test_a_service_keeps_its_promises_under_random_faults(harness: NemesisHarness) -> None:
    schedule = schedule_of(harness, SEED, SECONDS)
    history = run(harness, schedule, SEED, SECONDS, print)
    assert history.records, "no job was submitted"
    assert find_violations(history) == []
