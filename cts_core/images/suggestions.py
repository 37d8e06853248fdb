"""What to tell who asks for an image that is not registered. Pure."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterable

from cts_core.images.names import ImageReference
from cts_core.model.image import ImageHelp, JobImage

MAX_NEAREST = 5
_ALIKE = 0.6
"""Names less alike than this are of another image."""


def image_help(
    reference: ImageReference, images: Iterable[JobImage], contact: str = ""
) -> ImageHelp:
    """The registered images nearest to the one asked for, whom to ask, and a text to ask with."""
    asked = said(reference.name, reference.tag, reference.digest)
    ranked = sorted(
        (_unlikeness(reference.name, image.name), _reference(image)) for image in images
    )
    return ImageHelp(
        nearest=[known for unlike, known in ranked if unlike <= 1 - _ALIKE][:MAX_NEAREST],
        contact=contact or None,
        request=(
            f"Please register the image {asked} with the CDM Task Service, so that jobs can run it. An admin "
            f"does so by: %cts images --register {asked}"
        ),
    )


def said(name: str, tag: str | None, digest: str | None) -> str:
    """A name as one writes it: with its tag, or else its digest."""
    if tag:
        return f"{name}:{tag}"
    return f"{name}@{digest}" if digest else name


def _reference(image: JobImage) -> str:
    return said(image.name, image.tag, image.digest)


def _unlikeness(asked: str, known: str) -> float:
    """0 for the same name, 1 for nothing in common; the same image at another place is near."""
    if asked == known:
        return 0.0
    last = difflib.SequenceMatcher(None, posixpath.basename(asked), posixpath.basename(known))
    whole = difflib.SequenceMatcher(None, asked, known)
    return 1 - last.ratio() * max(0.9, whole.ratio())
