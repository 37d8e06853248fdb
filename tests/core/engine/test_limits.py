"""Limits per user: rates and live containers."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest

from cts_core.engine import limits as module
from cts_core.engine.limits import Places, RateLimit
from cts_core.errors import NoSuchJobError, TooManyRequestsError
from cts_core.identity.identity import User
from cts_core.model.record import JobQuery
from tests.harness.engine import EngineHarness, read_jobs, submission

ANA, BOB = User("ana"), User("bob")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def count_allowed(limit: RateLimit, user: User, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            limit.consume(user)
        except TooManyRequestsError:
            break
        count += 1
    return count


def test_bucket_holds_one_minute_and_refills_steadily():
    clock = Clock()
    limit = RateLimit(12, "submit jobs", clock)
    assert count_allowed(limit, ANA, 20) == 12
    assert count_allowed(limit, BOB, 20) == 12
    with pytest.raises(TooManyRequestsError) as refused:
        limit.consume(ANA)
    assert str(refused.value) == "User ana may submit jobs 12 times a minute: try again in 5 s"
    assert refused.value.retry_after == 5
    clock.now += 4.9
    assert count_allowed(limit, ANA, 1) == 0
    clock.now += 0.2
    assert count_allowed(limit, ANA, 2) == 1
    clock.now += 3600
    assert count_allowed(limit, ANA, 20) == 12


def test_request_after_retry_after_is_allowed():
    clock = Clock()
    for per_minute in (1, 7, 60, 1200):
        limit = RateLimit(per_minute, "x", clock)
        count_allowed(limit, ANA, per_minute)
        with pytest.raises(TooManyRequestsError) as refused:
            limit.consume(ANA)
        clock.now += refused.value.retry_after
        limit.consume(ANA)


def test_requests_in_progress_are_bounded_in_all_and_of_one_user():
    places = Places("wait for logs to grow", 3, of_user=2)
    with ExitStack() as ended:
        for _ in range(2):
            ended.enter_context(places.take(ANA))
        with pytest.raises(TooManyRequestsError, match="Too many requests wait for logs to grow"):
            ended.enter_context(places.take(ANA))
        ended.enter_context(places.take(BOB))
        with pytest.raises(TooManyRequestsError) as refused:
            ended.enter_context(places.take(User("cy")))
        assert refused.value.retry_after == 1
    for _ in range(4):
        with places.take(ANA):
            pass


def test_remembered_users_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_USERS", 3)
    limit = RateLimit(1, "x", Clock())
    for name in ("a", "b", "c", "d"):
        limit.consume(User(name))
    assert list(limit._buckets) == ["b", "c", "d"]


class TestContainers:
    @pytest.fixture
    def settings(self):
        return {"limits": {"live_containers": 3, "checks_per_min": 2}}

    @pytest.fixture(autouse=True)
    async def _stop_all(self, harness: EngineHarness):
        """Workers outlive an engine."""
        yield
        live = await harness.engine.jobs.list(harness.user, JobQuery(ended=False))
        for job in read_jobs(live):
            with suppress(NoSuchJobError):  # it has ended meanwhile, or is being canceled
                await harness.engine.jobs.cancel(harness.user, job.id)
            await harness.wait_until_ended(job.id)

    @pytest.mark.slow
    async def test_live_containers_are_bounded(self, harness: EngineHarness):
        await harness.prepare("a", "b")
        long = {"environment": {"WORK": "60"}}
        first = await harness.submit(["a", "b"], num_containers=2, params=long)
        with pytest.raises(TooManyRequestsError, match=r"ana has 2 containers .* may have 3"):
            await harness.submit(["a", "b"], num_containers=2)
        await harness.submit(["a"])
        await harness.engine.jobs.cancel(harness.user, first)
        await harness.wait_until_ended(first)
        await harness.submit(["a", "b"], num_containers=2)

    async def test_repeated_idempotency_key_is_not_counted(self, harness: EngineHarness):
        await harness.prepare("a")
        body = submission(["a"], params={"environment": {"WORK": "60"}})
        submit = harness.engine.submissions.submit
        first = await submit(harness.user, body, "key")
        for _ in range(2):
            await submit(harness.user, body)
        assert await submit(harness.user, body, "key") == first
        with pytest.raises(TooManyRequestsError):
            await submit(harness.user, body, "another key")

    async def test_checks_are_bounded(self, harness: EngineHarness):
        await harness.prepare("a")
        for _ in range(2):
            await harness.engine.submissions.check(harness.user, submission(["a"]))
        with pytest.raises(TooManyRequestsError, match="check jobs 2 times a minute"):
            await harness.engine.submissions.check(harness.user, submission(["a"]))
