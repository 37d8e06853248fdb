"""The errors that both object stores raise, in the words that clients compare."""

from __future__ import annotations

from cts_core.errors import BucketNotFoundError, PathInaccessibleError, PathNotFoundError


def not_found(path: str, *, bucket: bool = False) -> PathNotFoundError | BucketNotFoundError:
    """Return the error for an object, or with ``bucket`` for a bucket, that does not exist."""
    kind = BucketNotFoundError if bucket else PathNotFoundError
    return kind(f"The path '{path}' was not found on the s3 system")


def archived(
    path: str, storage_class: str = "", *, is_restoring: bool = False
) -> PathInaccessibleError:
    """Return the error for an object that has to be restored from its storage class before it can be read."""
    next_step = "its restore is under way: try again once it has ended"
    if not is_restoring:
        next_step = "restore it, or copy it into a class that can be read at once, then try again"
    return PathInaccessibleError(
        f"The S3 path '{path}' is in {f'the storage class {storage_class}' if storage_class else 'an archive storage class'}, and "
        f"cannot be read as it is: {next_step}"
    )


def access_denied(path: str, *, writing: bool) -> PathInaccessibleError:
    """Return the error for a path that the store does not let this service read or write."""
    access = "Write" if writing else "Read"
    return PathInaccessibleError(f"{access} access denied to path '{path}' on the s3 system")
