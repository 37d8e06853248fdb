"""What the Mongo store does with images."""

from __future__ import annotations

from typing import Any

from pymongo.errors import DuplicateKeyError

from cts_core.errors import CTSError, ImageDigestExistsError, ImageTagExistsError
from cts_core.model.image import Image
from cts_core.records.mongo.connection import Collections


async def add(db: Collections, image: Image) -> None:
    """Register an image. Of those without a tag there is one a name."""
    refusal = await _refusal(db, image)
    if refusal is None:
        try:
            await db.images.insert_one(_from_image(image))
        except DuplicateKeyError as e:
            # Another server was first.
            raise await _refusal(db, image) or e from e
    else:
        raise refusal


async def _refusal(db: Collections, image: Image) -> CTSError | None:
    has_tag = await find(db, image.name, digest=None, tag=image.tag)
    if has_tag and image.tag:
        return ImageTagExistsError(f"The image {image.name} with tag '{image.tag}' exists already")
    if await find(db, image.name, digest=image.digest, tag=None):
        return ImageDigestExistsError(
            f"The image {image.name} with digest {image.digest} exists already"
        )
    if has_tag:
        return ImageTagExistsError(
            f"The image {image.name} without a tag exists already: give a tag"
        )
    return None


def _from_image(image: Image) -> dict[str, Any]:
    return image.model_dump() | {"tag": image.tag or None}


def _to_image(document: dict[str, Any]) -> Image:
    return Image.model_validate(document | {"tag": document.get("tag") or ""})


async def find(db: Collections, name: str, *, digest: str | None, tag: str | None) -> Image | None:
    """The image with this digest, or without a digest given, with this tag."""
    which = {"tag": tag or None} if digest is None else {"digest": digest}
    found = await db.images.find_one({"name": name, **which})
    return _to_image(found) if found else None


async def listing(db: Collections) -> list[Image]:
    """All images."""
    found = await db.images.find().sort([("name", 1), ("tag", 1), ("digest", 1)]).to_list()
    return [_to_image(document) for document in found]


async def delete(db: Collections, name: str, digest: str) -> bool:
    """Unregister an image."""
    return bool((await db.images.delete_one({"name": name, "digest": digest})).deleted_count)
