"""Registered images: finding them, and registering programs of this machine and images of registries."""

from __future__ import annotations

from collections.abc import Sequence

from cts_core.concurrency import BatchedReads
from cts_core.errors import (
    IllegalParameterError,
    ImageFetchError,
    NoEntrypointError,
    NoSuchImageError,
    UnauthorizedError,
    UnsupportedError,
)
from cts_core.identity.identity import User
from cts_core.images.names import ImageReference, parse_image_name
from cts_core.images.programs import resolve_program
from cts_core.images.source import ImageSource
from cts_core.images.suggestions import image_help
from cts_core.model.image import Image, ImageRegistration
from cts_core.model.image import Images as ImageList
from cts_core.records.store import RecordStore

LATEST = "latest"
"""The tag of an image name without tag and digest."""


class Images:
    """Manages registered images. Methods that take an image's name raise ImageNameError if it cannot be parsed."""

    def __init__(
        self,
        store: RecordStore,
        registries: ImageSource,
        *,
        takes_programs: bool,
        contact: str = "",
    ) -> None:
        """``takes_programs`` allows registering programs of this machine; ``contact`` is whom users ask to register an image."""
        self._store = store
        self._listing: BatchedReads[None, Sequence[Image]] = BatchedReads(self._read_listing)
        self._takes_programs = takes_programs
        self._registries = registries
        self._contact = contact

    async def list(self) -> ImageList:
        """Return all registered images."""
        return ImageList(data=[*await self._listing.get(None)])

    async def _read_listing(self, _: Sequence[None]) -> tuple[Sequence[Image]]:
        return (await self._store.list_images(),)

    async def find(self, image_id: str) -> Image:
        """Return the registered image of this name; a digest wins over the tag, and no tag means ``latest``.

        Raises NoSuchImageError, which suggests similar registered images.
        """
        reference = parse_image_name(image_id)
        tag = None if reference.digest else reference.tag or LATEST
        image = await self._store.find_image(reference.name, digest=reference.digest, tag=tag)
        if image is None:
            version = f"digest {reference.digest}" if reference.digest else f"tag '{tag}'"
            help_ = image_help(reference, await self._store.list_images(), self._contact)
            raise NoSuchImageError(
                f"No image {reference.name} with {version} exists in the system.", help_.to_json()
            )
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
        """Register a program of this machine as ``host/<name>``, or an image of a registry.

        Raises UnauthorizedError, NoSuchImageError for ``from_image``, NoSuchRefdataError,
        ImageFetchError, NoEntrypointError, ImageTagExistsError, ImageDigestExistsError,
        UnsupportedError.
        """
        _check_admin(user)
        reference = parse_image_name(image_id)
        base = registration.from_image and await self.find(registration.from_image)
        # A field of the request wins over that of the base image, even an empty list.
        urls = None if registration.urls is None else [str(url) for url in registration.urls]
        usage_notes = registration.usage_notes
        mount_point = default_refdata_mount_point
        variables = registration.variables
        if variables is not None and not reference.is_host:
            raise IllegalParameterError(
                f"{reference.name} is an image of a registry, whose jobs may set any variable: leave out variables"
            )
        if base:
            urls = base.urls if urls is None else urls
            usage_notes = base.usage_notes if usage_notes is None else usage_notes
            refdata_id = refdata_id or base.refdata_id
            mount_point = mount_point or base.default_refdata_mount_point
            if reference.is_host:
                variables = base.variables if variables is None else variables
        if refdata_id is not None:
            await self._store.get_refdata(refdata_id)
        elif mount_point is not None:
            raise IllegalParameterError("A reference data mount point needs a reference data ID")
        digest, entrypoint = await self._look_up(reference, registration)
        image = Image(
            registered_by=user.name,
            registered_on=await self._store.now(),
            name=reference.name,
            digest=digest,
            entrypoint=[*entrypoint],
            tag=reference.tag or (LATEST if reference.is_host else ""),
            refdata_id=refdata_id,
            default_refdata_mount_point=mount_point,
            variables=variables,
            urls=urls or [],
            usage_notes=usage_notes,
        )
        await self._store.add_image(image)
        return image

    async def _look_up(
        self, reference: ImageReference, registration: ImageRegistration
    ) -> tuple[str, Sequence[str]]:
        executable, module = registration.executable, registration.module
        if reference.is_host:
            if not self._takes_programs:
                raise UnsupportedError(
                    "host images run without isolation and are refused on a service with several users, unless its "
                    "operator sets local.shared"
                )
            program = await resolve_program(
                executable=executable, module=module, interpreter=registration.interpreter
            )
            digest, entrypoint = program.digest, program.entrypoint
        elif executable is not None or module is not None:
            raise IllegalParameterError(
                f"{reference.name} is an image of a registry, which has a program of its own: leave out "
                "executable and module, or register a program of this machine as host/<name>"
            )
        else:
            registered = await self._registries.look_up(reference)
            digest, entrypoint = registered.digest, registered.entrypoint
            if not entrypoint:
                raise NoEntrypointError(
                    f"Image {reference.name} has no entrypoint, and CTS runs nothing else: build it with one"
                )
        if reference.digest not in (None, digest):
            raise ImageFetchError(
                f"The digest of {reference.name} is {digest}, and not the {reference.digest} that was given"
            )
        return digest, entrypoint

    async def delete(self, user: User, image_id: str) -> None:
        """Unregister an image; jobs keep their copy of its fields. Raises NoSuchImageError."""
        _check_admin(user)
        image = await self.find(image_id)
        await self._store.delete_image(image.name, digest=image.digest)


def _check_admin(user: User) -> None:
    if not user.is_admin:
        raise UnauthorizedError(f"User {user.name} may not change the registered images")
