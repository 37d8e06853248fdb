"""The commands ``%cts files``, ``put`` and ``get``."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from cts_jupyter import formatting
from cts_jupyter.client.api.files import checksum_of
from cts_jupyter.client.models import StoredObject
from cts_jupyter.client.transport import CTSClientError, CTSConnectionError, CTSRequestError
from cts_jupyter.notebook.columns import MISSING, file_table
from cts_jupyter.notebook.magics.command import Command, CommandParser, folder
from cts_jupyter.notebook.magics.context import Context, is_path
from cts_jupyter.notebook.magics.errors import MagicError
from cts_jupyter.notebook.magics.globs import matches
from cts_jupyter.notebook.magics.hints import format_error
from cts_jupyter.notebook.magics.inputs import expand_paths
from cts_jupyter.notebook.magics.outputs import (
    add_family,
    as_stored,
    check_family,
    find_outputs,
    local_names,
)
from cts_jupyter.notebook.table import Table

_MAX_NAMED = 5
_NO_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_ABOUT_A_PATH = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


# Listing.


def _configure_files(parser: CommandParser) -> None:
    add = parser.add_argument
    add(
        "place",
        metavar="PREFIX|JOB",
        help="a folder or the beginning of paths, or a job for its outputs",
    )
    add("-g", "--glob", metavar="GLOB", help="only names like this, such as '*.fna.gz'")
    add("--missing", action="store_true", help="only files without a CRC64/NVME")
    add_family(parser)
    parser.add_result_name()


def _run_files(context: Context, options: argparse.Namespace) -> Table[StoredObject]:
    notes: list[str] = []
    check_family([options.place], family=options.family)
    if is_path(options.place):
        stored = list(context.client.iter_files(options.place))
        where = f"below {options.place}"
    else:
        job = context.job(options.place)
        outputs = job.all_outputs() if options.family else job.outputs
        stored, gone = as_stored(context, outputs)
        where = f"of job {formatting.short_id(job.id)}"
        notes += [f"Not there any more: {path}" for path in gone]
    if options.glob:
        stored = [file for file in stored if _matches(file.path, options.glob)]
    if options.missing:
        stored = [file for file in stored if file.checksum == MISSING]
        if stored:
            notes.append("%cts checksum PATH --write computes and stores a checksum")
    which = " without a checksum" if options.missing else ""
    like = f" like {options.glob}" if options.glob else ""
    return file_table(stored, empty=f"No files{which}{like} {where}", notes=notes)


def _matches(path: str, pattern: str) -> bool:
    try:
        return matches(path, pattern)
    except ValueError as e:
        raise MagicError(str(e)) from None


# Upload and download.


def _configure_put(parser: CommandParser) -> None:
    add = parser.add_argument
    add("local", metavar="LOCAL", nargs="+", help="files, patterns, or folders with all below them")
    add("folder", metavar="DIR", type=folder, help="where to put them: bucket/folder/")
    add("--overwrite", action="store_true", help="replace files that differ")
    parser.add_result_name()


def _local_files(words_: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """Yield local files, and the path of each below the target folder."""
    for word in words_:
        named = Path(word).expanduser()
        paths = [named] if named.exists() else _expand(named)
        if not paths:
            raise MagicError(f"There is no local file {word}")
        for path in paths:
            if path.is_dir():
                below = (p for p in sorted(path.rglob("*")) if p.is_file())
                base = path.resolve().name
                yield from ((p, f"{base}/{p.relative_to(path).as_posix()}") for p in below)
            elif path.is_file():
                yield path, path.name
            else:
                # A device or a pipe may have no end.
                raise MagicError(f"{path} is not a regular file")


def _expand(pattern: Path) -> list[Path]:
    """Return local files that match; a line of a notebook has no shell that expands patterns."""
    root = Path(pattern.anchor)
    return sorted(root.glob(str(pattern.relative_to(root))))


def _local_checksum(path: Path) -> str:
    with path.open("rb") as file:
        return checksum_of(file)


def name_some(paths: Sequence[object]) -> str:
    """Join the first few of many names, and the number of the others."""
    more = f" and {len(paths) - _MAX_NAMED} more" if len(paths) > _MAX_NAMED else ""
    return ", ".join(str(path) for path in paths[:_MAX_NAMED]) + more


def _run_put(context: Context, options: argparse.Namespace) -> Table[StoredObject]:
    targets: dict[str, Path] = {}
    for path, name in _local_files(options.local):
        target = f"{options.folder}{name}"
        if target in targets:
            raise MagicError(
                f"{targets[target]} and {path} would both become {target}: put them one by one"
            )
        targets[target] = path
    there = _stored(context, options.folder)
    try:
        same = {
            t for t, p in targets.items() if t in there and there[t].crc64nvme == _local_checksum(p)
        }
        differ = [t for t in targets if t in there and t not in same]
        if differ and not options.overwrite:
            raise MagicError(
                f"Other files are stored already as {name_some(differ)}: add --overwrite to replace them"
            )
        stored = [
            there[target]
            if target in same
            else context.client.upload(path, target, overwrite=options.overwrite)
            for target, path in targets.items()
        ]
    except OSError as e:
        raise MagicError(f"A local file cannot be read: {e}") from None
    notes = [f"{formatting.plural(len(same), 'file')} stored before, unchanged"] if same else []
    return file_table(stored, empty="No files to put", notes=notes)


def _stored(context: Context, prefix: str) -> dict[str, StoredObject]:
    try:
        return {file.path: file for file in context.client.iter_files(prefix)}
    except CTSRequestError as e:
        # The first upload creates the bucket.
        if e.status != HTTPStatus.NOT_FOUND:
            raise
        return {}


def _configure_get(parser: CommandParser) -> None:
    add = parser.add_argument
    add("places", metavar="PATH|JOB", nargs="+", help="files, folders, or a job for its outputs")
    add("local", metavar="LOCALDIR", type=Path, help="where to put them on this machine")
    add("--overwrite", action="store_true", help="replace local files that differ")
    add_family(parser)
    parser.add_result_name()


def _remote_files(
    context: Context, places: Iterable[str], *, family: bool
) -> Iterator[tuple[str, str]]:
    """Yield stored files, and the path of each below the local folder."""
    for place in places:
        if not is_path(place):
            outputs = find_outputs(context.job(place), family=family)
            yield from local_names(context, outputs, family=family)
        elif place.endswith("/"):
            yield from (
                (path, path.removeprefix(place)) for path in expand_paths(context.client, [place])
            )
        else:
            yield place, place.rpartition("/")[2]


def _run_get(context: Context, options: argparse.Namespace) -> list[Path]:
    root = options.local.expanduser()
    sources: dict[Path, str] = {}
    check_family(options.places, family=options.family)
    for path, name in _remote_files(context, options.places, family=options.family):
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute():
            raise MagicError(f"{path} has no place below {root}")
        target = root.joinpath(*parts)
        if target in sources:
            raise MagicError(
                f"{sources[target]} and {path} would both become {target}: get them one by one"
            )
        sources[target] = path
    try:
        return _download(context, sources, overwrite=options.overwrite)
    except OSError as e:
        raise MagicError(f"A local file cannot be written: {e}") from None


def _download(context: Context, sources: dict[Path, str], *, overwrite: bool) -> list[Path]:
    # Unlike Path.exists, this takes a name that the disk refuses as one that is not there.
    existing = [target for target in sources if os.path.exists(target)]  # noqa: PTH110
    same = {target for target in existing if _is_same(context, target, sources[target])}
    differ = [target for target in existing if target not in same]
    if differ and not overwrite:
        raise MagicError(
            f"Other files are there already: {name_some(differ)}; add --overwrite to replace them"
        )
    unchecked, failed = [], []
    for target, path in sources.items():
        if target in same:
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if context.client.download(path, target) is None:
                unchecked.append(path)
        except (OSError, CTSClientError) as e:
            if not _is_about_one_file(e):
                raise
            failed.append(f"{path} ({_format_failure(e)})")
    context.add_note(
        f"{formatting.plural(len(sources) - len(same) - len(failed), 'file')} downloaded"
        + (f", {len(same)} there already" if same else "")
    )
    if unchecked:
        context.add_note(f"Not verified, as no checksum is stored: {name_some(unchecked)}")
    if failed:
        raise MagicError(
            f"{len(failed)} of {formatting.plural(len(sources), 'file')} not downloaded: {name_some(failed)}"
        )
    return list(sources)


def _is_about_one_file(error: OSError | CTSClientError) -> bool:
    """Return whether other files may do although one failed so: disk, service and login are there."""
    match error:
        case OSError():
            return error.errno not in _NO_DISK
        case CTSRequestError():
            return error.status in _ABOUT_A_PATH
        case _:
            return not isinstance(error, CTSConnectionError)


def _format_failure(error: OSError | CTSClientError) -> str:
    """Return why a file failed, in a few words."""
    return error.strerror or str(error) if isinstance(error, OSError) else format_error(error)


def _is_same(context: Context, target: Path, path: str) -> bool:
    if not target.is_file():
        return False
    stored = _stored(context, path).get(path)
    return stored is not None and stored.crc64nvme == _local_checksum(target)


COMMANDS = (
    Command("files", "list stored files with sizes and checksums", _configure_files, _run_files),
    Command(
        "put", "store local files, with checksums", _configure_put, _run_put,
        details="Files that are stored already, byte for byte, are left as they are.",
    ),
    Command(
        "get", "fetch stored files, verified by their checksums", _configure_get, _run_get,
        details="Local files that are the same already are left as they are.",
    ),
)  # fmt: skip
