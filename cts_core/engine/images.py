"""Registered images: looking them up, and registering programs of this machine."""

from __future__ import annotations

from cts_core.errors import (
    IllegalParameterError,
    NoSuchImageError,
    NoSuchRefdataError,
    UnauthorizedError,
    UnsupportedError,
)
from cts_core.identity.identity import Identity, User
from cts_core.images.host import resolve_program
from cts_core.images.names import parse_image_name
from cts_core.model.base import utc_now
from cts_core.model.image import Image, ImageRegistration
from cts_core.model.image import Images as ImageList
from cts_core.records.store import RecordStore

LATEST = "latest"
"""The tag that is meant when neither tag nor digest is said."""


class Images:
    """Every method that takes an image's name raises ImageNameError for one that cannot be parsed."""

    def __init__(self, store: RecordStore, identity: Identity) -> None:
        self._store = store
        self._identity = identity

    async def list(self) -> ImageList:
        """All registered images."""
        return ImageList(data=await self._store.list_images())

    async def find(self, image_id: str) -> Image:
        """The registered image of this name; the digest wins over the tag, and no tag means ``latest``.

        Raises NoSuchImageError.
        """
        reference = parse_image_name(image_id)
        tag = None if reference.digest else reference.tag or LATEST
        image = await self._store.find_image(reference.name, digest=reference.digest, tag=tag)
        if image is None:
            wanted = f"digest {reference.digest}" if reference.digest else f"tag '{tag}'"
            raise NoSuchImageError(f"No image {reference.name} with {wanted} exists in the system.")
        return image

    async def register(
        self,
        user: User,
        image_id: str,
        registration: ImageRegistration,
        *,
        refdata_id: str | None = None,
        default_refdata_mount_point: str | None = None,
    ) -> Image:
        """Register a program of this machine as ``host/<name>``.

        Raises UnauthorizedError, NoSuchRefdataError, ImageFetchError,
        ImageTagExistsError, ImageDigestExistsError, and UnsupportedError for an image of a registry.
        """
        _check_admin(user)
        reference = parse_image_name(image_id)
        if not reference.is_host:
            raise UnsupportedError(
                f"{reference.name} is an image of a container registry, and this service runs programs of "
                "its own machine only: register one as host/<name>"
            )
        if not self._identity.single_user:
            raise UnsupportedError(
                "host images run without isolation and are refused on a service with several users"
            )
        if default_refdata_mount_point is not None and refdata_id is None:
            raise IllegalParameterError("A reference data mount point needs a reference data ID")
        if refdata_id is not None:
            raise NoSuchRefdataError(f"No reference data with ID '{refdata_id}' exists")
        urls, usage_notes = registration.urls, registration.usage_notes
        base = registration.from_image and await self.find(registration.from_image)
        program = await resolve_program(
            executable=registration.executable, module=registration.module
        )
        if reference.digest not in (None, program.digest):
            raise IllegalParameterError(
                f"The digest given is not that of the program, which is {program.digest}"
            )
        image = Image(
            registered_by=user.name,
            registered_on=utc_now(),
            name=reference.name,
            digest=program.digest,
            entrypoint=program.entrypoint,
            tag=reference.tag or LATEST,
            # What the request says wins, an empty list too.
            urls=base.urls if base and urls is None else [str(url) for url in urls or []],
            usage_notes=base.usage_notes if base and usage_notes is None else usage_notes,
        )
        await self._store.add_image(image)
        return image

    async def delete(self, user: User, image_id: str) -> None:
        """Unregister an image; jobs keep what they know of it. Raises NoSuchImageError."""
        _check_admin(user)
        image = await self.find(image_id)
        await self._store.delete_image(image.name, digest=image.digest)


def _check_admin(user: User) -> None:
    if not user.is_admin:
        raise UnauthorizedError(f"User {user.name} may not change the registered images")
