"""Worker tokens, claims, presigned requests and updates of remote workers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cts_core import errors
from cts_core.clock import utc_now
from cts_core.engine import worker_tokens
from cts_core.engine import workers as module
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.updates import ContainerUpdates
from cts_core.engine.worker_permissions import ObjectPermissions
from cts_core.engine.worker_tokens import LIFETIME, WorkerTokens, token_hash
from cts_core.engine.workers import Workers
from cts_core.identity.identity import Credentials
from cts_core.model.job import S3File
from cts_core.model.site import SiteName
from cts_core.model.worker import Claim, ContainerId, NodeUpdate, ObjectRequest
from cts_core.object_paths import FolderPath
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from tests.harness.event_loop import monitor_loop
from tests.harness.factories import CRC
from tests.harness.records import CREATED, STARTED, insert, move
from tests.harness.reporting_site import ReportingSite

KEYS = S3Keys("https://s3.invalid", "us-east-1", "key-id", "very-secret")
FILES = [{"file": f"data/in/{i}", "crc64nvme": CRC} for i in range(4)]


@pytest.fixture
async def store(tmp_path):
    store = SQLiteStore(tmp_path / "records.sqlite")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def tokens(store) -> WorkerTokens:
    return WorkerTokens(store)


def make_workers(store: SQLiteStore) -> Workers:
    sites = SiteDirectory({SiteName.KBASE: ReportingSite()}, store)
    updates = ContainerUpdates(store, sites, on_change=lambda _: None)
    return Workers(
        store,
        updates,
        WorkerTokens(store),
        log_dir=FolderPath("logs/x"),
        signer=KeySigner(KEYS),
        make_plan=None,
    )


@pytest.fixture
def workers(store) -> Workers:
    return make_workers(store)


def credentials(token) -> Credentials:
    return Credentials(f"Bearer {token.get_secret_value()}")


async def test_each_token_identifies_its_own_container(workers, store, tokens):
    job = await insert(store, 2, cluster="kbase", num_containers=2)
    issued = await tokens.issue(job)
    containers = [await workers.identify(credentials(token)) for token in issued]
    assert containers == [ContainerId(job.id, 0), ContainerId(job.id, 1)]


async def test_retried_start_gets_the_same_tokens_while_they_are_cached(store, monkeypatch):
    job, other = await insert(store), await insert(store)
    monkeypatch.setattr(worker_tokens, "MAX_CACHED", 1)
    tokens = WorkerTokens(store)
    first = await tokens.issue(job)
    assert await tokens.issue(job) == first
    await tokens.issue(other)
    assert await tokens.issue(job) != first


async def test_more_tokens_than_the_cache_holds_are_issued_anew(store, monkeypatch):
    job = await insert(store, 2, cluster="kbase", num_containers=2)
    monkeypatch.setattr(worker_tokens, "MAX_CACHED", 1)
    tokens = WorkerTokens(store)
    first = await tokens.issue(job)
    second = await tokens.issue(job)
    assert first != second
    token = second[0].get_secret_value()
    assert await tokens.find(token) == ContainerId(job.id, 0)


async def test_token_expires_with_its_job_or_its_lifetime(workers, store, tokens):
    job = await insert(store)
    (token,) = await tokens.issue(job)
    stored_hash = token_hash(token.get_secret_value())
    late = utc_now() + LIFETIME + timedelta(seconds=1)
    assert await store.find_worker_token(stored_hash, now=late) is None
    assert await move(store, job.id, CREATED, JobState.ERROR)
    with pytest.raises(errors.InvalidTokenError):
        await workers.identify(credentials(token))


@pytest.mark.parametrize("given", ["Bearer cts-worker.", "Bearer cts-worker.x"])
async def test_unknown_token_is_refused(workers, store, tokens, given):
    job = await insert(store)
    await tokens.issue(job)
    with pytest.raises(errors.InvalidTokenError):
        await workers.identify(Credentials(given))


@pytest.mark.parametrize("given", [None, "Basic eDp5", "Bearer other"])
async def test_other_credentials_identify_no_container(workers, given):
    assert await workers.identify(Credentials(given)) is None


async def test_container_number_beyond_the_job_is_refused(workers, store):
    job = await insert(store)
    for ask in (
        workers.claim(ContainerId(job.id, 1), Claim(process="1.0", run=0, worker="w")),
        workers.sign(ContainerId(job.id, 1), [ObjectRequest(method="GET", path="data/a")]),
    ):
        with pytest.raises(errors.NoSuchContainerError):
            await ask


async def test_records_hold_only_the_hash_of_a_token(store, tokens, tmp_path):
    (token,) = await tokens.issue(await insert(store))
    secret = token.get_secret_value().encode()
    await store.close()
    files = [f for f in tmp_path.iterdir() if f.is_file()]
    assert not [f for f in files if secret in f.read_bytes()]
    assert token_hash(secret.decode()).encode() in (tmp_path / "records.sqlite").read_bytes()


async def test_presigned_requests_do_not_contain_the_secret(workers, store):
    job = await insert(store)
    (file,) = job.job_input.files[:1]
    container = ContainerId(job.id, 0)
    (signed,) = await workers.sign(container, [ObjectRequest(method="GET", path=file.file)])
    assert signed.url == f"https://s3.invalid/{file.file}"
    assert "key-id" in signed.headers["authorization"]
    assert KEYS.secret not in signed.model_dump_json()
    assert signed.headers["authorization"] not in repr(signed)
    log = f"logs/x/{job.id}/container-0-stdout.txt"
    assert await workers.sign(container, [ObjectRequest(method="PUT", path=log)])
    with pytest.raises(errors.UnauthorizedError):
        await workers.sign(container, [ObjectRequest(method="PUT", path=file.file)])


async def test_claim_is_refused_while_the_job_is_being_canceled(workers, store):
    job = await insert(store)
    container, claim = ContainerId(job.id, 0), Claim(process="1.0", run=0, worker="w")
    assert await workers.claim(container, claim)
    assert not await workers.claim(container, claim.model_copy(update={"process": "2.0"}))
    assert await move(store, job.id, CREATED, STARTED)
    assert await move(store, job.id, STARTED, JobState.CANCELING)
    with pytest.raises(errors.JobStateError):
        await workers.claim(container, claim)


async def test_outputs_elsewhere_are_forbidden(workers, store):
    job = await insert(store, cluster="kbase")
    container = ContainerId(job.id, 0)
    assert await move(store, job.id, CREATED, STARTED)
    elsewhere = NodeUpdate(time=utc_now(), outputs=[S3File(file="data/elsewhere/x")])
    with pytest.raises(errors.UnauthorizedError):
        await workers.update(container, JobState.COMPLETE, elsewhere)
    await workers.update(container, JobState.JOB_SUBMITTING, NodeUpdate(time=utc_now()))
    assert await store.container_states(job.id) == [JobState.JOB_SUBMITTING]


async def test_permissions_cache_is_bounded_and_evicts_least_recently_used(store, monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED", 5)
    workers = make_workers(store)
    job = await insert(store, 4, cluster="kbase", num_containers=4, input_files=FILES)
    for number in (0, 1, 0, 2, 3, 0):
        file = job.job_input.files[number].file
        container = ContainerId(job.id, number)
        await workers.sign(container, [ObjectRequest(method="GET", path=file)])
    assert [container.number for container in workers._permissions] == [3, 0]
    assert workers._permissions.currsize == 4


async def test_job_is_read_once_for_all_its_workers(workers, store, monkeypatch):
    job = await insert(store, 4, cluster="kbase", num_containers=4, input_files=FILES)
    reads = []
    get_job = store.get_job
    monkeypatch.setattr(store, "get_job", lambda job_id: reads.append(job_id) or get_job(job_id))
    for number in range(4):
        log = f"logs/x/{job.id}/container-{number}-stdout.txt"
        await workers.sign(ContainerId(job.id, number), [ObjectRequest(method="PUT", path=log)])
    assert reads == [job.id]


async def test_event_loop_is_not_blocked_while_many_outputs_are_checked(
    workers, store, monkeypatch
):
    job = await insert(store, cluster="kbase")
    check = ObjectPermissions.check
    async with monitor_loop() as monitor:

        def spy(permissions: ObjectPermissions, request: ObjectRequest) -> None:
            monitor.mark()
            check(permissions, request)

        monkeypatch.setattr(ObjectPermissions, "check", spy)
        outputs = [
            S3File.model_construct(file=f"data/out/{number}", crc64nvme=CRC)
            for number in range(20_000)
        ]
        update = NodeUpdate.model_construct(time=utc_now(), outputs=outputs)
        with pytest.raises(errors.JobStateError):
            await workers.update(ContainerId(job.id, 0), JobState.COMPLETE, update)
    assert len(monitor.marks) == len(outputs)
    # On the loop, none would come between.
    assert monitor.turns_between_marks > 2
