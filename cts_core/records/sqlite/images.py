"""What the SQLite store does with images, on one connection."""

from __future__ import annotations

import sqlite3

from cts_core.errors import ImageDigestExistsError, ImageTagExistsError
from cts_core.model.image import Image


def add(db: sqlite3.Connection, image: Image) -> None:
    """Register an image. One without a tag has the tag ``""``, so that there is one of these a name."""
    if image.tag and find(db, image.name, digest=None, tag=image.tag):
        raise ImageTagExistsError(f"The image {image.name} with tag '{image.tag}' exists already")
    if find(db, image.name, digest=image.digest, tag=None):
        raise ImageDigestExistsError(
            f"The image {image.name} with digest {image.digest} exists already"
        )
    if find(db, image.name, digest=None, tag=image.tag):
        raise ImageTagExistsError(
            f"The image {image.name} without a tag exists already: give a tag"
        )
    db.execute(
        "INSERT INTO images (name, digest, tag, image) VALUES (?, ?, ?, ?)",
        (image.name, image.digest, image.tag, image.model_dump_json()),
    )


def find(db: sqlite3.Connection, name: str, *, digest: str | None, tag: str | None) -> Image | None:
    """The image with this digest, or without a digest given, with this tag."""
    if digest is not None:
        statement, value = "SELECT image FROM images WHERE name = ? AND digest = ?", digest
    else:
        statement, value = "SELECT image FROM images WHERE name = ? AND tag = ?", tag or ""
    row = db.execute(statement, (name, value)).fetchone()
    return Image.model_validate_json(row["image"]) if row else None


def listing(db: sqlite3.Connection) -> list[Image]:
    """All images."""
    found = db.execute("SELECT image FROM images ORDER BY name, tag, digest")
    return [Image.model_validate_json(row["image"]) for row in found]


def delete(db: sqlite3.Connection, name: str, digest: str) -> bool:
    """Unregister an image."""
    return bool(
        db.execute("DELETE FROM images WHERE name = ? AND digest = ?", (name, digest)).rowcount
    )
