"""Images of container registries: digest and entrypoint, read by the registry's HTTP API without pulling the image."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from http import HTTPStatus
from typing import Annotated, TypeVar

import httpx
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from typing_extensions import override

from cts_core.config.sections import ImageSettings
from cts_core.errors import ImageFetchError
from cts_core.images.guarded_http import GuardedClient, Response
from cts_core.images.names import ImageReference
from cts_core.images.source import ImageSource, RegistryImage

MAX_LOOKUPS = 4
"""Images that are looked up concurrently."""
MAX_MANIFEST = 4 << 20
"""Bytes of a manifest: the size that registries must accept (OCI distribution specification)."""
MAX_CONFIG = 4 << 20
MAX_TOKEN = 64 << 10
_SILENCE_SECONDS = 10.0
"""Seconds for which a registry may be silent."""
_HUB = "docker.io"
_HUB_API = "registry-1.docker.io"
_LATEST = "latest"
_PLATFORM = ("linux", "amd64")
_ACCEPT = (
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_BEARER = re.compile(r"\bbearer\s+(.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Platform(BaseModel):
    os: str
    architecture: str


class _Descriptor(BaseModel):
    digest: Digest
    platform: _Platform | None = None


class _Manifest(BaseModel):
    """A manifest, or an index of manifests."""

    config: _Descriptor | None = None
    manifests: Annotated[list[_Descriptor], Field(max_length=1000)] | None = None


class _Run(BaseModel):
    entrypoint: list[str] | None = Field(None, alias="Entrypoint")


class ImageConfig(BaseModel):
    """The configuration of an image, as far as CTS needs it."""

    config: _Run | None = None
    os: str | None = None
    architecture: str | None = None

    def check_platform(self, name: str) -> None:
        """Raise ImageFetchError for an image that no site can run. One that names no platform passes.

        An image without an index names its platform only here, in ``os`` and ``architecture`` (OCI image specification).
        """
        platform = (self.os or _PLATFORM[0], self.architecture or _PLATFORM[1])
        if platform != _PLATFORM:
            raise ImageFetchError(
                f"The image {name} is for {'/'.join(platform)}, and the sites run {'/'.join(_PLATFORM)}: build it with "
                f"--platform {'/'.join(_PLATFORM)} and push it again"
            )

    @property
    def entrypoint(self) -> list[str]:
        """The entrypoint; empty if the image has none."""
        return (self.config and self.config.entrypoint) or []


class _Token(BaseModel):
    token: str | None = None
    access_token: str | None = None


_Model = TypeVar("_Model", bound=BaseModel)


class HttpRegistry(ImageSource):
    """Looks images up by the registry's HTTP API, anonymously."""

    def __init__(self, settings: ImageSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    @override
    async def look_up(self, reference: ImageReference) -> RegistryImage:
        host, _, repository = reference.name.partition("/")
        try:
            async with (
                self._slots,
                asyncio.timeout(self._settings.timeout_s),
                await _make_client() as client,
            ):
                guarded = GuardedClient(
                    client,
                    _HUB_API if host == _HUB else host,
                    plain_http=self._settings.plain_http,
                    private_hosts=self._settings.private_hosts,
                )
                return await _Repository(guarded, reference.name, repository).read(
                    reference.tag or reference.digest or _LATEST
                )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as e:
            reason = str(e) or f"no answer within {self._settings.timeout_s:g} seconds"
            raise ImageFetchError(
                f"The image {reference.name} could not be read, for its registry {host} cannot be reached: "
                f"{reason}"
            ) from e


async def _make_client() -> httpx.AsyncClient:
    # In a thread, because reading the certificates takes a while. Proxies of the environment would bypass the guard.
    context = await asyncio.to_thread(ssl.create_default_context)
    return httpx.AsyncClient(verify=context, trust_env=False, timeout=_SILENCE_SECONDS)


class _Repository:
    """One repository of a registry, for one look-up."""

    def __init__(self, client: GuardedClient, name: str, repository: str) -> None:
        self._client = client
        self._name = name
        self._path = f"/v2/{repository}"
        self._scope = f"repository:{repository}:pull"
        self._token: str | None = None

    async def read(self, tag_or_digest: str) -> RegistryImage:
        """Return the image with this tag or digest."""
        digest, manifest = await self._manifest(tag_or_digest)
        if manifest.manifests is not None:
            _, manifest = await self._manifest(self._variant(manifest.manifests))
        if manifest.config is None:
            raise ImageFetchError(
                f"The manifest of {self._name} is of a kind that CTS does not know: push the image again with a "
                "current tool"
            )
        body = await self._get(f"blobs/{manifest.config.digest}", MAX_CONFIG)
        if _digest(body) != manifest.config.digest:
            raise ImageFetchError(
                f"The registry's copy of the configuration of {self._name} is damaged"
            )
        config = self._parse(ImageConfig, body)
        config.check_platform(self._name)
        return RegistryImage(digest, config.entrypoint)

    def _variant(self, variants: list[_Descriptor]) -> str:
        for variant in variants:
            platform = variant.platform
            if platform and (platform.os, platform.architecture) == _PLATFORM:
                return variant.digest
        raise ImageFetchError(
            f"The image {self._name} has no variant for {'/'.join(_PLATFORM)}, which the sites run: build it with "
            f"--platform {'/'.join(_PLATFORM)} and push it again"
        )

    async def _manifest(self, tag_or_digest: str) -> tuple[str, _Manifest]:
        body = await self._get(f"manifests/{tag_or_digest}", MAX_MANIFEST, accept=_ACCEPT)
        digest = _digest(body)
        if ":" in tag_or_digest and digest != tag_or_digest:
            raise ImageFetchError(f"The registry's copy of {self._name}@{tag_or_digest} is damaged")
        manifest = self._parse(_Manifest, body)
        if manifest.config is not None and manifest.manifests is not None:
            # Different programs would take it for different images.
            raise ImageFetchError(
                f"The manifest of {self._name} is ambiguous: push the image again"
            )
        return digest, manifest

    async def _get(self, path: str, limit: int, *, accept: str = "*/*") -> bytes:
        url = self._client.registry.copy_with(path=f"{self._path}/{path}")
        response = await self._client.get(url, limit=limit, accept=accept, token=self._token)
        if response.status == HTTPStatus.UNAUTHORIZED and self._token is None:
            self._token = await self._fetch_token(response)
            response = await self._client.get(url, limit=limit, accept=accept, token=self._token)
        match response.status:
            case HTTPStatus.OK:
                return response.body
            case HTTPStatus.NOT_FOUND:
                raise ImageFetchError(
                    f"The registry {self._client.registry.host} has no {self._name} with {path.split('/')[1]}"
                )
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                raise self._private()
            case HTTPStatus.TOO_MANY_REQUESTS:
                raise ImageFetchError(
                    f"The registry {self._client.registry.host} has had too many requests from here: try again "
                    "later"
                )
        raise ImageFetchError(
            f"The registry {self._client.registry.host} answers with status {response.status} for {self._name}"
        )

    async def _fetch_token(self, challenge: Response) -> str:
        bearer = _BEARER.search(challenge.headers.get("WWW-Authenticate", ""))
        parameters = dict(_PARAMETER.findall(bearer[1])) if bearer else {}
        if "realm" not in parameters:
            raise self._private()
        query = {"scope": self._scope}
        if "service" in parameters:
            query["service"] = parameters["service"]
        try:
            url = httpx.URL(parameters["realm"]).copy_merge_params(query)
        except httpx.InvalidURL as e:
            raise ImageFetchError(
                f"The registry {self._client.registry.host} names no URL to ask for a token"
            ) from e
        response = await self._client.get(url, limit=MAX_TOKEN)
        if response.status != HTTPStatus.OK:
            raise self._private()
        body = self._parse(_Token, response.body)
        token = body.token or body.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise self._private()
        return token

    def _private(self) -> ImageFetchError:
        return ImageFetchError(
            f"The registry {self._client.registry.host} has no public image {self._name}: CTS reads images without "
            "a login, so check the name, or make the image public"
        )

    def _parse(self, model: type[_Model], body: bytes) -> _Model:
        try:
            return model.model_validate_json(body)
        except ValidationError as e:
            raise ImageFetchError(
                f"The registry {self._client.registry.host} answers in a way that CTS does not understand for "
                f"{self._name}"
            ) from e


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
