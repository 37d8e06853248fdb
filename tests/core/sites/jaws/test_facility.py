"""NERSC and JAWS as the sites share them: prepared once both can be used, and by credentials that are watched."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cts_core.errors import ConfigError, UnavailableError
from cts_core.model.site import SiteName
from cts_core.sites.jaws.facility import Facility
from cts_core.sites.jaws.layout import Attempt, Kind, Machine, Step
from cts_core.sites.jaws.sfapi import SFAPI, CommandError, PublicSFAPI
from tests.harness.engine import TIMEOUT_SECONDS
from tests.harness.jaws_clients import write_key
from tests.harness.jaws_hurry import hurry
from tests.harness.jaws_site import JAWSWorld
from tests.harness.jaws_vectors import LAYOUT, LEFT
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites
from tests.simulators.server import PreparedResponse

__all__ = ["jaws_sites"]
pytestmark = pytest.mark.slow
SITE = SiteName.LAWRENCIUM_JAWS


@pytest.fixture
def world(
    jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> JAWSWorld:
    hurry(monkeypatch)
    return JAWSWorld(jaws_sites, minio, tmp_path)


@asynccontextmanager
async def _open(world: JAWSWorld, **changes: Any) -> AsyncIterator[Facility]:
    facility = Facility(world.setup(**changes))
    await facility.open()
    try:
        yield facility
    finally:
        await facility.close()


async def _until(facility: Facility, reason: str | None) -> None:
    """Wait until the facility can be used, or cannot for this reason."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            found = (await facility.current(SITE))[0].reason
            if found == reason or (reason and found and reason in found):
                return
            await asyncio.sleep(0.05)


def _question(*folders: str) -> dict[str, Any]:
    """Return what a look at these folders asks of the helper."""
    return {"folders": folders, "names": "", "told": "", "plans": LAYOUT.plans(), "room": 1000}


async def test_helper_and_config_are_put_there(world: JAWSWorld):
    nersc = world.sites.nersc
    other = nersc.place(f"{LAYOUT.code_root}/of another version/prod")
    other.mkdir(parents=True)
    for _ in range(2):
        async with _open(world) as facility:
            await _until(facility, None)
            assert facility.layout == LAYOUT
            folder = facility.layout.job("none")
            answer = {"folders": {folder: None}, "left": []}
            assert await facility.ask_helper(["look"], _question(folder)) == answer
            with pytest.raises(CommandError, match="no such thing"):
                await facility.command(Machine.DTNS, "echo no such thing >&2; exit 3")
    # The second server found the code of the first.
    uploads = [call for call in nersc.calls if call.startswith("PUT") and call.endswith(".0.tgz")]
    assert len(uploads) == 1
    assert other.is_dir()
    config = nersc.place(LAYOUT.jaws_config)
    assert config.read_text() == LEFT["jaws config file"].replace("jt", world.sites.jaws.token)
    assert config.stat().st_mode & 0o777 == 0o600


async def test_token_is_never_in_a_file_that_others_can_read(
    world: JAWSWorld, monkeypatch: pytest.MonkeyPatch
):
    nersc = world.sites.nersc
    token = world.sites.jaws.token
    exposed: list[Path] = []
    upload = SFAPI.upload

    async def upload_anew(sfapi: SFAPI, machine: Machine, path: str, content: bytes) -> None:
        # NERSC may replace a file that is there, whatever its mode was.
        nersc.place(path).unlink(missing_ok=True)
        await upload(sfapi, machine, path, content)
        place = nersc.place(path)
        place.chmod(0o644)
        if token.encode() in content and place.parent.stat().st_mode & 0o077:
            exposed.append(place)

    monkeypatch.setattr(SFAPI, "upload", upload_anew)
    async with _open(world) as facility:
        await _until(facility, None)
    assert not exposed
    config = nersc.place(LAYOUT.jaws_config)
    assert token in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600
    assert not list(nersc.place(LAYOUT.private).iterdir())


def _remove_code(code: Path) -> None:
    shutil.rmtree(code.parent)


def _remove_module(code: Path) -> None:
    (code / "cts_core" / "worker" / "links.py").unlink()


def _cut_module(code: Path) -> None:
    module = code / "cts_core" / "worker" / "links.py"
    module.write_bytes(module.read_bytes()[:-200])


@pytest.mark.parametrize("lose", [_remove_code, _remove_module, _cut_module])
async def test_lost_helper_is_placed_again_by_the_next_question(
    world: JAWSWorld, lose: Callable[[Path], None]
):
    async with _open(world) as facility:
        await _until(facility, None)
        root = world.sites.nersc.place(LAYOUT.code_root)
        (code,) = root.glob(f"*/{LAYOUT.group}")
        lose(code)
        answer = {"folders": {}, "left": []}
        assert await facility.ask_helper(["look"], _question()) == answer
        # It is bounded: what is lost again at once waits.
        lose(code)
        with pytest.raises(CommandError, match="code is missing"):
            await facility.ask_helper(["look"], _question())


async def test_long_plan_is_uploaded_in_pieces(world: JAWSWorld, monkeypatch: pytest.MonkeyPatch):
    nersc = world.sites.nersc
    nersc.max_upload = 1 << 20
    plan = {"files": [], "insecure": False, "callback": "http://127.0.0.1:1/", "x": "y" * 5000}
    async with _open(world) as facility:
        # The helper's code is longer than that.
        await _until(facility, None)
        nersc.max_upload = 2000
        monkeypatch.setattr("cts_core.sites.jaws.facility.MAX_UPLOAD", 1000)
        calls = len(nersc.calls)
        await facility.begin(partial(LAYOUT.job, "job"), Attempt(Step.DOWNLOAD, 1), plan)
        assert len([call for call in nersc.calls[calls:] if call.startswith("PUT ")]) == 6
        await _end_of(world, "job", Attempt(Step.DOWNLOAD, 1))
    assert not list(nersc.place(LAYOUT.plans()).iterdir())


async def _end_of(world: JAWSWorld, job_id: str, attempt: Attempt) -> None:
    """Wait until an attempt has succeeded."""
    end = world.sites.nersc.place(LAYOUT.job(job_id)) / attempt.file(Kind.END)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not end.exists():
            await asyncio.sleep(0.05)
    assert json.loads(end.read_text())["result"] == "success"


async def test_step_begins_though_the_folder_of_plans_was_purged(world: JAWSWorld):
    nersc = world.sites.nersc
    plan = {"files": [], "insecure": False, "callback": "http://127.0.0.1:1/"}
    async with _open(world) as facility:
        await _until(facility, None)
        shutil.rmtree(nersc.place(LAYOUT.plans()).parent)
        attempt = Attempt(Step.DOWNLOAD, 1)
        await facility.begin(partial(LAYOUT.job, "job"), attempt, plan)
        assert nersc.place(LAYOUT.plans()).stat().st_mode & 0o777 == 0o700
        await _end_of(world, "job", attempt)


async def test_config_that_is_gone_is_placed_before_a_job_is_submitted_again(world: JAWSWorld):
    nersc = world.sites.nersc
    config = nersc.place(LAYOUT.jaws_config)
    async with _open(world) as facility:
        await _until(facility, None)
        config.unlink()
        for number, is_there in ((1, False), (2, True)):
            attempt = Attempt(Step.SUBMIT, number)
            await facility.begin(partial(LAYOUT.job, "job"), attempt, {"some": "plan"})
            assert config.exists() is is_there


async def test_sites_are_prepared_once_everything_is_right(world: JAWSWorld):
    nersc, jaws = world.sites.nersc, world.sites.jaws
    nersc.is_client_expired = True
    jaws.user = "somebody"
    async with _open(world) as facility:
        await _until(facility, "NERSC gives no token for its client")
        with pytest.raises(UnavailableError, match="NERSC has to be up once"):
            facility.client()
        with pytest.raises(UnavailableError):
            facility.layout  # noqa: B018 - it raises
        nersc.is_client_expired, nersc.user = False, "somebody"
        await _until(
            facility, f"the client {nersc.client_id} is of somebody, and not of cdm_ts (jaws.user)"
        )
        nersc.user = "cdm_ts"
        await _until(facility, "the token of JAWS (jaws.token) is of somebody, and not of cdm_ts")
        assert facility.client().client_id == nersc.client_id
        jaws.user = "cdm_ts"
        await _until(facility, None)
        jaws.sites["jgi"]["jgi-Cromwell"] = "DOWN"
        await _until(facility, "JAWS cannot run jobs at its site jgi: jgi-Cromwell is DOWN")
        assert facility.known(SiteName.PERLMUTTER_JAWS).is_usable
        nersc.override = PreparedResponse(200, json.dumps({"status": "unavailable"}).encode())
        await _until(facility, "NERSC is down: dtns is unavailable, perlmutter is unavailable")


async def test_key_that_is_missing_at_the_start_is_waited_for(world: JAWSWorld):
    key = world.setup().sfapi_cred_path
    missing = key.with_name("later")
    async with _open(world, sfapi_cred_path=missing) as facility:
        await _until(facility, f"jaws.sfapi_cred_path: {missing} cannot be read")
        key.rename(missing)
        await _until(facility, None)


async def test_status_of_nersc_counts_though_its_outages_are_not_listed(
    world: JAWSWorld, monkeypatch: pytest.MonkeyPatch
):
    async def fail(_sfapi: PublicSFAPI, _machine: Machine) -> object:
        raise UnavailableError("NERSC answers with status 503")

    monkeypatch.setattr(PublicSFAPI, "outages", fail)
    monkeypatch.setattr(PublicSFAPI, "planned_outages", fail)
    async with _open(world) as facility:
        await _until(facility, None)
        world.sites.nersc.statuses["dtns"] = "unavailable"
        await _until(facility, "NERSC is down: dtns is unavailable")


async def test_facility_that_only_looks_says_why_it_does_nothing_else(world: JAWSWorld):
    async with _open(world, looks_only=True) as facility:
        await _until(facility, None)
        with pytest.raises(UnavailableError, match="only looks"):
            facility.layout  # noqa: B018 - it raises
        with pytest.raises(UnavailableError, match="only looks"):
            facility.sfapi  # noqa: B018 - it raises


async def test_renewed_key_is_taken_once_it_works(world: JAWSWorld):
    nersc = world.sites.nersc
    async with _open(world) as facility:
        await _until(facility, None)
        first = facility.client().client_id
        key = facility.setup.sfapi_cred_path
        await facility.renew_client()
        assert nersc.calls.count("GET /api/v1.2/account/") == 1
        key.write_text("newclient\n-----BEGIN nothing")
        os.utime(key, (1, 1))
        await facility.renew_client()
        assert facility.client().client_id == first
        nersc.renew_client("newclient")
        write_key(nersc, key)
        nersc.user = "somebody"
        await facility.renew_client()
        assert facility.client().client_id == first
        nersc.user = "cdm_ts"
        await facility.renew_client()
        assert facility.client().client_id == "newclient"
        assert (
            await facility.command(Machine.PERLMUTTER, "echo $SCRATCH") == "/pscratch/sd/c/cdm_ts\n"
        )


async def test_client_that_expires_later_is_told_until_it_is_renewed(world: JAWSWorld):
    nersc = world.sites.nersc
    nersc.expires_at = datetime.now(UTC) + timedelta(seconds=0.5)
    async with _open(world) as facility:
        await _until(facility, None)
        nersc.is_client_expired = True
        nersc.revoke_tokens()
        await _until(facility, "The client by which this service uses NERSC has expired")
        assert nersc.client_id in (facility.refusal() or "")
        nersc.renew_client("newclient")
        nersc.expires_at = datetime.now(UTC) + timedelta(days=2)
        write_key(nersc, facility.setup.sfapi_cred_path)
        await _until(facility, None)
        assert facility.client().client_id == "newclient"


@pytest.mark.parametrize("changes", [{"group": "a b"}, {"refdata_root": "relative"}])
def test_settings_that_cannot_stand_in_commands_are_refused(
    world: JAWSWorld, changes: dict[str, Any]
):
    with pytest.raises(ConfigError):
        Facility(world.setup(**changes))
