"""The local files that ``%cts put`` stores, found before anything is stored."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.braces import alternatives

LOCAL_BEGINNINGS = ("/", "./", "../", "~")
"""The beginnings of words that are no path of the object store."""
_OWN_CONTENT = frozenset({"", ".", ".."})
"""Last parts of a word that stand for what is in a folder, and not for the folder, as for rsync."""


@dataclass
class LocalFiles:
    """What was found below the words of a line."""

    files: list[tuple[Path, str]] = field(default_factory=list)
    """Regular files, also behind links, and the path of each below the target folder."""
    empty: list[str] = field(default_factory=list)
    """Folders with nothing in them, which an object store cannot have."""
    refused: list[str] = field(default_factory=list)
    """What cannot be stored, with the reason."""


@dataclass(frozen=True)
class _Found:
    path: Path
    name: str
    above: frozenset[tuple[int, int]] = frozenset()
    """Device and inode of the folders that it was found through."""


def find_local_files(words: Iterable[str]) -> LocalFiles:
    """Return the files, and all files below the folders, that these words and patterns name.

    A folder's name is kept, and only that of ``folder/`` is not. Links are followed. Raises MagicError for a word that names
    nothing.
    """
    found = LocalFiles()
    for word in words:
        named = local_path(word)
        # The name of a link to nothing is one that is there.
        paths = [named] if os.path.lexists(named) else _expand(named)
        if not paths:
            raise no_local_file(word)
        own_content = os.path.basename(word) in _OWN_CONTENT  # noqa: PTH119 - Path drops a last slash
        for path in paths:
            _find(path, "" if own_content and path.is_dir() else path.name, found)
    return found


def local_path(word: str) -> Path:
    """Return the local path of a word, which may begin with ``~``. Raises MagicError for one that no file can have."""
    if "\0" in word:
        raise MagicError(f"{word!a} has a NUL character in it, which no file's name can have")
    try:
        return Path(word).expanduser()
    except RuntimeError:
        user = word.partition("/")[0]
        raise MagicError(
            f"{word} begins with {user}, the home of a user that this machine does not have: write the folder's whole path"
        ) from None


def is_local(word: str) -> bool:
    """Return whether a word or pattern names something on this machine."""
    try:
        path = local_path(word)
        return os.path.lexists(path) or bool(_expand(path))
    except MagicError:
        return False


def no_local_file(word: str) -> MagicError:
    """Return the error about a local file that is not there; it says where that was looked for."""
    return MagicError(
        f"There is no local file {word}: looked for {show_path(local_path(word).absolute())}"
    )


def show_path(path: Path) -> str:
    """Return a path as text that can be printed, whatever bytes are in it."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _expand(pattern: Path) -> list[Path]:
    """Return local files that match; a line of a notebook has no shell that expands patterns."""
    try:
        choices = alternatives(str(pattern))
    except ValueError as e:
        raise MagicError(str(e)) from None
    found = (glob.glob(choice, recursive=True, include_hidden=True) for choice in choices)  # noqa: PTH207 - Path.glob refuses 'f**.txt'
    return sorted({Path(path) for paths in found for path in paths})


def _find(path: Path, name: str, found: LocalFiles) -> None:
    # Not recursive, as folders may be deeper than Python's stack.
    pending = [_Found(path, name)]
    while pending:
        here = pending.pop()
        try:
            status = here.path.stat()
            if stat.S_ISDIR(status.st_mode):
                pending += reversed(_inside(here, (status.st_dev, status.st_ino), found))
            elif not stat.S_ISREG(status.st_mode):
                # A device or a pipe may have no end.
                found.refused.append(f"{show_path(here.path)} (not a regular file)")
            elif not os.access(here.path, os.R_OK):
                found.refused.append(f"{show_path(here.path)} (no permission to read it)")
            else:
                found.files.append((here.path, here.name))
        except FileNotFoundError:
            found.refused.append(f"{show_path(here.path)} (a link to nothing)")
        except OSError as e:
            found.refused.append(f"{show_path(here.path)} ({e.strerror})")


def _inside(folder: _Found, identity: tuple[int, int], found: LocalFiles) -> list[_Found]:
    if identity in folder.above:
        found.refused.append(f"{show_path(folder.path)} (a link to a folder that it is in)")
        return []
    above = folder.above | {identity}
    base = f"{folder.name}/" if folder.name else ""
    paths = sorted(folder.path.iterdir())
    if not paths:
        found.empty.append(show_path(folder.path))
    return [_Found(path, f"{base}{path.name}", above) for path in paths]
