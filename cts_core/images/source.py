"""The port of images of container registries: what is read of one, without pulling it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cts_core.images.names import ImageReference


@dataclass(frozen=True)
class RegistryImage:
    """What a registry says of an image."""

    digest: str
    """Of the index, where the image has variants for several platforms."""
    entrypoint: list[str]
    """Of the variant for linux/amd64; empty when it has none."""


class ImageSource(Protocol):
    """Where images of registries are looked up."""

    async def look_up(self, reference: ImageReference) -> RegistryImage:
        """The image as its registry has it; by its tag when it is said, else by its digest, else ``latest``.

        Raises ImageFetchError.
        """
