"""Submission: the order of the checks, their messages, and what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from cts_core import errors
from cts_core.config.sections import LimitsSettings, MongoSettings
from cts_core.engine.access import PathAccess
from cts_core.engine.limits import Limits
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.submit import Submissions
from cts_core.identity.identity import Role, User
from cts_core.model.image import ImageRegistration
from cts_core.model.record import JobQuery
from cts_core.model.site import SiteName
from cts_core.object_paths import FolderPath
from cts_core.objects.s3.client import Api
from cts_core.objects.s3.head import HeadClient, Response
from cts_core.observability.instrument import PortCall
from cts_core.observability.metrics import Metrics
from cts_core.records.mongo import connection
from cts_core.sites.local.site import LocalSite
from tests.harness.engine import (
    TIMEOUT_SECONDS,
    EngineHarness,
    read_jobs,
    running_engine,
    submission,
)
from tests.harness.factories import make_submission
from tests.harness.reporting_site import ReportingSite, engine_with_sites
from tests.services.s3 import S3Server

BOB = User("bob")


async def refused(
    harness: EngineHarness, submitted, error: type[errors.CTSError], match: str
) -> None:
    with pytest.raises(error, match=match):
        await harness.engine.submissions.submit(harness.user, submitted)
    with pytest.raises(error, match=match):
        await harness.engine.submissions.check(harness.user, submitted)
    assert read_jobs(await harness.engine.jobs.list(harness.user, JobQuery())) == []


@pytest.mark.slow
async def test_job_keeps_the_checksums_of_its_inputs(harness: EngineHarness):
    await harness.prepare("a")
    job = await harness.wait_until_ended(await harness.submit(["a"]))
    (file,) = job.job_input.input_files
    assert file.crc64nvme == "jC+ERbTL/Dw="  # type: ignore[union-attr]


async def test_what_a_submission_reads_is_read_at_once(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    await harness.prepare("a")
    submissions = harness.engine.submissions
    reads = [
        (submissions._store, "live_containers_at_most"),
        (submissions._store, "find_image"),
        (submissions._store, "now"),
        (submissions._store, "inactive_sites"),
        (submissions._objects, "head"),
    ]
    begun = {name: asyncio.Event() for _, name in reads}

    def wait_for_the_others(read: Callable[..., Awaitable[object]], name: str):
        async def wait_and_read(*args: object, **kwargs: object) -> object:
            begun[name].set()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                for event in begun.values():
                    await event.wait()
            return await read(*args, **kwargs)

        return wait_and_read

    for port, name in reads:
        monkeypatch.setattr(port, name, wait_for_the_others(getattr(port, name), name))
    await submissions.submit(harness.user, submission(["a"]))


async def test_refused_submission_leaves_no_probe_of_its_output_folder(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    await harness.prepare("a")
    probed: list[str] = []
    monkeypatch.setattr(harness.engine.submissions._objects, "probe", probed.append)
    await refused(
        harness, submission(["a"], cpus=3), errors.IllegalParameterError, "3 cpus were asked for"
    )
    await refused(harness, submission(["a"], image="host/none"), errors.NoSuchImageError, "none")
    assert probed == []


@pytest.mark.slow
async def test_round_trips_of_a_submission(
    tmp_path: Path,
    mongo_settings: MongoSettings,
    minio: S3Server,
    monkeypatch: pytest.MonkeyPatch,
):
    is_submitting = ContextVar("is_submitting", default=False)
    sent: list[str] = []

    class Listener(CommandListener):
        def started(self, event: CommandStartedEvent) -> None:
            if is_submitting.get():
                (collection, *_) = event.command.values()
                sent.append(f"{event.command_name} {collection}")

        def succeeded(self, event: object) -> None:
            """Nothing to record."""

        failed = succeeded

    call, head = Api.call, HeadClient._head

    async def record_call(api: Api, operation: str, path: str, **parameters: Any) -> Any:
        if is_submitting.get():
            sent.append(f"S3 {operation}")
        return await call(api, operation, path, **parameters)

    async def record_head(client: HeadClient, path: str) -> Response:
        if is_submitting.get():
            sent.append("S3 HEAD")
        return await head(client, path)

    monkeypatch.setattr(Api, "call", record_call)
    monkeypatch.setattr(HeadClient, "_head", record_head)
    mongo_client = partial(AsyncMongoClient, event_listeners=[Listener()])
    monkeypatch.setattr(connection, "AsyncMongoClient", mongo_client)
    minio.empty()
    settings = {
        "records": "mongo",
        "mongo": mongo_settings.model_dump(),
        "objects": "s3",
        "s3": minio.settings().model_dump(),
        "log_dir": "logs/jobs",
    }
    async with running_engine(tmp_path, settings) as harness:

        async def round_trips(key: str | None = None) -> list[str]:
            token = is_submitting.set(True)
            await harness.engine.submissions.submit(harness.user, submission(["a"]), key)
            is_submitting.reset(token)
            trips = sorted(sent)
            sent.clear()
            return trips

        await harness.prepare("a")
        least = [
            "S3 HEAD",
            "aggregate jobs",  # those of the user that are live
            "find images",
            "find sites",
            "hello 1",  # the store's time
            "insert subjobs",
            "update jobs",
        ]
        assert await round_trips() == sorted(["S3 delete_object", "S3 put_object", *least])
        assert await round_trips() == least, "the output folder is known to be writable"
        assert await round_trips("key") == sorted(["find jobs", *least])
        assert await round_trips("key") == ["find jobs"]


async def test_calls_to_ports_of_a_submission(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    is_submitting = ContextVar("is_submitting", default=False)
    calls: list[str] = []

    def record(_: Metrics, call: PortCall) -> None:
        if is_submitting.get():
            calls.append(f"{call.port} {call.method}")

    await harness.prepare("a")
    monkeypatch.setattr(Metrics, "on_call", record)
    is_submitting.set(True)
    least = [
        "objects head",
        "records find_image",
        "records inactive_sites",
        "records insert_job",
        "records live_containers_at_most",
        "records now",
        "site local describe",  # once for its limits, and once for its state
        "site local describe",
        "site local preflight",
    ]
    for further in (["objects probe"], []):
        await harness.engine.submissions.submit(harness.user, submission(["a"]))
        assert sorted(calls) == sorted([*least, *further])
        calls.clear()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"cpus": 3}, "3 cpus were asked for, .* at most 2 at cluster local"),
        ({"memory": "2GB"}, "bytes of memory were asked for, .* at most 1 GB"),
        ({"runtime": "P8D"}, "runtime of 11520 minutes .* at most 10080 minutes"),
        ({"cluster": "kbase", "cpus": 200}, "at most 168 at cluster kbase"),
    ],
)
async def test_site_limits(harness: EngineHarness, changes, match):
    await harness.prepare("a")
    await refused(harness, submission(["a"], **changes), errors.IllegalParameterError, match)


@pytest.mark.parametrize("settings", [{"max_cpu_hours": 1e6}])
@pytest.mark.parametrize(
    ("cluster", "cpus", "gigabytes", "minutes"),
    [
        ("perlmutter-jaws", 256, 492, 2865),
        ("lawrencium-jaws", 32, 492, 4305),
        ("kbase", 168, 990, 10_065),
    ],
)
async def test_each_limit_of_the_sites_of_the_contract(
    harness: EngineHarness, cluster: str, cpus: int, gigabytes: int, minutes: int
):
    await harness.prepare("a")
    most = {"cpus": cpus, "memory": gigabytes * 10**9, "runtime": minutes * 60}
    # What is refused next is the site, which is not configured here.
    await refused(
        harness, submission(["a"], cluster=cluster, **most), errors.SiteUnavailableError, cluster
    )
    for name, value in most.items():
        more = {name: value + 1}
        try:
            above = submission(["a"], cluster=cluster, **more)
        except ValidationError as e:
            # The largest of all sites is a bound of the model.
            (detail,) = e.errors()
            assert (detail["type"], detail["loc"]) == ("less_than_equal", (name,))
        else:
            await refused(
                harness, above, errors.IllegalParameterError, f"at most .* at cluster {cluster}"
            )


@pytest.mark.parametrize("settings", [{"max_cpu_hours": 0.5}])
async def test_cpu_hours_are_limited(harness: EngineHarness):
    await harness.prepare("a")
    checked = await harness.engine.submissions.check(
        harness.user, submission(["a"], runtime="PT30M")
    )
    assert checked.cpu_hours == 0.5
    await refused(
        harness,
        submission(["a"], runtime="PT1H"),
        errors.IllegalParameterError,
        "up to 1.0 CPU hours",
    )


async def test_unconfigured_site_is_refused(harness: EngineHarness):
    await harness.prepare("a")
    await refused(
        harness,
        submission(["a"], cluster="kbase"),
        errors.SiteUnavailableError,
        "Job flow for cluster kbase is not registered",
    )


@pytest.mark.slow
async def test_a_bucket_that_does_not_exist_is_a_path_that_was_not_found(
    tmp_path: Path, s3_server: S3Server
):
    settings = {
        "objects": "s3",
        "s3": s3_server.settings().model_dump(),
        "log_dir": "logs/container_logs",
    }
    async with running_engine(tmp_path, settings) as harness:
        await harness.prepare("a")
        for changes, path in (
            ({"files": ["data/in/a", "no-such-bucket/b"]}, "no-such-bucket/b"),
            ({"output_dir": "no-such-bucket/out"}, "no-such-bucket/out/"),
        ):
            await refused(
                harness,
                submission(["a"], **changes),
                errors.PathNotFoundError,
                f"^The path '{path}' was not found on the s3 system$",
            )


STAFF = {Role.STAFF}
BOTH = {Role.STAFF, Role.NERSC}
EVERYTHING = set(Role)


@pytest.mark.parametrize(
    ("cluster", "roles", "lacking"),
    [
        ("local", set(), None),
        ("kbase", STAFF, None),
        ("kbase", EVERYTHING - STAFF, "KBase staff"),
        ("perlmutter-jaws", BOTH, None),
        ("perlmutter-jaws", EVERYTHING - BOTH, "KBase staff nor a NERSC account holder"),
        ("perlmutter-jaws", STAFF, "NERSC account holder"),
        ("lawrencium-jaws", BOTH, None),
        ("lawrencium-jaws", EVERYTHING - STAFF, "KBase staff"),
    ],
)
async def test_missing_site_roles_are_forbidden(
    harness: EngineHarness, tmp_path, cluster, roles, lacking
):
    await harness.prepare("a")
    user = User("bob", frozenset(roles))
    engine = harness.engine

    site = LocalSite(
        tmp_path,
        engine.settings.local,
        objects=engine._objects,
        objects_root=engine.settings.objects_dir,
        log_dir=FolderPath("logs/l"),
    )
    site.cluster = SiteName(cluster)
    submissions = Submissions(
        engine._store,
        engine._objects,
        SiteDirectory({site.cluster: site}, engine._store),
        engine.images,
        PathAccess([], FolderPath("logs/l")),
        limits=Limits(LimitsSettings(), engine._store),
        refdata=engine.refdata,
        max_cpu_hours=1,
        on_stored=lambda _: None,
    )
    requested = submission(["a"], cluster=cluster)
    if lacking is None:
        assert (await submissions.check(user, requested)).input_file_count == 1
        return
    for call in (submissions.check, submissions.submit):
        with pytest.raises(errors.UnauthorizedError, match=f"{cluster}: .* not a {lacking}$"):
            await call(user, requested)
    # It is the last thing to be checked.
    with pytest.raises(errors.PathNotFoundError):
        await submissions.check(user, submission(["absent"], cluster=cluster))
    await engine._store.set_site_active(site.cluster, active=False)
    with pytest.raises(errors.SiteInactiveError):
        await submissions.check(user, requested)


@pytest.mark.parametrize("waits", [False, True])
async def test_site_that_is_away_refuses_jobs_unless_they_may_wait(tmp_path: Path, *, waits: bool):
    site = ReportingSite()
    async with engine_with_sites(tmp_path, site) as harness:
        await harness.prepare("a")
        site.available, site.takes_jobs_while_away = False, waits
        site.started = errors.UnavailableError("it is away")
        site.reason = "NERSC is down until 18:00 UTC; your job waits"
        if not waits:
            with pytest.raises(errors.SiteUnavailableError, match="down"):
                await harness.submit(["a"], cluster="kbase")
            return
        job_id = await harness.submit(["a"], cluster="kbase")
        jobs, admin = harness.engine.jobs, harness.engine.admin
        (listed,) = read_jobs(await jobs.list(harness.user, JobQuery()))
        shown = (
            await jobs.get(harness.user, job_id),
            await jobs.status(harness.user, job_id),
            await admin.get(job_id),
            listed,
        )
        assert {job.waits_for for job in shown} == {site.reason}
        await jobs.cancel(harness.user, job_id)
        assert (await harness.wait_until_ended(job_id)).waits_for is None


@pytest.mark.slow
async def test_inactive_site_refuses_new_jobs_and_finishes_running_ones(harness: EngineHarness):
    await harness.prepare("a")
    running = await harness.submit(["a"], params={"environment": {"WORK": "0.5"}})
    await harness.engine.sites.set_active(harness.user, SiteName.LOCAL, active=False)
    with pytest.raises(errors.SiteInactiveError):
        await harness.submit(["a"])
    assert (await harness.wait_until_ended(running)).state == "complete"
    await harness.engine.sites.set_active(harness.user, SiteName.LOCAL, active=True)
    assert (await harness.wait_until_ended(await harness.submit(["a"]))).state == "complete"
    with pytest.raises(errors.UnauthorizedError):
        await harness.engine.sites.set_active(BOB, SiteName.LOCAL, active=False)


@pytest.mark.parametrize(
    ("image", "error", "match"),
    [
        (
            "fake/image",
            errors.NoSuchImageError,
            "No image docker.io/fake/image with tag 'latest' exists in the system.",
        ),
        ("host/tool:2", errors.NoSuchImageError, "No image host/tool with tag '2'"),
        ("host/tool@sha256:" + "0" * 64, errors.NoSuchImageError, "with digest sha256:000"),
        ("Host/tool", errors.ImageNameError, "Illegal character in image name 'Host/tool': 'H'"),
    ],
)
async def test_images(harness: EngineHarness, image, error, match):
    await harness.prepare("a")
    await refused(harness, submission(["a"], image=image), error, match)


async def test_inputs(harness: EngineHarness, tmp_path):
    await harness.prepare("a", "b")
    await refused(
        harness,
        submission(["a", "none"]),
        errors.PathNotFoundError,
        "The path 'data/in/none' was not found on the s3 system",
    )
    (tmp_path / "home" / "objects" / "data" / "in" / "dropped").write_text("by hand")
    await refused(
        harness,
        submission(["dropped"]),
        errors.IllegalParameterError,
        "The S3 path 'data/in/dropped' does not have a CRC64/NVME checksum",
    )
    (tmp_path / "home" / "objects" / "data" / "in" / "b").write_text("changed")
    await refused(harness, submission(["b"]), errors.ChecksumMismatchError, "data/in/b")
    await refused(
        harness,
        make_submission(files=[{"file": "data/in/a", "crc64nvme": "AAAAAAAAAAA="}]),
        errors.ChecksumMismatchError,
        "The expected CRC64/NMVE checksum 'AAAAAAAAAAA=' for the path 'data/in/a' does not match the actual checksum 'jC",
    )
    await refused(
        harness,
        make_submission(files=["data/in/a", "data/in/../in/a"]),
        errors.IllegalPathError,
        "data/in/../in/a",
    )


async def test_colliding_inputs_are_refused(harness: EngineHarness):
    await harness.prepare("a")
    await harness.store("data/other/a")
    await refused(
        harness,
        make_submission(files=["data/in/a", "data/other/a"]),
        errors.IllegalParameterError,
        "Input files 'data/other/a' at index 1 and 'data/in/a' at index 0 collide at path '/input_files/a'",
    )


@pytest.mark.parametrize("settings", [{"allowed_paths": ["data/{user}"]}])
async def test_paths_of_others_are_forbidden(harness: EngineHarness):
    await harness.prepare()
    await harness.store("data/ana/a")
    await refused(
        harness,
        make_submission(files=["data/bob/a"], output_dir="data/ana/out"),
        errors.PathInaccessibleError,
        "The input path data/bob/a is not a subpath of the user's allowed paths",
    )
    await refused(
        harness,
        make_submission(files=["data/ana/a"], output_dir="data/bob/out"),
        errors.PathInaccessibleError,
        "The output path data/bob/out/ is not a subpath",
    )


async def test_output_below_the_logs_is_forbidden(harness: EngineHarness):
    await harness.prepare("a")
    await refused(
        harness,
        submission(["a"], output_dir="cts-logs/container_logs/mine"),
        errors.PathInaccessibleError,
        "Jobs may not write to the log path cts-logs/container_logs/",
    )


async def test_idempotency_key_gives_one_job_also_concurrently(harness: EngineHarness):
    await harness.prepare("a")
    submit = harness.engine.submissions.submit
    ids = await asyncio.gather(*(submit(harness.user, submission(["a"]), "key") for _ in range(10)))
    assert len(set(ids)) == 1
    assert await submit(BOB, submission(["a"]), "key") != ids[0]
    with pytest.raises(errors.IllegalParameterError, match="used for another request"):
        await submit(harness.user, submission(["a"], cpus=2), "key")
    # The key is looked up before the other checks: the same body is answered though its input is gone.
    await harness.engine._objects.delete("data/in/a")
    assert await submit(harness.user, submission(["a"]), "key") == ids[0]
    with pytest.raises(errors.IllegalParameterError, match="printable"):
        await submit(harness.user, submission(["a"]), "\n")


async def test_check_returns_the_planned_job_and_stores_nothing(harness: EngineHarness):
    await harness.prepare("a", "b", "c")
    result = await harness.engine.submissions.check(
        harness.user, submission(["a", "b", "c"], num_containers=2, cpus=2, runtime="PT30M")
    )
    assert [c.argv[1:] for c in result.containers] == [
        ["/input_files/a", "/input_files/b"],
        ["/input_files/c"],
    ]
    assert [f.crc64nvme for c in result.containers for f in c.files].count(None) == 0
    assert (result.input_file_count, result.input_bytes, result.cpu_hours) == (3, 3, 2.0)
    assert any("declobber" in warning for warning in result.warnings)
    assert any("isolates nothing" in warning for warning in result.warnings)
    assert not any("not empty" in warning for warning in result.warnings)
    await harness.store("data/out/old")
    result = await harness.engine.submissions.check(harness.user, submission(["a"]))
    assert any("data/out/ is not empty" in warning for warning in result.warnings)
    assert not any("declobber" in warning for warning in result.warnings)
    assert read_jobs(await harness.engine.jobs.list(harness.user, JobQuery())) == []


@pytest.mark.slow
async def test_changed_program_is_another_image(harness: EngineHarness, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 1 > out\n")
    program.chmod(0o755)
    await harness.store("data/in/a")
    register = harness.engine.images.register
    first = await register(harness.user, "host/p", ImageRegistration(executable=str(program)))
    with pytest.raises(errors.ImageTagExistsError):
        await register(harness.user, "host/p", ImageRegistration(executable=str(program)))
    with pytest.raises(errors.ImageDigestExistsError):
        await register(harness.user, "host/p:2", ImageRegistration(executable=str(program)))
    program.write_text("#!/bin/sh\necho 2 > out\n")
    await refused(
        harness,
        submission(["a"], image="host/p"),
        errors.ImageFetchError,
        "changed since it was registered",
    )
    await harness.engine.images.delete(harness.user, "host/p")
    second = await register(harness.user, "host/p", ImageRegistration(executable=str(program)))
    assert second.digest != first.digest
    assert (
        await harness.wait_until_ended(await harness.submit(["a"], image="host/p"))
    ).state == "complete"


@pytest.mark.slow
async def test_labels_and_listings(harness: EngineHarness):
    await harness.prepare("a")
    first = await harness.submit(["a"], labels={"project": "c2"})
    second = await harness.submit(["a"])
    for job_id in (first, second):
        await harness.wait_until_ended(job_id)
    listed = await harness.engine.jobs.list(harness.user, JobQuery(labels={"project": "c2"}))
    assert [(job.id, job.labels) for job in read_jobs(listed)] == [(first, {"project": "c2"})]
    assert (await harness.engine.jobs.get(harness.user, second)).labels is None
    assert read_jobs(await harness.engine.jobs.list(BOB, JobQuery())) == []


async def test_a_draft_is_told_all_its_problems(harness: EngineHarness):
    """Each at its field, with the plans as far as they can be made; what is stored meanwhile is nothing."""
    await harness.prepare("a", "b")
    draft = submission(
        ["a", "none", "b", "gone"],
        num_containers=4,
        cpus=3,
        memory="900GB",
        runtime=600_000,
        output_dir="cts-logs/container_logs/x",
    )
    found = await harness.engine.submissions.check_draft(harness.user, draft, {0, 3, 9})
    assert [(p.loc[1:], p.appcode) for p in found.problems] == [
        (["cpus"], 30001),
        (["memory"], 30001),
        (["num_containers"], 30001),
        (["output_dir"], 20010),
        (["input_files", 1], 40010),
        (["input_files", 3], 40010),
        # What only the site itself knows.
        (["cluster"], 30001),
    ]
    assert "3 cpus were asked for" in found.problems[0].message
    assert {p.loc[0] for p in found.problems} == {"body"}
    assert (found.input_file_count, found.input_bytes) == (4, 2)
    assert [c.number for c in found.containers] == [0, 3]
    assert read_jobs(await harness.engine.jobs.list(harness.user, JobQuery())) == []


async def test_hints_say_what_to_do(harness: EngineHarness, tmp_path: Path):
    await harness.prepare("a")
    raw = next(tmp_path.glob("**/objects/data/in")) / "raw"
    raw.write_bytes(b"x")
    draft = submission(["a", "raw"], image="host/tol")
    found = await harness.engine.submissions.check_draft(harness.user, draft)
    hints = [(p.loc[1], p.hint) for p in found.problems]
    assert hints == [
        ("image", "Registered are host/tool:latest"),
        ("input_files", "Have the service compute it first"),
    ]
    assert (found.image, found.containers) == (None, [])
    elsewhere = submission(["a"], cluster="kbase")
    found = await harness.engine.submissions.check_draft(harness.user, elsewhere)
    assert {(p.loc[1], p.appcode, p.hint) for p in found.problems} == {
        ("cluster", 60020, "Choose another site")
    }
    good = await harness.engine.submissions.check_draft(harness.user, submission(["a"]))
    assert good.problems == []
    checked = await harness.engine.submissions.check(harness.user, submission(["a"]))
    assert good.model_dump(exclude={"problems"}) == checked.model_dump()


async def test_an_outage_is_no_problem_of_a_draft(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    await harness.prepare("a")

    async def away(*_: object) -> None:
        raise errors.UnavailableError("the store is away")

    monkeypatch.setattr(harness.engine.submissions._objects, "head", away)
    with pytest.raises(errors.UnavailableError, match="away"):
        await harness.engine.submissions.check_draft(harness.user, submission(["a"]))
