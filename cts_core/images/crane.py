"""Images of container registries by the program ``crane``, if the operator configures it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter, ValidationError
from typing_extensions import override

from cts_core.config.sections import ImageSettings
from cts_core.errors import ImageFetchError
from cts_core.images.names import ImageReference
from cts_core.images.registry import MAX_CONFIG, MAX_LOOKUPS, Digest, ImageConfig
from cts_core.images.source import ImageSource, RegistryImage

_INHERITED_VARIABLES = (
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
)
_MAX_STDERR = 64 << 10
_REASONS = (
    (re.compile("MANIFEST_UNKNOWN|NAME_UNKNOWN|404 Not Found"), "its registry has no such image"),
    (
        re.compile("UNAUTHORIZED|DENIED|401 Unauthorized|403 Forbidden", re.IGNORECASE),
        "its registry has no such public image, and CTS reads images without a login",
    ),
    (
        re.compile("TOOMANYREQUESTS"),
        "its registry has had too many requests from here: try again later",
    ),
)
_digest = TypeAdapter(Digest)


class Crane(ImageSource):
    """Looks images up by ``crane digest`` and ``crane config``, without any login."""

    def __init__(self, settings: ImageSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    @override
    async def look_up(self, reference: ImageReference) -> RegistryImage:
        name = reference.name
        name_and_version = f"{name}:{reference.tag}" if reference.tag else name
        if reference.digest and not reference.tag:
            name_and_version = f"{name}@{reference.digest}"
        async with self._slots:
            try:
                digest = _digest.validate_python(
                    (await self._run("digest", name_and_version)).decode().strip()
                )
                # By the digest, so that both are of the same image although the tag may move.
                config = ImageConfig.model_validate_json(
                    await self._run("config", f"{name}@{digest}")
                )
            except (ValidationError, UnicodeDecodeError) as e:
                raise ImageFetchError(
                    f"crane answers in a way that CTS does not understand for {name_and_version}"
                ) from e
        config.check_platform(name)
        return RegistryImage(digest, config.entrypoint)

    async def _run(self, command: str, image: str) -> bytes:
        with TemporaryDirectory(prefix="cts-") as empty:
            try:
                process = await asyncio.create_subprocess_exec(
                    self._settings.crane_path,
                    command,
                    *self._flags(image),
                    image,
                    # No home and no configuration: these could contain a login.
                    env={
                        **_environment(_INHERITED_VARIABLES),
                        "HOME": empty,
                        "DOCKER_CONFIG": empty,
                    },
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
            except OSError as e:
                raise ImageFetchError(f"images.crane_path cannot be run: {e.strerror}") from e
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    stdout, stderr = await asyncio.gather(
                        _read(process.stdout, MAX_CONFIG), _read(process.stderr, _MAX_STDERR)
                    )
                    code = await process.wait()
            except TimeoutError as e:
                raise ImageFetchError(
                    f"The image {image} could not be read within {self._settings.timeout_s:g} seconds"
                ) from e
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if code != 0:
            raise ImageFetchError(f"The image {image} could not be read: {_reason(stderr, code)}")
        return stdout

    def _flags(self, image: str) -> list[str]:
        host = image.partition("/")[0]
        return ["--insecure"] if host in self._settings.plain_http else []


def _environment(names: Iterable[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


async def _read(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    if stream is None:
        return b""
    content = bytearray()
    while chunk := await stream.read(limit):
        # The rest is read and dropped, so that the program can exit.
        content += chunk[: limit - len(content)]
    return bytes(content)


def _reason(stderr: bytes, code: int) -> str:
    # Only the kind is reported: the text of crane may contain presigned URLs.
    text = stderr.decode("utf-8", "replace")
    for pattern, reason in _REASONS:
        if pattern.search(text):
            return reason
    return f"crane failed with exit code {code}"
