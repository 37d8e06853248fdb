"""Registering images: from registries, as programs, with fields of another image, and its errors."""

from __future__ import annotations

import pytest

from cts_core import errors
from cts_core.identity.identity import User
from cts_core.images.names import parse_image_name
from cts_core.images.suggestions import MAX_SUGGESTIONS, image_help
from cts_core.model.image import Image, ImageRegistration
from cts_core.model.refdata import AdminReferenceData
from tests.harness.engine import EngineHarness
from tests.harness.factories import NOON, make_image
from tests.harness.paths import RECORD_CALL
from tests.services.registry import Registry

HOST = ImageRegistration(executable=str(RECORD_CALL))


async def register(harness: EngineHarness, name: str, **fields) -> Image:
    query = {k: fields.pop(k) for k in ("refdata_id", "default_refdata_mount_point") if k in fields}
    registration = ImageRegistration(**fields)
    return await harness.engine.images.register(harness.user, name, registration, **query)


async def add_refdata(harness: EngineHarness, refdata_id: str) -> None:
    await harness.engine._store.add_refdata(
        AdminReferenceData(
            registered_by="ana",
            registered_on=NOON,
            file=f"data/{refdata_id}",
            id=refdata_id,
            statuses=[],
        )
    )


@pytest.mark.slow
async def test_image_of_a_registry_by_tag(harness: EngineHarness, registry: Registry):
    digest = registry.push_image("engine/tagged", "1", ["tool"])
    name = f"{registry.host}/engine/tagged"
    image = await register(harness, f"{name}:1", urls=["https://example.org"], usage_notes="n")
    assert (image.name, image.tag, image.digest, image.entrypoint) == (name, "1", digest, ["tool"])
    for reference in (f"{name}:1", f"{name}@{digest}", f"{name}:other@{digest}"):
        assert await harness.engine.images.find(reference) == image
    with pytest.raises(errors.ImageTagExistsError):
        await register(harness, f"{name}:1")
    registry.push_image("engine/tagged", "2", ["tool"])
    with pytest.raises(errors.ImageDigestExistsError):
        await register(harness, f"{name}:2")
    await harness.engine.images.delete(harness.user, f"{name}:other@{digest}")
    with pytest.raises(errors.NoSuchImageError):
        await harness.engine.images.find(f"{name}:1")


@pytest.mark.slow
async def test_no_tag_is_stored_without_tag_and_digest(harness: EngineHarness, registry: Registry):
    digest = registry.push_image("engine/untagged", "latest", ["tool"])
    name = f"{registry.host}/engine/untagged"
    image = await register(harness, name)
    assert (image.tag, image.digest) == ("", digest)
    with pytest.raises(errors.NoSuchImageError, match="with tag 'latest' exists") as refusal:
        await harness.engine.images.find(name)
    assert refusal.value.help["nearest"] == [f"{name}@{digest}"]
    assert await harness.engine.images.find(f"{name}@{digest}") == image


@pytest.mark.slow
async def test_digest_that_differs_from_the_tags_is_refused(
    harness: EngineHarness, registry: Registry
):
    old = registry.push_image("engine/moved", "1", ["old"])
    registry.push_image("engine/moved", "1", ["new"])
    with pytest.raises(errors.ImageFetchError, match="and not the sha256:"):
        await register(harness, f"{registry.host}/engine/moved:1@{old}")
    assert (await register(harness, f"{registry.host}/engine/moved@{old}")).entrypoint == ["old"]


@pytest.mark.slow
async def test_image_without_entrypoint_is_refused(harness: EngineHarness, registry: Registry):
    registry.push_image("engine/bare", "1", None)
    with pytest.raises(errors.NoEntrypointError):
        await register(harness, f"{registry.host}/engine/bare:1")
    assert (await harness.engine.images.list()).data == []


@pytest.mark.parametrize("fields", [{"executable": "/bin/true"}, {"module": "json"}])
async def test_executable_of_a_registry_image_is_refused(harness: EngineHarness, fields):
    with pytest.raises(errors.IllegalParameterError, match="register a program of this machine as"):
        await register(harness, "ghcr.io/x/y:1", **fields)


async def test_digest_that_differs_from_the_programs_is_refused(harness: EngineHarness):
    with pytest.raises(errors.ImageFetchError, match="and not the sha256:0000"):
        await register(harness, f"host/tool@sha256:{'0' * 64}", executable=str(RECORD_CALL))


async def test_reference_data_of_an_image(harness: EngineHarness):
    with pytest.raises(errors.NoSuchRefdataError):
        await register(harness, "host/tool", executable=str(RECORD_CALL), refdata_id="no")
    with pytest.raises(errors.IllegalParameterError, match="needs a reference data ID"):
        await register(
            harness, "host/tool", executable=str(RECORD_CALL), default_refdata_mount_point="/ref"
        )
    await add_refdata(harness, "r1")
    await add_refdata(harness, "r2")
    base = await register(
        harness,
        "host/tool:1",
        executable=str(RECORD_CALL),
        refdata_id="r1",
        default_refdata_mount_point="/ref",
        urls=["https://example.org/a"],
        usage_notes="notes",
    )
    assert (base.refdata_id, base.default_refdata_mount_point) == ("r1", "/ref")
    await harness.engine.images.delete(harness.user, "host/tool:1")
    await register(harness, "host/base", module="json.tool", refdata_id="r1", usage_notes="notes")


async def test_missing_fields_come_from_the_base_image(harness: EngineHarness):
    await add_refdata(harness, "r1")
    await add_refdata(harness, "r2")
    await register(
        harness,
        "host/base:1",
        module="json.tool",
        refdata_id="r1",
        default_refdata_mount_point="/ref",
        urls=["https://example.org/a"],
        usage_notes="notes",
    )
    taken = await register(
        harness, "host/tool:1", executable=str(RECORD_CALL), from_image="host/base:1"
    )
    assert taken.urls == ["https://example.org/a"]
    assert taken.usage_notes == "notes"
    assert (taken.refdata_id, taken.default_refdata_mount_point) == ("r1", "/ref")
    own = await register(
        harness,
        "host/other",
        executable=str(RECORD_CALL),
        from_image="host/base:1",
        urls=[],
        usage_notes="",
        refdata_id="r2",
        default_refdata_mount_point="/other",
    )
    assert (own.urls, own.usage_notes) == ([], "")
    assert (own.refdata_id, own.default_refdata_mount_point) == ("r2", "/other")
    with pytest.raises(errors.NoSuchImageError):
        await register(harness, "host/z", executable=str(RECORD_CALL), from_image="host/no")


async def test_only_admins_may_register_and_delete(harness: EngineHarness):
    with pytest.raises(errors.UnauthorizedError):
        await harness.engine.images.register(User("bob"), "host/tool", HOST)
    with pytest.raises(errors.UnauthorizedError):
        await harness.engine.images.delete(User("bob"), "host/tool")


@pytest.mark.parametrize("settings", [{"contact": "help@example.org"}])
async def test_unknown_image_error_names_the_contact(harness: EngineHarness):
    await harness.prepare()
    with pytest.raises(errors.NoSuchImageError) as refusal:
        await harness.engine.images.find("host/tool:2")
    # Clients compare this sentence.
    assert str(refusal.value) == "No image host/tool with tag '2' exists in the system."
    assert refusal.value.help == {
        "nearest": ["host/tool:latest"],
        "contact": "help@example.org",
        "request": (
            "Please register the image host/tool:2 with the CDM Task Service, so that jobs can run it. An "
            "admin does so by: %cts images --register host/tool --executable PATH"
        ),
        "command": "%cts images --register host/tool --executable PATH",
    }


@pytest.mark.parametrize(
    ("requested", "nearest"),
    [
        ("ghcr.io/kbase/checkm2:9", ["ghcr.io/kbase/checkm2:1", "docker.io/other/checkm2:1"]),
        ("checkm:1", ["docker.io/other/checkm2:1", "ghcr.io/kbase/checkm2:1"]),
        ("nothing/alike:1", []),
    ],
)
def test_suggestions(requested: str, nearest: list[str]):
    names = ("ghcr.io/kbase/checkm2", "docker.io/other/checkm2", "quay.io/x/bakta")
    images = [make_image(name=name, tag="1") for name in names]
    assert image_help(parse_image_name(requested), images).nearest == nearest


def test_suggestions_are_few():
    images = [make_image(name="host/x", tag=str(n)) for n in range(50)]
    assert len(image_help(parse_image_name("host/x:no"), images).nearest) == MAX_SUGGESTIONS
