"""Image names: parsing, and the normalised form with a registry and without tag and digest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cts_core.errors import ImageNameError

HOST_PREFIX = "host/"
"""The prefix of programs of the service's own machine. A registry's host has a dot or a port, or is localhost."""
_DEFAULT_REGISTRY = "docker.io"
MAX_PORT = 65_535
_MAX_LENGTH = 1000
_NAME_CHARACTER = re.compile(r"[a-z0-9._/:-]")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_REGISTRY = re.compile(r"[a-z0-9]+(?:[.-]+[a-z0-9]+)*(?::\d{1,5})?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageReference:
    """A parsed image name; ``name`` is normalised."""

    name: str
    tag: str | None = None
    digest: str | None = None

    @property
    def is_host(self) -> bool:
        """Return whether it is a program of the service's own machine."""
        return self.name.startswith(HOST_PREFIX)


def parse_image_name(text: str) -> ImageReference:
    """Parse ``[registry/]path[:tag][@digest]``; ``fake/image`` is ``docker.io/fake/image``.

    Raises ImageNameError.
    """
    text = text.strip()
    if not text or len(text) > _MAX_LENGTH:
        raise ImageNameError(f"An image name is 1 to {_MAX_LENGTH} characters long")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ImageNameError(
            f"Illegal digest in image name '{text}': it must be sha256: and 64 hexadecimal digits"
        )
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        # The colon, if there is one, belongs to the port of the registry.
        name, tag = rest, ""
    elif not _TAG.fullmatch(tag):
        raise ImageNameError(f"Illegal tag in image name '{text}': '{tag}'")
    for character in name:
        if not _NAME_CHARACTER.fullmatch(character):
            raise ImageNameError(f"Illegal character in image name '{text}': '{character}'")
    return ImageReference(_normalise(text, name), tag or None, digest or None)


def _normalise(text: str, name: str) -> str:
    first, slash, path = name.partition("/")
    if f"{first}{slash}" == HOST_PREFIX:
        registry = "host"
    elif slash and ("." in first or ":" in first or first == "localhost"):
        registry = first
        port = registry.partition(":")[2]
        if not _REGISTRY.fullmatch(registry) or not 0 < int(port or 443) <= MAX_PORT:
            raise ImageNameError(f"Illegal registry in image name '{text}': '{registry}'")
    else:
        registry, path = _DEFAULT_REGISTRY, name
    if registry == _DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    if not all(_COMPONENT.fullmatch(component) for component in path.split("/")):
        raise ImageNameError(
            f"Illegal image name '{text}': each part is lower case letters and digits, with single "
            "dots, dashes or underscores between them"
        )
    return f"{registry}/{path}"
