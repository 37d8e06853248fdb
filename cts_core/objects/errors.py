"""The errors that both object stores raise, in the words that clients compare."""

from __future__ import annotations

from cts_core.errors import BucketNotFoundError, PathInaccessibleError, PathNotFoundError


def not_found(path: str, *, bucket: bool = False) -> PathNotFoundError | BucketNotFoundError:
    """Return the error for an object, or with ``bucket`` for a bucket, that does not exist."""
    kind = BucketNotFoundError if bucket else PathNotFoundError
    return kind(f"The path '{path}' was not found on the s3 system")


def access_denied(path: str, *, writing: bool) -> PathInaccessibleError:
    """Return the error for a path that the store does not let this service read or write."""
    access = "Write" if writing else "Read"
    return PathInaccessibleError(f"{access} access denied to path '{path}' on the s3 system")
