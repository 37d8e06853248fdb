"""Every row of the table of faults for jobs at JAWS."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.jaws import rows
from tests.harness.faults import Outcome

pytestmark = pytest.mark.slow
ROWS = dict(rows())


@pytest.mark.parametrize("run", ROWS.values(), ids=ROWS)
def test_no_job_is_lost_stuck_or_done_twice(run: Callable[[], Outcome]) -> None:
    outcome = run()
    assert outcome.jobs
    assert outcome.is_clean, outcome.notes
