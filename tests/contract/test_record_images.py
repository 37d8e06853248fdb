"""The contract of record stores: images and site switches."""

from __future__ import annotations

import pytest

from cts_core.errors import ImageDigestExistsError, ImageTagExistsError
from cts_core.model.site import SiteName
from tests.harness.factories import DIGEST, make_image

# -- images and sites --


async def test_images_are_found_by_digest_or_tag(store):
    latest = make_image(usage_notes="n", urls=["https://example.org/x"], entrypoint=["a", "b c"])
    second = make_image(digest="sha256:" + "cd" * 32, tag="2")
    untagged = make_image(name="host/a", tag="")
    for image in (second, latest, untagged):
        await store.add_image(image)
    find = store.find_image
    assert await find("host/tool", digest=None, tag="latest") == latest
    assert await find("host/tool", digest=second.digest, tag=None) == second
    assert await find("host/tool", digest=second.digest, tag="latest") == second
    assert await find("host/tool", digest=None, tag="none") is None
    assert await find("host/a", digest=None, tag="latest") is None
    assert await find("host/a", digest=untagged.digest, tag=None) == untagged
    assert await store.list_images() == [untagged, second, latest]


async def test_images_are_unique(store):
    await store.add_image(make_image())
    await store.add_image(make_image(name="host/other"))
    other = "sha256:" + "cd" * 32
    with pytest.raises(ImageTagExistsError, match="latest"):
        await store.add_image(make_image(digest=other))
    with pytest.raises(ImageDigestExistsError, match=DIGEST):
        await store.add_image(make_image(tag="2"))
    await store.add_image(make_image(name="host/x", tag=""))
    with pytest.raises(ImageTagExistsError, match="without a tag"):
        await store.add_image(make_image(name="host/x", tag="", digest=other))
    assert len(await store.list_images()) == 3


async def test_images_are_deleted(store):
    await store.add_image(make_image())
    assert await store.delete_image("host/tool", digest=DIGEST)
    assert not await store.delete_image("host/tool", digest=DIGEST)
    assert await store.list_images() == []
    await store.add_image(make_image())


async def test_sites_are_active_until_switched_off(store, other):
    assert await store.inactive_sites() == set()
    await store.set_site_active(SiteName.LOCAL, active=False)
    await store.set_site_active(SiteName.LOCAL, active=False)
    await store.set_site_active(SiteName.KBASE, active=False)
    assert await other.inactive_sites() == {SiteName.LOCAL, SiteName.KBASE}
    await store.set_site_active(SiteName.LOCAL, active=True)
    await store.set_site_active(SiteName.LOCAL, active=True)
    assert await other.inactive_sites() == {SiteName.KBASE}
