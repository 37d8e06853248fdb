"""Reads and writes images in SQLite."""

from __future__ import annotations

import sqlite3

from cts_core.model.image import Image
from cts_core.records.errors import image_digest_exists, image_tag_exists


def add(db: sqlite3.Connection, image: Image) -> None:
    """Register an image. One without a tag has the tag ``""``, so that each name has at most one of these.

    Raises ImageTagExistsError, ImageDigestExistsError.
    """
    has_tag = find(db, image.name, digest=None, tag=image.tag) is not None
    if has_tag and image.tag:
        raise image_tag_exists(image)
    if find(db, image.name, digest=image.digest, tag=None):
        raise image_digest_exists(image)
    if has_tag:
        raise image_tag_exists(image)
    db.execute(
        "INSERT INTO images (name, digest, tag, image) VALUES (?, ?, ?, ?)",
        (image.name, image.digest, image.tag, image.model_dump_json()),
    )


def find(db: sqlite3.Connection, name: str, *, digest: str | None, tag: str | None) -> Image | None:
    """Return the image with this digest or, if no digest is given, with this tag."""
    if digest is not None:
        statement, value = "SELECT image FROM images WHERE name = ? AND digest = ?", digest
    else:
        statement, value = "SELECT image FROM images WHERE name = ? AND tag = ?", tag or ""
    row = db.execute(statement, (name, value)).fetchone()
    return Image.model_validate_json(row["image"]) if row else None


def listing(db: sqlite3.Connection) -> list[Image]:
    """Return all images by name, tag and digest."""
    cursor = db.execute("SELECT image FROM images ORDER BY name, tag, digest")
    return [Image.model_validate_json(row["image"]) for row in cursor]


def delete(db: sqlite3.Connection, name: str, digest: str) -> bool:
    """Unregister an image; return False when it was not registered."""
    return bool(
        db.execute("DELETE FROM images WHERE name = ? AND digest = ?", (name, digest)).rowcount
    )
