"""Reference data: registering, staging, recovering, cleaning, updates, and jobs that need it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from cts_core import errors
from cts_core.engine import refdata_staging
from cts_core.model.image import ImageRegistration
from cts_core.model.refdata import (
    AdminReferenceData,
    RefdataReport,
    RefdataUpdate,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.engine import EngineHarness, submission
from tests.harness.factories import make_refdata, make_refdata_status
from tests.harness.paths import RECORD_CALL
from tests.harness.reporting_site import ReportingSite, engine_with_sites

S = ReferenceDataState
LOCAL, KBASE = SiteName.LOCAL, SiteName.KBASE
CRC = crc64nvme_text(b"reference")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(refdata_staging, "BUSY_SECONDS", 0.02)


async def register(
    harness: EngineHarness, path="data/ref/x", *, content=b"reference", crc=None, **kwargs
):
    if content is not None:
        await harness.store(path, content)
    return await harness.engine.refdata.register(
        harness.user, path, crc64nvme=crc, unpack=kwargs.get("unpack", False)
    )


async def until(harness: EngineHarness, refdata_id: str, state: S, site: SiteName = LOCAL):
    async with asyncio.timeout(30):
        while True:
            refdata = await harness.engine.refdata.get_as_admin(refdata_id)
            status = refdata.at(site)
            if status is not None and status.state is state:
                return status
            await asyncio.sleep(0.01)


async def test_registered_and_staged(harness: EngineHarness):
    refdata = await register(harness, crc=CRC)
    assert (refdata.file, refdata.crc64nvme, refdata.registered_by) == ("data/ref/x", CRC, "ana")
    assert [(s.cluster, s.state) for s in refdata.statuses] == [(LOCAL, S.CREATED)]
    status = await until(harness, refdata.id, S.COMPLETE)
    assert [t.state for t in status.transition_times] == [
        S.CREATED,
        S.DOWNLOAD_SUBMITTED,
        S.COMPLETE,
    ]
    registered = await harness.engine.refdata.get(refdata.id)
    assert (await harness.engine.refdata.list()).data == [registered]
    assert (await harness.engine.refdata.find("data/ref/x")).data == [registered]
    assert (await harness.engine.refdata.find("data/no")).data == []
    with pytest.raises(errors.RefdataExistsError):
        await register(harness)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"path": "no", "content": None}, errors.IllegalPathError, "include a key"),
        ({"path": "data/b;c", "content": None}, errors.IllegalPathError, ";"),
        ({"unpack": True}, errors.IllegalParameterError, r"\.gz, \.tar\.gz, \.tgz can be unpacked"),
        (
            {"path": "data/x.GZ", "unpack": True, "content": None},
            errors.IllegalParameterError,
            "can be unpacked",
        ),
        ({"path": "data/no", "content": None}, errors.PathNotFoundError, "'data/no' was not found"),
        (
            {"path": "nobucket/x", "content": None},
            errors.PathNotFoundError,
            "'nobucket/x' was not found",
        ),
        (
            {"crc": "5O33DmauDQI="},
            errors.ChecksumMismatchError,
            "The expected CRC64/NMVE checksum '5O33DmauDQI=' for the path 'data/ref/x' does not match",
        ),
    ],
)
async def test_invalid_registration_is_refused(harness: EngineHarness, kwargs, error, match):
    await harness.store("data/y")
    with pytest.raises(error, match=match):
        await register(harness, **kwargs)
    assert (await harness.engine.refdata.list()).data == []


async def test_file_without_checksum_is_refused(harness: EngineHarness):
    place = harness.engine.settings.objects_dir / "data" / "bare"
    await harness.store("data/y")
    place.write_text("x")
    with pytest.raises(errors.IllegalParameterError, match="does not have a CRC64/NVME checksum"):
        await register(harness, "data/bare", content=None)


async def test_registration_without_usable_site_is_refused(harness: EngineHarness):
    await harness.engine.sites.set_active(harness.user, LOCAL, active=False)
    with pytest.raises(errors.ResourceUnavailableError, match="no site"):
        await register(harness)


async def test_unknown_id_is_not_found(harness: EngineHarness):
    refdata = harness.engine.refdata
    for call in (
        refdata.get("no"),
        refdata.get_as_admin("no"),
        refdata.recover("no", LOCAL),
        refdata.clean(harness.user, "no", LOCAL, force=False),
        refdata.update("no", LOCAL, S.COMPLETE, None),
        refdata.on_callback("no", LOCAL),
    ):
        with pytest.raises(errors.NoSuchRefdataError):
            await call


async def test_failed_staging_has_its_error(harness: EngineHarness):
    refdata = await register(harness, "data/x.gz", unpack=True)
    status = await until(harness, refdata.id, S.ERROR)
    assert "data/x.gz could not be staged" in (status.error or "")
    assert (await harness.engine.refdata.get(refdata.id)).statuses[0].error == status.error


@pytest.mark.slow
async def test_jobs_that_need_reference_data(harness: EngineHarness):
    await harness.prepare("a")
    refdata = await register(harness)
    await until(harness, refdata.id, S.COMPLETE)
    for name, mount in (("host/with", "/ref"), ("host/without", None)):
        registration = ImageRegistration(executable=str(RECORD_CALL))
        await harness.engine.images.register(
            harness.user,
            name,
            registration,
            refdata_id=refdata.id,
            default_refdata_mount_point=mount,
        )
        job = submission(["a"], image=name, params={"args": ["/ref/x", "/own/x"]})
        if mount is None:
            with pytest.raises(errors.IllegalParameterError, match="set refdata_mount_point"):
                await harness.engine.submissions.submit(harness.user, job)
            params = {"args": ["/ref/x", "/own/x"], "refdata_mount_point": "/own"}
            job = submission(["a"], image=name, params=params)
        ended = await harness.wait_until_ended(
            await harness.engine.submissions.submit(harness.user, job)
        )
        assert ended.state == "complete", ended.error
        called = json.loads(await harness.read("data/out/called.json"))
        seen = 0 if mount else 1
        assert called["argv"][1 - seen] == ("/own/x" if mount else "/ref/x")
        assert called["read"] == {called["argv"][seen]: "reference"}


async def test_mount_point_of_job_wins_over_image(harness: EngineHarness):
    await harness.prepare("a")
    refdata = await register(harness)
    await until(harness, refdata.id, S.COMPLETE)
    await harness.engine.images.register(
        harness.user,
        "host/clash",
        ImageRegistration(executable=str(RECORD_CALL)),
        refdata_id=refdata.id,
        default_refdata_mount_point="/input_files/",
    )
    with pytest.raises(errors.IllegalParameterError, match="Two mount points are /input_files"):
        await harness.submit(["a"], image="host/clash")


async def test_jobs_are_refused_until_staging_completes(tmp_path: Path):
    site = ReportingSite()
    async with engine_with_sites(tmp_path, site) as harness:
        refdata = await register(harness)
        await harness.store("data/in/a")
        await harness.engine.images.register(
            harness.user,
            "host/tool",
            ImageRegistration(executable=str(RECORD_CALL)),
            refdata_id=refdata.id,
            default_refdata_mount_point="/ref",
        )
        update = harness.engine.refdata.update
        for state in (None, S.DOWNLOAD_SUBMITTED):
            if state:
                await update(refdata.id, KBASE, state, None)
            with pytest.raises(errors.RefdataStateError, match="has to be complete"):
                await harness.submit(["a"], cluster="kbase")
        await update(refdata.id, KBASE, S.COMPLETE, None)
        await harness.submit(["a"], cluster="kbase")


async def test_recovering(tmp_path: Path):
    here, away = ReportingSite(), ReportingSite(SiteName.PERLMUTTER_JAWS)
    away.available = False
    async with engine_with_sites(tmp_path, here, away) as harness:
        refdata = await register(harness)
        assert [s.cluster for s in refdata.statuses] == [KBASE]
        recover = harness.engine.refdata.recover
        with pytest.raises(errors.NoSuchRefdataError, match="nothing to recover"):
            await recover(refdata.id, KBASE)
        with pytest.raises(errors.SiteUnavailableError, match="is not registered"):
            await recover(refdata.id, LOCAL)
        with pytest.raises(errors.SiteUnavailableError, match="down"):
            await recover(refdata.id, away.cluster)
        away.available = True
        await harness.store("data/ref/x", b"changed")
        with pytest.raises(errors.ChecksumMismatchError, match="CRC64/NMVE"):
            await recover(refdata.id, away.cluster)
        await harness.store("data/ref/x", b"reference")
        await recover(refdata.id, away.cluster)
        away.report = RefdataReport(S.COMPLETE, task_ids=["t1"])
        await until(harness, refdata.id, S.COMPLETE, away.cluster)
        staged = (await harness.engine.refdata.get_as_admin(refdata.id)).at(away.cluster)
        assert staged is not None
        assert staged.nersc_download_task_id == ["t1"]
        with pytest.raises(errors.NoSuchRefdataError, match="nothing to recover"):
            await recover(refdata.id, away.cluster)


async def test_callback_nudges_the_site(tmp_path: Path):
    site = ReportingSite()
    async with engine_with_sites(tmp_path, site) as harness:
        refdata = await register(harness)
        await harness.engine.refdata.on_callback(refdata.id, KBASE)
        assert site.nudged == [refdata.id]


async def test_cleaning(tmp_path: Path):
    site = ReportingSite()
    async with engine_with_sites(tmp_path, site) as harness:
        refdata = await register(harness)

        async def clean(*, force: bool = False):
            await harness.engine.refdata.clean(harness.user, refdata.id, KBASE, force=force)

        with pytest.raises(errors.IllegalParameterError, match="is created at cluster kbase"):
            await clean()
        await clean(force=True)
        assert site.cleaned == [refdata.id]
        await harness.engine.refdata.update(refdata.id, KBASE, S.ERROR, None)
        await clean(force=True)
        status = await until(harness, refdata.id, S.ERROR, KBASE)
        assert not status.cleaned
        await clean()
        assert (await until(harness, refdata.id, S.ERROR, KBASE)).cleaned
        await clean()
        assert len(site.cleaned) == 3
        with pytest.raises(errors.NoSuchRefdataError):
            await harness.engine.refdata.clean(harness.user, refdata.id, LOCAL, force=True)


async def test_cleaner_cleans_old_stagings(tmp_path: Path):
    site = ReportingSite()
    async with engine_with_sites(tmp_path, site) as harness:
        cleaner = harness.engine._cleaner
        old, new = make_refdata(), await register(harness)
        ended = make_refdata_status(cluster=KBASE, state=S.ERROR)
        elsewhere = make_refdata_status(cluster=LOCAL, state=S.COMPLETE)
        await harness.engine._store.add_refdata(
            old.model_copy(update={"statuses": [ended, elsewhere]})
        )
        await harness.engine.refdata.update(new.id, KBASE, S.ERROR, None)
        cleaner._age = timedelta(hours=1)
        old_time = ended.transition_times[0].time
        assert old_time.tzinfo
        await cleaner.clean_refdata()
        await cleaner.clean_refdata()
        assert site.cleaned == [old.id]
        refdata = await harness.engine.refdata.get_as_admin(old.id)
        assert [s.cleaned for s in refdata.statuses] == [True, False]


class TestUpdates:
    @pytest.fixture
    async def harness(self, tmp_path: Path):
        async with engine_with_sites(tmp_path, ReportingSite()) as harness:
            yield harness

    async def test_repeated_and_late_updates_change_nothing(self, harness: EngineHarness):
        refdata = await register(harness)
        update = harness.engine.refdata.update
        for state in (S.CREATED, S.DOWNLOAD_SUBMITTED, S.DOWNLOAD_SUBMITTED, S.CREATED):
            await update(refdata.id, KBASE, state, None)
        await update(refdata.id, KBASE, S.COMPLETE, RefdataUpdate())
        for state in S:
            await update(refdata.id, KBASE, state, RefdataUpdate(admin_error="late"))
        status = await until(harness, refdata.id, S.COMPLETE, KBASE)
        assert [t.state for t in status.transition_times] == [
            S.CREATED,
            S.DOWNLOAD_SUBMITTED,
            S.COMPLETE,
        ]
        assert (status.error, status.admin_error) == (None, None)

    async def test_error_update_keeps_its_details(self, harness: EngineHarness):
        refdata = await register(harness)
        details = RefdataUpdate(admin_error="disk", traceback="trace")
        await harness.engine.refdata.update(refdata.id, KBASE, S.ERROR, details)
        status = await until(harness, refdata.id, S.ERROR, KBASE)
        assert (status.admin_error, status.traceback) == ("disk", "trace")
        assert status.error == "An unexpected error occurred."
        shown = (await harness.engine.refdata.get(refdata.id)).model_dump()
        assert "disk" not in str(shown)

    async def test_state_that_cannot_come_next_is_refused(self, harness: EngineHarness):
        refdata = await register(harness)
        with pytest.raises(errors.RefdataStateError, match="cannot become complete next"):
            await harness.engine.refdata.update(refdata.id, KBASE, S.COMPLETE, None)

    async def test_sites_without_updates_refuse(self, harness: EngineHarness, tmp_path: Path):
        refdata = await register(harness)
        with pytest.raises(errors.SiteUnavailableError, match="lawrencium-jaws is not registered"):
            await harness.engine.refdata.update(
                refdata.id, SiteName.LAWRENCIUM_JAWS, S.COMPLETE, None
            )

    async def test_concurrent_updates(self, harness: EngineHarness):
        refdata = await register(harness)
        update = harness.engine.refdata.update
        await asyncio.gather(
            *(update(refdata.id, KBASE, S.DOWNLOAD_SUBMITTED, None) for _ in range(10))
        )
        status = await until(harness, refdata.id, S.DOWNLOAD_SUBMITTED, KBASE)
        assert len(status.transition_times) == 2


async def test_site_that_polls_refuses_updates(harness: EngineHarness):
    refdata = await register(harness)
    with pytest.raises(errors.UnsupportedError):
        await harness.engine.refdata.update(refdata.id, LOCAL, S.COMPLETE, None)


class TestLawrencium:
    """It gets its data from Perlmutter."""

    @pytest.fixture
    def sites(self):
        return ReportingSite(SiteName.PERLMUTTER_JAWS), ReportingSite(SiteName.LAWRENCIUM_JAWS)

    async def test_waits_for_perlmutter(self, tmp_path: Path, sites):
        first, second = sites
        second.report = RefdataReport(S.COMPLETE)
        async with engine_with_sites(tmp_path, first, second) as harness:
            refdata = await register(harness)
            first.report = RefdataReport(S.DOWNLOAD_SUBMITTED)
            await until(harness, refdata.id, S.DOWNLOAD_SUBMITTED, first.cluster)
            await harness.engine._refdata_staging.reconcile()
            await until(harness, refdata.id, S.CREATED, second.cluster)
            assert second.staged == []
            first.report = RefdataReport(S.COMPLETE)
            await until(harness, refdata.id, S.COMPLETE, second.cluster)

    async def test_fails_with_perlmutter(self, tmp_path: Path, sites):
        first, second = sites
        first.report = errors.PathNotFoundError("gone")
        async with engine_with_sites(tmp_path, first, second) as harness:
            refdata = await register(harness)
            status = await until(harness, refdata.id, S.ERROR, second.cluster)
            assert "could not be staged at perlmutter-jaws" in (status.error or "")
            assert second.staged == []

    async def test_waits_for_a_perlmutter_that_is_not_configured(self, tmp_path: Path, sites):
        first, second = sites
        first.available = False
        async with engine_with_sites(tmp_path, first, second) as harness:
            refdata = await register(harness)
            await harness.engine._refdata_staging.reconcile()
            await until(harness, refdata.id, S.CREATED, second.cluster)
            assert second.staged == []


async def test_unavailable_site_is_retried(tmp_path: Path):
    site = ReportingSite()
    site.report = errors.UnavailableError("away")
    async with engine_with_sites(tmp_path, site) as harness:
        refdata = await register(harness)
        await harness.engine._refdata_staging.reconcile()
        await until(harness, refdata.id, S.CREATED, KBASE)
        site.report = RefdataReport(S.COMPLETE)
        await until(harness, refdata.id, S.COMPLETE, KBASE)


async def test_exception_with_one_does_not_delay_others(tmp_path: Path):
    class FaultySite(ReportingSite):
        async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
            if refdata.file.endswith("odd"):
                raise LookupError(refdata.id)
            return await super().stage_refdata(refdata)

    site = FaultySite()
    site.report = RefdataReport(S.COMPLETE)
    async with engine_with_sites(tmp_path, site) as harness:
        odd = await register(harness, "data/ref/odd")
        other = await register(harness, "data/ref/other")
        await until(harness, other.id, S.COMPLETE, KBASE)
        await until(harness, odd.id, S.CREATED, KBASE)


async def test_staging_goes_on_after_a_restart(tmp_path: Path):
    site = ReportingSite()
    site.report = RefdataReport(S.DOWNLOAD_SUBMITTED)
    async with engine_with_sites(tmp_path, site) as harness:
        refdata = await register(harness)
        await until(harness, refdata.id, S.DOWNLOAD_SUBMITTED, KBASE)
    site.report = RefdataReport(S.COMPLETE)
    async with engine_with_sites(tmp_path, site) as harness:
        await until(harness, refdata.id, S.COMPLETE, KBASE)
