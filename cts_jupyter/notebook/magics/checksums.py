"""The commands ``%cts checksum`` and ``verify``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus

from cts_jupyter import formatting
from cts_jupyter.client.lookups import find_file
from cts_jupyter.client.models import S3File, StoredObject
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook.columns import (
    MISMATCH,
    MISSING,
    STORED,
    Verdict,
    file_table,
    verdict_table,
)
from cts_jupyter.notebook.magics.command import Command, CommandParser
from cts_jupyter.notebook.magics.context import Context, is_path
from cts_jupyter.notebook.magics.each import Stop, try_each
from cts_jupyter.notebook.magics.errors import MagicError
from cts_jupyter.notebook.magics.hints import folder_hint
from cts_jupyter.notebook.magics.inputs import expand_paths
from cts_jupyter.notebook.magics.outputs import add_family, check_family, find_outputs
from cts_jupyter.notebook.table import Table
from cts_jupyter.notebook.typed_paths import object_path


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
                + writes.name_failures(context)
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
            hint = folder_hint(context.client, path) or "%cts files FOLDER/ lists what is there"
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
        if is_path(place):
            yield from (S3File(file=path) for path in expand_paths(context, [place]))
        else:
            yield from find_outputs(context.job(place), family=family)


def _verify(context: Context, file: S3File) -> Verdict:
    try:
        stored = context.client.verify(file.file, crc64nvme=file.crc64nvme)
    except CTSRequestError as e:
        if e.status != HTTPStatus.NOT_FOUND:
            raise
        hint = folder_hint(context.client, file.file)
        words = f"GONE: there is no such file{f'; {hint}' if hint else ' any more'}"
        return Verdict(file.file, file.crc64nvme, None, words, is_good=False)
    recorded = file.crc64nvme or stored.crc64nvme
    if stored.checksum == STORED:
        return Verdict(file.file, recorded, stored.crc64nvme, "good: the bytes match", is_good=True)
    wrong = {MISSING: "no checksum to compare with", MISMATCH: "CHANGED: the bytes do not match"}
    return Verdict(
        file.file,
        recorded,
        stored.crc64nvme,
        wrong.get(stored.checksum, stored.checksum),
        is_good=False,
    )


class VerifyError(MagicError):
    """Files have changed or are missing; ``verdicts`` has the result of each file that was verified."""

    def __init__(self, message: str, verdicts: Table[Verdict]) -> None:
        super().__init__(message)
        self.verdicts = verdicts


def _run_verify(context: Context, options: argparse.Namespace) -> Table[Verdict]:
    files = list(_files_to_verify(context, options.places, family=options.family))

    def verify(number: int, stop: Stop) -> Verdict:
        stop.check()
        return _verify(context, files[number])

    verified = try_each(range(len(files)), verify, doing="verify")
    for error in verified.failed.values():
        raise error
    verdicts = list(verified.done.values())
    table = context.bind(verdict_table(verdicts))
    bad = [verdict for verdict in verdicts if not verdict.is_good]
    if bad:
        named = formatting.name_some([f"{verdict.path} ({verdict.verdict})" for verdict in bad])
        raise VerifyError(
            f"{len(bad)} of {formatting.plural(len(verdicts), 'file')} not verified: {named}", table
        )
    return table


COMMANDS = (
    Command(
        "checksum", "show stored checksums, and compute missing ones", _configure_checksum, _run_checksum
    ),
    Command(
        "verify", "read files whole, compare them with their checksums, and name what changed",
        _configure_verify, _run_verify,
    ),
)  # fmt: skip
