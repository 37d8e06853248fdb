"""Every row of the table of faults for jobs at JAWS, and a year of such jobs."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.faults import jaws_year
from tests.faults.jaws import rows
from tests.harness.faults import Outcome

pytestmark = pytest.mark.slow
ROWS = dict(rows())
JOBS = 1000
"""``python -m tests.faults.jaws_year`` has 5,000."""


@pytest.mark.parametrize("run", ROWS.values(), ids=ROWS)
def test_no_job_is_lost_stuck_or_done_twice(run: Callable[[], Outcome]) -> None:
    outcome = run()
    assert outcome.jobs
    assert outcome.is_clean, outcome.notes


@pytest.mark.timeout(240)
def test_year_with_outages_ends_every_job_as_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    year = jaws_year.simulate(seed, JOBS)
    again = f"python -m tests.faults.jaws_year --jobs {JOBS} --seed {seed}"
    with capsys.disabled():
        print(f"\n{year.summary}: {again}")
    assert not year.wrong, again
    assert sum(year.ends.values()) == JOBS
    assert min(year.ends[end] for end in ("complete", "error", "canceled")) > 0
    assert 0 < year.longest_wait < jaws_year.LONGEST_WAIT, again
