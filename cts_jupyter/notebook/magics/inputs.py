"""The input files of a submission: from paths, folders, patterns and tables."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cts_jupyter.client.lookups import find_file
from cts_jupyter.client.transport import CTSClientError, CTSRequestError
from cts_jupyter.formatting import unknown
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.braces import is_pattern, literal_prefix, matches
from cts_jupyter.notebook.magics.command import CommandParser
from cts_jupyter.notebook.magics.context import Context
from cts_jupyter.notebook.magics.hints import local_hint, near_hint, pattern_hint
from cts_jupyter.notebook.magics.local_files import (
    LOCAL_BEGINNINGS,
    is_local,
    local_path,
    no_local_file,
)
from cts_jupyter.notebook.tsv import parse_tsv
from cts_jupyter.notebook.typed_paths import object_path

InputFile = str | dict[str, Any]
"""A path, or the contract's file object with its data id or checksum."""

_TSV_COLUMNS = ("file", "data_id", "crc64nvme")


class SourceKind(Enum):
    """The kinds of options that name input files."""

    PATHS = "-i"
    GLOB = "-g"
    TSV = "--tsv"


@dataclass(frozen=True)
class Source:
    """An option that names input files; the order of the options is the order of the files."""

    kind: SourceKind
    values: Sequence[str]


class _AddSource(argparse.Action):
    """Collects options of different kinds in their order on the line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's signature
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,  # noqa: ARG002 - argparse's signature
    ) -> None:
        texts = [values] if isinstance(values, str) else list(values or [])
        sources = [*(getattr(namespace, self.dest) or []), Source(self.const, texts)]
        setattr(namespace, self.dest, sources)


def configure_sources(parser: CommandParser) -> None:
    """Add ``-i``, ``-g`` and ``--tsv``."""
    parser.add_argument(
        "-i", "--input", dest="sources", action=_AddSource, const=SourceKind.PATHS, nargs="+",
        metavar="PATH", type=object_path, help="input files; a path ending in '/' means every file below it",
    )  # fmt: skip
    parser.add_argument(
        "-g", "--glob", dest="sources", action=_AddSource, const=SourceKind.GLOB, metavar="GLOB",
        type=object_path, help="input files by pattern, such as 'bucket/mags/*.fna.gz'; a pattern without '/' picks "
        "from the folders given with -i",
    )  # fmt: skip
    parser.add_argument(
        "--tsv", dest="sources", action=_AddSource, const=SourceKind.TSV, metavar="FILE",
        help="input files from a local table: path, and optionally data id and CRC64/NVME",
    )  # fmt: skip


def list_below(context: Context, prefix: str, pattern: str | None = None) -> list[str]:
    """Return the paths below a folder that match. Raises MagicError when there are none."""
    try:
        paths = [
            stored.path
            for stored in context.files_below(prefix)
            if pattern is None or matches(stored.path, pattern)
        ]
    except ValueError as e:
        raise MagicError(str(e)) from None
    except CTSRequestError as e:
        if e.status == HTTPStatus.NOT_FOUND and pattern is not None and "/" in pattern:
            check_not_local(pattern)
        raise
    if not paths:
        if pattern is None or "/" in pattern:
            check_not_local(pattern or prefix)
        what = f"matches {pattern!r} below {prefix}" if pattern else f"lies below {prefix}"
        hint = near_hint(context.client, prefix) or f"%cts files {prefix} shows what is there"
        raise MagicError(f"No file {what}; {hint}")
    return paths


def expand_glob(context: Context, pattern: str) -> list[str]:
    """Return the paths that match a pattern, which must begin with a bucket. Raises MagicError."""
    try:
        prefix = literal_prefix(pattern)
    except ValueError as e:
        raise MagicError(str(e)) from None
    if "/" not in prefix.lstrip("/"):
        check_not_local(pattern)
        raise MagicError(f"The pattern {pattern!r} must begin with a bucket: 'bucket/folder/*.fna'")
    return list_below(context, prefix, pattern)


def expand_paths(context: Context, paths: Iterable[str], pattern: str | None = None) -> list[str]:
    """Return the paths with every folder replaced by the files below it."""
    expanded = []
    for path in paths:
        if path.endswith("/"):
            expanded += list_below(context, path, pattern)
        else:
            expanded.append(path)
    return expanded


def check_not_local(word: str) -> None:
    """Raise MagicError for a word that names nothing in the object store, and a file of this machine."""
    if is_local(word):
        raise MagicError(
            f"{word} is on this machine, and not in the object store, from which containers get their files. To store it there: "
            f"%cts put {shlex.quote(word)} BUCKET/FOLDER/"
        )


def _check_paths(context: Context, paths: Iterable[str]) -> None:
    """Raise MagicError for a word that can be no path of the object store."""
    for path in paths:
        if "/" in path and not path.startswith(LOCAL_BEGINNINGS):
            _check_is_no_pattern(context, path)
            continue
        check_not_local(path)
        if hint := context.variable_hint(path):
            raise MagicError(f"-i: {hint}")
        raise MagicError(
            f"-i: {path!r} is no path such as bucket/folder/a.fna or bucket/folder/. The program's own arguments go after --"
        )


def _check_is_no_pattern(context: Context, path: str) -> None:
    """Raise MagicError for a pattern that is no object.

    The service would name first what follows from it: that there are more containers than the one file that it stands for.
    """
    client = context.client
    if not is_pattern(path) or path.endswith("/") or not client.supports("GET", "/files"):
        return
    try:
        if find_file(client, path) is not None:
            return
        hint = pattern_hint(client, path) or local_hint(path)
    except CTSClientError:
        return  # The service says what is wrong with it.
    raise MagicError(
        f"-i: there is no file {path}; {hint or f'patterns go with -g: -g {shlex.quote(path)}'}"
    )


def expand_named(context: Context, named: object) -> object:
    """Return the input files of a cell, with every folder replaced by the files below it. Raises MagicError."""
    files = [named] if isinstance(named, str) else named
    if not isinstance(files, list):
        return named  # The service says what is wrong with it.
    expanded: list[Any] = []
    for file in files:
        is_folder = isinstance(file, str) and file.endswith("/")
        expanded += list_below(context, file) if is_folder else [file]
    return in_one_form(expanded)


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        return parse_tsv(path.read_bytes())
    except FileNotFoundError:
        raise no_local_file(str(path)) from None
    except OSError as e:
        raise MagicError(f"The table {path} cannot be read: {e}") from None
    except UnicodeDecodeError:
        raise MagicError(
            f"The table {path} is no UTF-8 text: save it as UTF-8, which Excel calls 'Unicode Text' or 'CSV UTF-8'"
        ) from None


def read_tsv(path: Path) -> list[InputFile]:
    """Read input files from a table of paths, optional data ids and optional checksums.

    A first line that begins with ``file`` names the columns. Raises MagicError.
    """
    rows = _read_rows(path)
    columns: Sequence[str] = _TSV_COLUMNS
    if rows and rows[0][1][0] == _TSV_COLUMNS[0]:
        columns = rows.pop(0)[1]
    for column in columns:
        if column not in _TSV_COLUMNS:
            raise MagicError(f"{path}: {unknown('column', column, _TSV_COLUMNS)}")
    files: list[InputFile] = []
    for number, row in rows:
        if len(row) > len(columns):
            raise MagicError(
                f"Line {number} of {path} has {len(row)} columns, and there may be {len(columns)}: path, data "
                "id, CRC64/NVME"
            )
        entry = {column: text for column, text in zip(columns, row, strict=False) if text}
        if "/" not in object_path(entry.get("file", "")):
            raise MagicError(
                f"Line {number} of {path} has no path such as bucket/folder/a.fna in its column file, but "
                f"{entry.get('file', '')!r}. The first line of a --tsv table may be a header, of the names file, data_id and crc64nvme"
            )
        files.append(entry["file"] if set(entry) == {"file"} else entry)
    if not files:
        raise MagicError(f"The table {path} names no file")
    return files


def collect_inputs(context: Context, sources: Sequence[Source]) -> list[InputFile]:
    """Return all input files that the options name, in their order. Raises MagicError."""
    patterns = [s.values[0] for s in sources if s.kind is SourceKind.GLOB]
    filters = [pattern for pattern in patterns if "/" not in pattern]
    if len(filters) > 1:
        raise MagicError("Give at most one pattern without '/'; it picks from the folders of -i")
    if filters and not any(s.kind is SourceKind.PATHS for s in sources):
        raise MagicError(
            f"The pattern {filters[0]!r} needs a folder to pick from: -i bucket/folder/ -g "
            f"'{filters[0]}', or -g 'bucket/folder/{filters[0]}'"
        )
    files: list[InputFile] = []
    for source in sources:
        match source.kind:
            case SourceKind.PATHS:
                _check_paths(context, source.values)
                files += expand_paths(context, source.values, filters[0] if filters else None)
            case SourceKind.TSV:
                files += read_tsv(local_path(source.values[0]))
            case SourceKind.GLOB if source.values[0] not in filters:
                files += expand_glob(context, source.values[0])
    return in_one_form(files)


def pattern_words(sources: Sequence[Source]) -> list[str] | None:
    """Return the options as words, if they are patterns or folders; None if they name files, or read a table."""
    words = [word for source in sources for word in (source.kind.value, *source.values)]
    kinds = {source.kind for source in sources}
    is_pattern = SourceKind.GLOB in kinds or any(word.endswith("/") for word in words)
    return words if is_pattern and SourceKind.TSV not in kinds else None


def in_one_form(files: Sequence[InputFile]) -> list[InputFile]:
    """Return all files as paths, or all as objects if one has a data id or checksum: the contract does not mix them."""
    if any(isinstance(file, dict) for file in files):
        return [file if isinstance(file, dict) else {"file": file} for file in files]
    return list(files)
