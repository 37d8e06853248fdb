"""Metadata of images from a registry, by its HTTP API and by crane."""

from __future__ import annotations

import pytest

from cts_core.config.sections import ImageSettings
from cts_core.errors import ImageFetchError
from cts_core.images.crane import Crane
from cts_core.images.names import parse_image_name
from cts_core.images.registry import HttpRegistry
from cts_core.images.source import ImageSource
from tests.services.registry import Registry

pytestmark = pytest.mark.slow


@pytest.fixture(params=["http", "crane"])
def source(request: pytest.FixtureRequest) -> ImageSource:
    if request.param == "http":
        return HttpRegistry(ImageSettings())
    return Crane(ImageSettings(crane_path=str(request.getfixturevalue("crane"))))


async def look_up(source: ImageSource, registry: Registry, name: str):
    return await source.look_up(parse_image_name(f"{registry.host}/{name}"))


@pytest.mark.parametrize("docker", [False, True])
async def test_by_tag_and_by_digest(source: ImageSource, registry: Registry, docker):
    repository = f"plain/{'docker' if docker else 'oci'}"
    digest = registry.push_image(repository, "1.2", ["/bin/tool", "-x y"], docker=docker)
    for reference in (":1.2", f"@{digest}"):
        found = await look_up(source, registry, f"{repository}{reference}")
        assert (found.digest, found.entrypoint) == (digest, ["/bin/tool", "-x y"])


async def test_the_tag_wins_over_the_digest(source: ImageSource, registry: Registry):
    old = registry.push_image("moved", "1", ["old"])
    new = registry.push_image("moved", "1", ["new"])
    found = await look_up(source, registry, f"moved:1@{old}")
    assert (found.digest, found.entrypoint) == (new, ["new"])
    found = await look_up(source, registry, f"moved@{old}")
    assert (found.digest, found.entrypoint) == (old, ["old"])


async def test_latest_is_the_default_tag(source: ImageSource, registry: Registry):
    digest = registry.push_image("plain/latest", "latest", ["tool"])
    assert (await look_up(source, registry, "plain/latest")).digest == digest


@pytest.mark.parametrize("docker", [False, True])
async def test_entrypoint_is_that_of_linux_amd64(source: ImageSource, registry: Registry, docker):
    repository = f"many/{'docker' if docker else 'oci'}"
    variants = {
        architecture: registry.push_image(
            repository, architecture, [architecture], docker=docker, architecture=architecture
        )
        for architecture in ("arm64", "amd64", "s390x")
    }
    digest = registry.push_index(repository, "all", variants, docker=docker)
    found = await look_up(source, registry, f"{repository}:all")
    assert (found.digest, found.entrypoint) == (digest, ["amd64"])


@pytest.mark.parametrize("entrypoint", [None, []])
async def test_image_without_entrypoint(source: ImageSource, registry: Registry, entrypoint):
    registry.push_image("bare", "1", entrypoint)
    assert (await look_up(source, registry, "bare:1")).entrypoint == []


@pytest.mark.parametrize("name", ["plain/oci:no", "no:1", f"plain/oci@sha256:{'0' * 64}"])
async def test_missing_image(source: ImageSource, registry: Registry, name: str):
    registry.push_image("plain/oci", "1.2", ["/bin/tool"])
    with pytest.raises(ImageFetchError, match="has no"):
        await look_up(source, registry, name)


async def test_no_variant_for_the_sites(source: ImageSource, registry: Registry):
    arm = registry.push_image("arm", "arm64", ["tool"], architecture="arm64")
    registry.push_index("arm", "all", {"arm64": arm})
    with pytest.raises(ImageFetchError, match=r"linux/amd64|could not be read"):
        await look_up(source, registry, "arm:all")


@pytest.mark.parametrize("config", [{"architecture": "arm64"}, {"os": "windows"}], ids=str)
async def test_image_for_another_platform(source: ImageSource, registry: Registry, config):
    registry.push_image("other", "1", ["tool"], **config)
    with pytest.raises(
        ImageFetchError, match="the sites run linux/amd64: build it with --platform"
    ):
        await look_up(source, registry, "other:1")


async def test_image_that_names_no_platform(source: ImageSource, registry: Registry):
    registry.push_image("bare", "1", ["tool"], os=None, architecture="")
    assert (await look_up(source, registry, "bare:1")).entrypoint == ["tool"]


async def test_unreachable_registry(source: ImageSource):
    with pytest.raises(ImageFetchError, match="could not be read"):
        await source.look_up(parse_image_name("127.0.0.1:9/no:1"))


async def test_missing_crane():
    crane = Crane(ImageSettings(crane_path="/no/crane"))
    with pytest.raises(ImageFetchError, match=r"images\.crane_path cannot be run: No such file"):
        await crane.look_up(parse_image_name("x:1"))
