"""Reads and writes images in MongoDB."""

from __future__ import annotations

from typing import Any

from pymongo.errors import DuplicateKeyError

from cts_core.errors import CTSError
from cts_core.model.image import Image
from cts_core.records.errors import image_digest_exists, image_tag_exists
from cts_core.records.mongo.connection import Collections


async def add(db: Collections, image: Image) -> None:
    """Register an image. Each name has at most one image without a tag.

    Raises ImageTagExistsError, ImageDigestExistsError.
    """
    conflict = await _conflict(db, image)
    if conflict is None:
        try:
            await db.images.insert_one(_from_image(image))
        except DuplicateKeyError as e:
            # Another server registered one meanwhile.
            raise await _conflict(db, image) or e from e
    else:
        raise conflict


async def _conflict(db: Collections, image: Image) -> CTSError | None:
    has_tag = await find(db, image.name, digest=None, tag=image.tag) is not None
    if has_tag and image.tag:
        return image_tag_exists(image)
    if await find(db, image.name, digest=image.digest, tag=None):
        return image_digest_exists(image)
    return image_tag_exists(image) if has_tag else None


def _from_image(image: Image) -> dict[str, Any]:
    # The deployed service, which stores nulls, does not know this one.
    unknown = {"variables"} if image.variables is None else set()
    return image.model_dump(exclude=unknown) | {"tag": image.tag or None}


def _to_image(document: dict[str, Any]) -> Image:
    return Image.model_validate(document | {"tag": document.get("tag") or ""})


async def find(db: Collections, name: str, *, digest: str | None, tag: str | None) -> Image | None:
    """Return the image with this digest or, if no digest is given, with this tag."""
    which = {"tag": tag or None} if digest is None else {"digest": digest}
    document = await db.images.find_one({"name": name, **which})
    return _to_image(document) if document else None


async def listing(db: Collections) -> list[Image]:
    """Return all images by name, tag and digest."""
    images = await db.images.find().sort([("name", 1), ("tag", 1), ("digest", 1)]).to_list()
    return [_to_image(document) for document in images]


async def delete(db: Collections, name: str, digest: str) -> bool:
    """Unregister an image; return False when it was not registered."""
    return bool((await db.images.delete_one({"name": name, "digest": digest})).deleted_count)
