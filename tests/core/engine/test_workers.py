"""A worker's token opens its own container, while its job lives."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cts_core import errors
from cts_core.clock import utc_now
from cts_core.engine import worker_tokens as supplies
from cts_core.engine import workers as module
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.updates import ContainerUpdates
from cts_core.engine.worker_permissions import Leave
from cts_core.engine.worker_tokens import LIFETIME, WorkerSupply, hash_of
from cts_core.engine.workers import Nodes
from cts_core.identity.identity import Credentials
from cts_core.model.job import S3File
from cts_core.model.site import SiteName
from cts_core.model.update import NodeUpdate
from cts_core.model.worker import Claim, ContainerId, ObjectRequest
from cts_core.objects.directory import DirectoryStore
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from tests.contract.records import CREATED, STARTED, insert, move
from tests.harness.event_loop import monitor_loop
from tests.harness.factories import CRC
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
async def supply(store, tmp_path) -> WorkerSupply:
    objects = DirectoryStore(tmp_path / "objects")
    await objects.open()
    return WorkerSupply(store, objects, log_dir="logs/x")


@pytest.fixture
def nodes(store, supply) -> Nodes:
    sites = SiteDirectory({SiteName.KBASE: ReportingSite()}, store)
    updates = ContainerUpdates(store, sites, on_change=lambda _: None)
    return Nodes(store, updates, supply, log_dir="logs/x", signer=KeySigner(KEYS), make_plan=None)


def shown(token) -> Credentials:
    return Credentials(f"Bearer {token.get_secret_value()}")


async def test_each_token_stands_for_its_own_container(nodes, store, supply):
    job = await insert(store, 2, cluster="kbase", num_containers=2)
    tokens = await supply.issue(job)
    found = [await nodes.identify(shown(token)) for token in tokens]
    assert found == [ContainerId(job.id, 0), ContainerId(job.id, 1)]


async def test_a_start_that_is_tried_again_has_the_tokens_of_the_first(store, supply, monkeypatch):
    job, other = await insert(store), await insert(store)
    monkeypatch.setattr(supplies, "MAX_KEPT", 1)
    first = await supply.issue(job)
    assert await supply.issue(job) == first
    await supply.issue(other)
    assert await supply.issue(job) != first


async def test_it_ends_with_its_job_or_its_time(nodes, store, supply):
    job = await insert(store)
    (token,) = await supply.issue(job)
    known = hash_of(token.get_secret_value())
    late = utc_now() + LIFETIME + timedelta(seconds=1)
    assert await store.find_worker_token(known, now=late) is None
    assert await move(store, job.id, CREATED, JobState.ERROR)
    with pytest.raises(errors.InvalidTokenError):
        await nodes.identify(shown(token))


@pytest.mark.parametrize("given", ["Bearer cts-worker.", "Bearer cts-worker.x"])
async def test_a_made_up_token_is_refused(nodes, store, supply, given):
    job = await insert(store)
    await supply.issue(job)
    with pytest.raises(errors.InvalidTokenError):
        await nodes.identify(Credentials(given))


@pytest.mark.parametrize("given", [None, "Basic eDp5", "Bearer other"])
async def test_what_is_no_workers_token_is_left_to_others(nodes, given):
    assert await nodes.identify(Credentials(given)) is None


async def test_a_container_that_the_job_has_not(nodes, store):
    job = await insert(store)
    for ask in (
        nodes.claim(ContainerId(job.id, 1), Claim(process="1.0", run=0, worker="w")),
        nodes.sign(ContainerId(job.id, 1), [ObjectRequest(method="GET", path="data/a")]),
    ):
        with pytest.raises(errors.NoSuchContainerError):
            await ask


async def test_the_records_do_not_hold_the_token(store, supply, tmp_path):
    (token,) = await supply.issue(await insert(store))
    secret = token.get_secret_value().encode()
    await store.close()
    files = [f for f in tmp_path.iterdir() if f.is_file()]
    assert not [f for f in files if secret in f.read_bytes()]
    assert hash_of(secret.decode()).encode() in (tmp_path / "records.sqlite").read_bytes()


async def test_requests_to_the_store_are_signed_and_the_secret_stays(nodes, store):
    job = await insert(store)
    (file,) = job.job_input.files[:1]
    container = ContainerId(job.id, 0)
    (granted,) = await nodes.sign(container, [ObjectRequest(method="GET", path=file.file)])
    assert granted.url == f"https://s3.invalid/{file.file}"
    assert "key-id" in granted.headers["authorization"]
    assert KEYS.secret not in granted.model_dump_json()
    assert granted.headers["authorization"] not in repr(granted)
    log = f"logs/x/{job.id}/container-0-stdout.txt"
    assert await nodes.sign(container, [ObjectRequest(method="PUT", path=log)])
    with pytest.raises(errors.UnauthorizedError):
        await nodes.sign(container, [ObjectRequest(method="PUT", path=file.file)])


async def test_nothing_is_claimed_of_a_job_that_is_being_canceled(nodes, store):
    job = await insert(store)
    container, claim = ContainerId(job.id, 0), Claim(process="1.0", run=0, worker="w")
    assert await nodes.claim(container, claim)
    assert not await nodes.claim(container, claim.model_copy(update={"process": "2.0"}))
    assert await move(store, job.id, CREATED, STARTED)
    assert await move(store, job.id, STARTED, JobState.CANCELING)
    with pytest.raises(errors.JobStateError):
        await nodes.claim(container, claim)


async def test_outputs_are_the_containers_own(nodes, store):
    job = await insert(store, cluster="kbase")
    container = ContainerId(job.id, 0)
    assert await move(store, job.id, CREATED, STARTED)
    elsewhere = NodeUpdate(time=utc_now(), outputs=[S3File(file="data/elsewhere/x")])
    with pytest.raises(errors.UnauthorizedError):
        await nodes.update(container, JobState.COMPLETE, elsewhere)
    await nodes.update(container, JobState.JOB_SUBMITTING, NodeUpdate(time=utc_now()))
    assert await store.container_states(job.id) == [JobState.JOB_SUBMITTING]


async def test_what_is_kept_of_containers_is_bounded(nodes, store, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT", 5)
    job = await insert(store, 4, cluster="kbase", num_containers=4, input_files=FILES)
    for number in (0, 1, 0, 2, 3, 0):
        file = job.job_input.files[number].file
        container = ContainerId(job.id, number)
        await nodes.sign(container, [ObjectRequest(method="GET", path=file)])
    assert [container.number for container in nodes._leaves] == [3, 0]
    assert nodes._kept == 4


async def test_a_job_is_read_once_for_its_workers(nodes, store, monkeypatch):
    job = await insert(store, 4, cluster="kbase", num_containers=4, input_files=FILES)
    asked = []
    get_job = store.get_job
    monkeypatch.setattr(store, "get_job", lambda job_id: asked.append(job_id) or get_job(job_id))
    for number in range(4):
        log = f"logs/x/{job.id}/container-{number}-stdout.txt"
        await nodes.sign(ContainerId(job.id, number), [ObjectRequest(method="PUT", path=log)])
    assert asked == [job.id]


async def test_the_loop_turns_while_many_outputs_are_checked(nodes, store, monkeypatch):
    job = await insert(store, cluster="kbase")
    check = Leave.check
    async with monitor_loop() as monitor:

        def watched(leave: Leave, request: ObjectRequest) -> None:
            monitor.mark()
            check(leave, request)

        monkeypatch.setattr(Leave, "check", watched)
        outputs = [
            S3File.model_construct(file=f"data/out/{number}", crc64nvme=CRC)
            for number in range(20_000)
        ]
        update = NodeUpdate.model_construct(time=utc_now(), outputs=outputs)
        with pytest.raises(errors.JobStateError):
            await nodes.update(ContainerId(job.id, 0), JobState.COMPLETE, update)
    assert len(monitor.marks) == len(outputs)
    # On the loop, none would come between.
    assert monitor.turns_between_marks > 2
