"""The commands ``%cts checksum`` and ``verify``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence

from cts_jupyter import formatting
from cts_jupyter.client.lookups import find_file
from cts_jupyter.client.models import S3File, StoredObject
from cts_jupyter.notebook.columns import MISSING, Verdict, file_table
from cts_jupyter.notebook.each import Stop, try_each
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.command import Command, CommandParser
from cts_jupyter.notebook.magics.context import Context, is_path
from cts_jupyter.notebook.magics.hints import path_hint, pattern_hint
from cts_jupyter.notebook.magics.inputs import expand_paths
from cts_jupyter.notebook.magics.local_files import LOCAL_BEGINNINGS, is_local
from cts_jupyter.notebook.magics.outputs import add_family, check_family, find_outputs
from cts_jupyter.notebook.table import Table
from cts_jupyter.notebook.typed_paths import object_path
from cts_jupyter.notebook.verification import VerifyError, verify_files


def _configure_checksum(parser: CommandParser) -> None:
    add = parser.add_argument
    add(
        "paths",
        metavar="PATH",
        nargs="*",
        type=object_path,
        help="files, or folders for all below them",
    )
    add("--write", action="store_true", help="compute and store checksums where there are none")
    parser.add_result_name()


def _run_checksum(context: Context, options: argparse.Namespace) -> Table[StoredObject]:
    stored = _stored_objects(context, options.paths)
    written = 0
    if options.write:
        missing = {file.path: file for file in stored if file.checksum == MISSING}

        def write(path: str, stop: Stop) -> StoredObject:
            stop.check()
            return context.client.write_checksum(path, etag=missing[path].etag)

        writes = try_each(list(missing), write, doing="checksum")
        written = len(writes.done)
        stored = [writes.done.get(file.path, file) for file in stored]
        if writes.failed:
            context.bind(_table(stored, written))
            raise MagicError(
                f"{len(writes.failed)} of {formatting.plural(len(missing), 'checksum')} not stored: "
                + writes.name_failures(context.describe)
            )
    return _table(stored, written)


def _table(stored: Sequence[StoredObject], written: int) -> Table[StoredObject]:
    notes = [f"{formatting.plural(written, 'checksum')} computed and stored"] if written else []
    without = sum(file.checksum == MISSING for file in stored)
    if without:
        notes.append(
            f"{formatting.plural(without, 'file')} without a checksum; --write computes and stores it"
        )
    return file_table(stored, empty="No files given: nothing to do", notes=notes)


def _stored_objects(context: Context, paths: Iterable[str]) -> list[StoredObject]:
    """Return the objects at these paths and below folders. Raises MagicError for a path without an object."""
    stored: list[StoredObject] = []
    for path in paths:
        if path.endswith("/"):
            stored += context.files_below(path)
            continue
        exact = find_file(context.client, path)
        if exact is None:
            hint = path_hint(context.client, path) or "%cts files FOLDER/ lists what is there"
            raise MagicError(f"The path '{path}' was not found; {hint}")
        stored.append(exact)
    return stored


def _configure_verify(parser: CommandParser) -> None:
    add = parser.add_argument
    add(
        "places",
        metavar="PATH|JOB",
        nargs="+",
        type=object_path,
        help="files, folders, or a job for its outputs",
    )
    add_family(parser)
    parser.add_result_name()


def _files_to_verify(context: Context, places: Sequence[str], *, family: bool) -> Iterator[S3File]:
    check_family(places, family=family)
    for place in places:
        _check_stored(context, place)
        if is_path(place):
            if hint := pattern_hint(context.client, place):
                raise MagicError(f"There is no file {place}: {hint}")
            yield from (S3File(file=path) for path in expand_paths(context, [place]))
        else:
            yield from find_outputs(context.job(place), family=family)


def _check_stored(context: Context, place: str) -> None:
    """Raise MagicError for what is on this machine alone: what was read whole is what is stored."""
    if not is_local(place) or _is_stored(context, place):
        return
    raise MagicError(
        f"{place} is on this machine, and verify reads what is stored. %cts get PATH|JOB LOCALDIR compares the files in LOCALDIR "
        "with what is stored, by their checksums, and says how many are the same"
    )


def _is_stored(context: Context, place: str) -> bool:
    if place.startswith(LOCAL_BEGINNINGS):
        return False
    if is_path(place):
        return next(context.files_below(place), None) is not None
    try:
        context.job(place)
    except MagicError:
        return False
    return True


def _run_verify(context: Context, options: argparse.Namespace) -> Table[Verdict]:
    files = list(_files_to_verify(context, options.places, family=options.family))
    try:
        return context.bind(verify_files(context.client, files))
    except VerifyError as e:
        context.bind(e.verdicts)
        raise


COMMANDS = (
    Command(
        "checksum", "show stored checksums, and compute missing ones", _configure_checksum, _run_checksum
    ),
    Command(
        "verify", "read files whole, compare them with their checksums, and name what changed",
        _configure_verify, _run_verify,
    ),
)  # fmt: skip
