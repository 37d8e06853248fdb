"""The rules for object paths, ``bucket/key`` (docs/reference/contract.md §3). Pure functions of text.

The sentences are those of the deployed service: clients show and tests compare them.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence

MAX_KEY_BYTES = 1024
MAX_FOLDERS = 100
"""Candidate folders that are tried in the search for an empty one."""
_NUMBERED = re.compile(r"(.+)-(\d{1,9})", re.DOTALL)
_MIN_BUCKET, _MAX_BUCKET = 3, 63
_BUCKET = re.compile(r"[a-z0-9-]+")
_FORBIDDEN = ("'", ";", "//")


def _at(index: int | None) -> str:
    return "" if index is None else f" at index {index}"


def _check_bucket(bucket: str, index: int | None) -> None:
    if not _MIN_BUCKET <= len(bucket) <= _MAX_BUCKET:
        raise ValueError(f"Bucket name{_at(index)} must be > 2 and < 64 characters: {bucket}")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(
            f"Bucket name{_at(index)} may only contain '-' and lowercase ascii alphanumerics: {bucket}"
        )
    if bucket.startswith("-") or bucket.endswith("-"):
        raise ValueError(f"Bucket name{_at(index)} cannot start or end with '-': {bucket}")


def _check_key(path: str, key: str, index: int | None) -> None:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(
            f"Path '{path}'{_at(index)}'s key is longer than {MAX_KEY_BYTES} bytes in UTF-8"
        )
    for position, char in enumerate(key):
        if unicodedata.category(char) == "Cc":
            raise ValueError(
                f"Path {path}{_at(index)} contains a control character in the key at position {position}"
            )
    for text in _FORBIDDEN:
        if text in path:
            raise ValueError(f"Path '{path}'{_at(index)} may not contain {text!r}")


def check_path(path: object, *, index: int | None = None, key_required: bool = True) -> str:
    """Return ``path`` cleaned of leading white space, or raise ValueError saying what is wrong.

    ``index`` is its place in a list, for the message. Trailing white space is part of a key. Without
    ``key_required`` a bare bucket passes too (as an input root or a prefix).
    """
    if not isinstance(path, str):
        subject = "S3 paths must be a string" if index is None else "S3 path must be a string"
        raise ValueError(f"{subject}{_at(index)}")  # noqa: TRY004 - pydantic turns ValueError into a detail
    try:
        path.encode()
    except UnicodeEncodeError as e:
        # First of all: no other message could repeat the path, for it could not be sent.
        raise ValueError(f"Path {path!r}{_at(index)} is not valid unicode text") from e
    if not path.strip():
        raise ValueError(f"The s3 path{_at(index)} cannot be null or a whitespace string")
    path = path.lstrip()
    if path.startswith("/"):
        raise ValueError(f"Path '{path}'{_at(index)} cannot start with '/'")
    bucket, _, key = path.partition("/")
    if key_required and not key.strip():
        raise ValueError(
            f"Path '{path}'{_at(index)} must start with the s3 bucket and include a key"
        )
    _check_bucket(bucket, index)
    _check_key(path, key, index)
    return path


def check_paths(paths: Sequence[object]) -> list[str]:
    """Check a list of paths; the message names the index of the first invalid one."""
    return [check_path(path, index=index) for index, path in enumerate(paths)]


def check_root(root: object, *, index: int | None = None) -> str:
    """Return an input root: ``""``, a bucket, or a folder, without a trailing slash."""
    if root == "":
        return ""
    return check_path(root, index=index, key_required=False).rstrip("/")


def as_folder(path: str) -> str:
    """Return ``path`` with exactly one trailing slash, the form in which folders are stored and named."""
    return f"{path.rstrip('/')}/"


def check_folder(path: object) -> str:
    """Check a path as ``check_path`` does, and return it as a folder; the slash at its end is part of its key."""
    return check_path(as_folder(check_path(path)))


def split_path(path: str) -> tuple[str, str]:
    """Split ``bucket/key`` into ``(bucket, key)``; the key may be empty."""
    bucket, _, key = path.partition("/")
    return bucket, key


def join_path(folder: str, *parts: str) -> str:
    """Join parts to a folder, whether or not the folder ends in a slash."""
    return posixpath.join(folder.rstrip("/"), *parts)


def folders_beside(
    folder: str, taken: Collection[str] = (), *, is_numbered: bool = False
) -> Iterator[str]:
    """Yield ``results-2/``, ``results-3/`` and so on for ``results/``, without those that are ``taken``.

    With ``is_numbered``, yield ``results-3/`` and so on for ``results-2/``.
    """
    base = folder.rstrip("/")
    number = 1
    numbered = _NUMBERED.fullmatch(base)
    if is_numbered and numbered:
        base, number = numbered[1], int(numbered[2])
    for following in range(number + 1, number + 1 + MAX_FOLDERS):
        if (fresh := as_folder(f"{base}-{following}")) not in taken:
            yield fresh


def is_below(path: str, folder: str) -> bool:
    """Return whether ``path`` is ``folder`` or lies below it, by whole path segments."""
    folder = folder.rstrip("/")
    return path.rstrip("/") == folder or path.startswith(f"{folder}/")
