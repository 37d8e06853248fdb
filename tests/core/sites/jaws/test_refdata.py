"""Reference data at both sites of JAWS: what cannot be there is told with its reason, a site may be added, and only leftovers are removed."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path

import pytest

from cts_core.model.refdata import AdminReferenceDataStatus, ReferenceDataState
from cts_core.model.site import SiteName
from tests.harness.engine import TIMEOUT_SECONDS
from tests.harness.factories import packed
from tests.harness.jaws_site import LAWRENCIUM, PERLMUTTER, JAWSServer, JAWSWorld
from tests.harness.jaws_vectors import LAYOUT
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites

__all__ = ["jaws_sites"]
pytestmark = pytest.mark.slow
S = ReferenceDataState
DATA = "data/ref/db.tar.gz"


def _with_link() -> bytes:
    """Return an archive with a symbolic link, which JAWS would lose on the way to its sites."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        link = tarfile.TarInfo("latest")
        link.type, link.linkname = tarfile.SYMTYPE, "x.txt"
        tar.addfile(link)
    return out.getvalue()


@pytest.fixture
def world(
    jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> JAWSWorld:
    world = JAWSWorld.hurried(jaws_sites, minio, tmp_path, monkeypatch)
    minio.put({DATA: packed(**{"x.txt": b"abc"}), "data/ref/links.tgz": _with_link()})
    return world


async def _register(server: JAWSServer, path: str) -> str:
    await server.wait_until_available()
    engine, user = server.harness.engine, server.harness.user
    return (await engine.refdata.register(user, path, crc64nvme=None, unpack=True)).id


async def _status(server: JAWSServer, refdata_id: str, site: SiteName) -> AdminReferenceDataStatus:
    status = (await server.wait_until_staged(refdata_id)).at(site)
    assert status is not None
    return status


async def test_archive_with_links_is_refused_with_the_reason(world: JAWSWorld):
    async with world.server(PERLMUTTER, LAWRENCIUM) as server:
        links = await _register(server, "data/ref/links.tgz")
        status = await _status(server, links, PERLMUTTER)
        assert status.state is S.ERROR
        assert "symbolic link 'latest'" in (status.admin_error or "")
        status = await _status(server, links, LAWRENCIUM)
        assert "could not be staged at perlmutter-jaws" in (status.error or "")
    assert not world.sites.nersc.place(LAYOUT.refdata(links)).exists()


async def test_copy_that_failed_is_told_with_its_answer(world: JAWSWorld):
    async with world.server(PERLMUTTER, LAWRENCIUM) as server:
        world.sites.copy_result = "failed"
        data = await _register(server, DATA)
        assert (await _status(server, data, PERLMUTTER)).state is S.COMPLETE
        status = await _status(server, data, LAWRENCIUM)
        assert status.state is S.ERROR
        assert LAYOUT.change_answer(data, LAWRENCIUM) in (status.admin_error or "")


async def test_lawrencium_is_added_later_and_the_data_outlives_cleaning(world: JAWSWorld):
    world.sites.copies_refdata = False
    async with world.server(PERLMUTTER) as server:
        refdata = await _register(server, DATA)
        await server.wait_until_staged(refdata)
    async with world.server(PERLMUTTER, LAWRENCIUM) as server:
        await server.wait_until_available()
        engine, user = server.harness.engine, server.harness.user
        await engine.refdata.recover(refdata, LAWRENCIUM)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not world.sites.nersc.callbacks:
                await asyncio.sleep(0.05)
        world.sites.copies_refdata = True
        assert (await _status(server, refdata, LAWRENCIUM)).state is S.COMPLETE
        assert [call["path_condition"]["path"] for call in world.sites.nersc.callbacks] == [
            LAYOUT.change_answer(refdata, LAWRENCIUM)
        ]
        for site in (PERLMUTTER, LAWRENCIUM):
            await engine.refdata.clean(user, refdata, site, force=False)
    place = world.sites.nersc.place
    assert not place(LAYOUT.refdata_work(refdata)).exists()
    kept = [
        f"{LAYOUT.refdata(refdata)}/x.txt",
        LAYOUT.change_file(refdata),
        LAYOUT.change_answer(refdata, LAWRENCIUM),
    ]
    assert all(place(path).exists() for path in kept)
    at_lawrencium = world.sites.refdata_at("jgi") / LAYOUT.refdata_for_jaws(refdata) / "x.txt"
    assert at_lawrencium.read_bytes() == b"abc"
