"""Help for requests of an image that is not registered: similar images, and a text for a registration."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterable

from cts_core.images.names import HOST_PREFIX, ImageReference
from cts_core.model.image import ImageHelp, JobImage

MAX_SUGGESTIONS = 5
_MIN_SIMILARITY = 0.6
"""The minimal similarity of a suggested name."""


def image_help(
    reference: ImageReference, images: Iterable[JobImage], contact: str = ""
) -> ImageHelp:
    """Return the most similar registered images, the contact, and a text that requests the registration."""
    requested = full_name(reference.name, reference.tag, reference.digest)
    command = f"%cts images --register {requested}"
    if reference.name.startswith(HOST_PREFIX):
        command = f"%cts images --register {reference.name} --executable PATH"
    ranked = sorted(
        (_distance(reference.name, image.name), _full_name_of(image)) for image in images
    )
    return ImageHelp(
        nearest=[name for distance, name in ranked if distance <= 1 - _MIN_SIMILARITY][
            :MAX_SUGGESTIONS
        ],
        contact=contact or None,
        request=(
            f"Please register the image {requested} with the CDM Task Service, so that jobs can run it. An admin "
            f"does so by: {command}"
        ),
        command=command,
    )


def full_name(name: str, tag: str | None, digest: str | None) -> str:
    """Return the full name of an image: with its tag, or else with its digest."""
    if tag:
        return f"{name}:{tag}"
    return f"{name}@{digest}" if digest else name


def _full_name_of(image: JobImage) -> str:
    return full_name(image.name, image.tag, image.digest)


def _distance(requested: str, registered: str) -> float:
    """Return a distance: 0 for the same name, 1 for nothing in common, little for the same image at another registry."""
    if requested == registered:
        return 0.0
    last = difflib.SequenceMatcher(
        None, posixpath.basename(requested), posixpath.basename(registered)
    )
    whole = difflib.SequenceMatcher(None, requested, registered)
    return 1 - last.ratio() * max(0.9, whole.ratio())
