"""The contract of record stores: tokens and claims of remote workers."""

from __future__ import annotations

import asyncio

import pytest

from cts_core.clock import utc_now
from cts_core.errors import NoSuchContainerError, NoSuchJobError
from cts_core.model.worker import Claim, ContainerId
from cts_core.states import JobState
from tests.harness.records import CREATED, SECOND, insert, move

FIRST = Claim(process="7.0", run=0, worker="a")


async def test_a_token_stands_for_one_container(store, other):
    job = await insert(store, containers=2)
    now = utc_now()
    end = now + 60 * SECOND
    await store.add_worker_tokens(job.id, {"h0": 0, "h1": 1}, now=now, until=end)
    # A start that is doubled leaves the first one's good.
    await other.add_worker_tokens(job.id, {"h2": 1}, now=now, until=end)
    for token_hash, number in (("h0", 0), ("h1", 1), ("h2", 1)):
        assert await other.find_worker_token(token_hash, now=now) == ContainerId(job.id, number)
    assert await store.find_worker_token("h3", now=now) is None
    assert await store.find_worker_token("h0", now=end - SECOND) is not None
    assert await store.find_worker_token("h0", now=end) is None


@pytest.mark.parametrize("end", [JobState.ERROR, JobState.CANCELED])
async def test_tokens_end_with_their_job(store, end):
    job, another = await insert(store), await insert(store)
    now = utc_now()
    for token_hash, owner in (("h", job), ("g", another)):
        await store.add_worker_tokens(owner.id, {token_hash: 0}, now=now, until=now + SECOND)
    assert await move(store, job.id, CREATED, end)
    assert await store.find_worker_token("h", now=now) is None
    assert await store.find_worker_token("g", now=now) == ContainerId(another.id, 0)


async def test_expired_tokens_do_not_disturb_new_ones(store):
    job = await insert(store)
    now = utc_now()
    await store.add_worker_tokens(job.id, {"old": 0}, now=now, until=now + SECOND)
    later = now + 2 * SECOND
    await store.add_worker_tokens(job.id, {"new": 0}, now=later, until=later + SECOND)
    assert await store.find_worker_token("old", now=later) is None
    assert await store.find_worker_token("new", now=later) == ContainerId(job.id, 0)


async def test_no_tokens_for_a_missing_job(store):
    now = utc_now()
    with pytest.raises(NoSuchJobError):
        await store.add_worker_tokens("none", {"h": 0}, now=now, until=now + SECOND)


@pytest.mark.parametrize(
    ("claim", "granted"),
    [
        (FIRST, True),
        (FIRST.model_copy(update={"worker": "b"}), False),
        (FIRST.model_copy(update={"run": 1, "worker": "b"}), True),
        (FIRST.model_copy(update={"process": "8.0", "run": 1}), False),
    ],
)
async def test_which_claim_may_follow_the_first(store, other, claim, granted):
    job = await insert(store, containers=2)
    assert await store.claim_container(job.id, 0, FIRST)
    assert await other.claim_container(job.id, 0, claim) is granted
    assert claim.may_follow(FIRST) is granted
    # Whoever was refused is refused again, and the holder's own repetition is granted.
    assert await store.claim_container(job.id, 0, claim) is granted
    assert await store.claim_container(job.id, 0, FIRST) is (not granted or claim == FIRST)
    # The other container is unclaimed.
    assert await other.claim_container(job.id, 1, claim)


async def test_of_concurrent_claims_one_gets_the_container(store, other):
    job = await insert(store)
    claims = [Claim(process=f"{n}.0", run=0, worker=str(n)) for n in range(10)]
    granted = await asyncio.gather(
        *((store, other)[n % 2].claim_container(job.id, 0, c) for n, c in enumerate(claims))
    )
    assert sum(granted) == 1


async def test_claims_are_listed_by_container(store, other):
    job, another = await insert(store, containers=3), await insert(store)
    assert await store.claims(job.id) == {}
    second = Claim(process="8.2", run=3, worker="b")
    for owner, number, claim in ((job, 0, FIRST), (job, 2, second), (another, 0, second)):
        assert await store.claim_container(owner.id, number, claim)
    assert not await store.claim_container(job.id, 0, second)
    assert await other.claims(job.id) == {0: FIRST, 2: second}
    assert [await other.find_claim(job.id, number) for number in range(3)] == [FIRST, None, second]


async def test_no_claim_on_a_missing_container(store):
    job = await insert(store)
    with pytest.raises(NoSuchContainerError):
        await store.claim_container(job.id, 1, FIRST)
    with pytest.raises(NoSuchJobError):
        await store.claim_container("none", 0, FIRST)
