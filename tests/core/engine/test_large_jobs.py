"""Jobs with many files: long computations run in threads, not on the event loop."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cts_core import concurrency
from cts_core.engine import driver, submit
from cts_core.engine import outcome as outcomes
from cts_core.engine.outputs import MergedOutputs
from tests.harness.engine import EngineHarness, submission


class Spy:
    """Records the threads on which functions are called."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.threads: dict[str, set[int]] = {}

    def watch(self, owner: Any, name: str) -> None:
        function = getattr(owner, name)
        threads = self.threads[name] = set()

        def watched(*args: object, **kwargs: object) -> object:
            threads.add(threading.get_ident())
            return function(*args, **kwargs)

        self._patch.setattr(owner, name, watched)


@pytest.mark.slow
async def test_no_step_of_a_large_job_computes_on_the_event_loop(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(concurrency, "SMALL", 1)  # so that two inputs are many
    spy = Spy(monkeypatch)
    spy.watch(submit, "_check_inputs")
    spy.watch(submit, "plan_job")
    spy.watch(submit, "idempotency_of")
    spy.watch(submit, "_to_fields")
    spy.watch(driver, "plan_job")
    spy.watch(outcomes, "overwritten")
    spy.watch(outcomes, "completed")
    spy.watch(MergedOutputs, "add_older")
    await harness.prepare("a", "b")
    await harness.engine.submissions.check(harness.user, submission(["a", "b"]))
    job_id = await harness.submit(["a", "b"], num_containers=2)
    await harness.wait_until_ended(job_id)
    await harness.engine.outputs.page(harness.user, job_id, lineage=False, after=None, limit=10)
    assert all(spy.threads.values()), spy.threads
    assert not any(threading.get_ident() in threads for threads in spy.threads.values())
