"""Object paths, ``bucket/key``: their rules, and the types that keep them.

``check_path`` has the rules of the contract (docs/reference/contract.md §3), which models hold requests and settings to. What was
stored before need not keep the rules of today, so that records are read without them. The types ``ObjectPath``, ``FolderPath`` and
``ObjectPrefix`` have one rule more: no part of a path is empty, ``.`` or ``..``, which some stores resolve and others refuse. Ports
take these types alone, and making one checks it, so that no text reaches a store in another way.

The sentences are those of the deployed service: clients show and tests compare them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Self

from cts_core.errors import IllegalPathError

MAX_KEY_BYTES = 1024
MAX_FOLDERS = 100
"""Candidate folders that are tried in the search for an empty one."""
_NUMBERED = re.compile(r"(.+)-(\d{1,9})", re.DOTALL)
_MIN_BUCKET, _MAX_BUCKET = 3, 63
_BUCKET = re.compile(r"[a-z0-9-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FORBIDDEN = ("'", ";", "//")
_DOTS = (".", "..")


def _at(index: int | None) -> str:
    return "" if index is None else f" at index {index}"


def _check_bucket(bucket: str, index: int | None) -> None:
    if not _MIN_BUCKET <= len(bucket) <= _MAX_BUCKET:
        raise IllegalPathError(f"Bucket name{_at(index)} must be > 2 and < 64 characters: {bucket}")
    if not _BUCKET.fullmatch(bucket):
        raise IllegalPathError(
            f"Bucket name{_at(index)} may only contain '-' and lowercase ascii alphanumerics: {bucket}"
        )
    if bucket.startswith("-") or bucket.endswith("-"):
        raise IllegalPathError(f"Bucket name{_at(index)} cannot start or end with '-': {bucket}")


def _check_key(path: str, key: str, index: int | None) -> None:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise IllegalPathError(
            f"Path '{path}'{_at(index)}'s key is longer than {MAX_KEY_BYTES} bytes in UTF-8"
        )
    if control := _CONTROL.search(key):
        raise IllegalPathError(
            f"Path {path}{_at(index)} contains a control character in the key at position {control.start()}"
        )
    for text in _FORBIDDEN:
        if text in path:
            raise IllegalPathError(f"Path '{path}'{_at(index)} may not contain {text!r}")


def check_path(path: object, *, index: int | None = None, key_required: bool = True) -> str:
    """Return ``path`` cleaned of leading white space. Raises IllegalPathError saying what is wrong.

    ``index`` is its place in a list, for the message. Trailing white space is part of a key. Without
    ``key_required`` a bare bucket passes too (as an input root or a prefix).
    """
    if not isinstance(path, str):
        subject = "S3 paths must be a string" if index is None else "S3 path must be a string"
        raise IllegalPathError(f"{subject}{_at(index)}")
    try:
        path.encode()
    except UnicodeEncodeError as e:
        # First of all: no other message could repeat the path, for it could not be sent.
        raise IllegalPathError(f"Path {path!r}{_at(index)} is not valid unicode text") from e
    if not path.strip():
        raise IllegalPathError(f"The s3 path{_at(index)} cannot be null or a whitespace string")
    path = path.lstrip()
    if path.startswith("/"):
        raise IllegalPathError(f"Path '{path}'{_at(index)} cannot start with '/'")
    bucket, _, key = path.partition("/")
    if key_required and not key.strip():
        raise IllegalPathError(
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


def _check_parts(path: str, index: int | None) -> str:
    for part in path.split("/"):
        if part in _DOTS:
            raise IllegalPathError(
                f"Path '{path}'{_at(index)} may not have the part '{part}': name what is meant without it"
            )
    return path


class ObjectPath(str):
    """The path of one object. Making one checks it: raises IllegalPathError."""

    __slots__ = ()

    def __new__(cls, path: str, *, index: int | None = None) -> Self:
        """``index`` is its place in a list, for the message."""
        path = _check_parts(check_path(path, index=index), index)
        if path.endswith("/"):
            raise IllegalPathError(
                f"Path '{path}'{_at(index)} may not end in '/', for it names a folder: name an object in it"
            )
        return super().__new__(cls, path)


class ObjectPrefix(str):
    """The beginning of paths, at least ``bucket/``. Making one checks it: raises IllegalPathError."""

    __slots__ = ()

    def __new__(cls, path: str) -> Self:
        """A bare bucket gets its slash."""
        path = _check_parts(check_path(path, key_required=False), None)
        return super().__new__(cls, path if "/" in path else f"{path}/")


class FolderPath(ObjectPrefix):
    """A folder, or a bucket, with a slash at its end. Making one checks it: raises IllegalPathError.

    ``path.startswith(folder)`` holds for what lies below it: its own key, without the slash, does not.
    """

    __slots__ = ()

    def __new__(cls, path: str) -> Self:
        """The slash may be missing."""
        return super().__new__(cls, path if path.endswith("/") else as_folder(path))

    def file(self, *names: str) -> ObjectPath:
        """Return the path of an object below this folder."""
        return ObjectPath(self + "/".join(names))

    def folder(self, *names: str) -> FolderPath:
        """Return a folder below this one."""
        return FolderPath(self + "/".join(names))


def legal_buckets(names: Iterable[str]) -> list[FolderPath]:
    """Return the buckets of these names, sorted, without those that no path can name."""
    buckets = []
    for name in names:
        with suppress(IllegalPathError):
            buckets.append(FolderPath(name))
    return sorted(buckets)


def above(path: str) -> list[ObjectPath]:
    """Return the paths that have to be folders, and no objects, for ``path`` to be an object everywhere."""
    parts = path.split("/")
    return [ObjectPath("/".join(parts[:count])) for count in range(2, len(parts))]


def split_path(path: str) -> tuple[str, str]:
    """Split ``bucket/key`` into ``(bucket, key)``; the key may be empty."""
    bucket, _, key = path.partition("/")
    return bucket, key


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
