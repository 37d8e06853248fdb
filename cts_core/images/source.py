"""The port of container registries: reading the metadata of images without pulling them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cts_core.images.names import ImageReference


@dataclass(frozen=True)
class RegistryImage:
    """The metadata of an image at its registry."""

    digest: str
    """The digest of the index, if the image has variants for several platforms."""
    entrypoint: list[str]
    """The entrypoint of the variant for linux/amd64; empty if it has none."""


class ImageSource(Protocol):
    """A client of image registries."""

    async def look_up(self, reference: ImageReference) -> RegistryImage:
        """Return the image's metadata from its registry, by its tag if given, else by its digest, else by ``latest``.

        Raises ImageFetchError.
        """
