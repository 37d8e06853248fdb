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
from cts_jupyter.notebook.magics.each import try_each
from cts_jupyter.notebook.magics.errors import MagicError
from cts_jupyter.notebook.magics.inputs import expand_paths
from cts_jupyter.notebook.magics.outputs import add_family, check_family, find_outputs
from cts_jupyter.notebook.table import Table


def _configure_checksum(parser: CommandParser) -> None:
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="*", help="files, or folders for all below them")
    add("--write", action="store_true", help="compute and store checksums where there are none")
    parser.add_result_name()


def _run_checksum(context: Context, options: argparse.Namespace) -> Table[StoredObject]:
    stored = _stored_objects(context, options.paths)
    written = 0
    if options.write:
        missing = {file.path: file for file in stored if file.checksum == MISSING}
        done: dict[str, StoredObject] = {}

        def write(path: str) -> None:
            done[path] = context.client.write_checksum(path, etag=missing[path].etag)

        failed = try_each(missing, write)
        if failed:
            named = formatting.name_some([f"{path} ({reason})" for path, reason in failed.items()])
            raise MagicError(
                f"{len(failed)} of {formatting.plural(len(missing), 'checksum')} not stored: {named}"
            )
        written = len(done)
        stored = [done.get(file.path, file) for file in stored]
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
            raise MagicError(f"The path '{path}' was not found; %cts files lists what is there")
        stored.append(exact)
    return stored


def _configure_verify(parser: CommandParser) -> None:
    add = parser.add_argument
    add("places", metavar="PATH|JOB", nargs="+", help="files, folders, or a job for its outputs")
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
        return Verdict(
            file.file, file.crc64nvme, None, "GONE: there is no such file any more", is_good=False
        )
    recorded = file.crc64nvme or stored.crc64nvme
    if stored.checksum == STORED:
        return Verdict(file.file, recorded, stored.crc64nvme, "good: the bytes match", is_good=True)
    words = {MISSING: "no checksum to compare with", MISMATCH: "CHANGED: the bytes do not match"}
    return Verdict(
        file.file,
        recorded,
        stored.crc64nvme,
        words.get(stored.checksum, stored.checksum),
        is_good=False,
    )


class VerifyError(MagicError):
    """Files have changed or are missing; ``verdicts`` has the result of each file that was verified."""

    def __init__(self, message: str, verdicts: Table[Verdict]) -> None:
        super().__init__(message)
        self.verdicts = verdicts


def _run_verify(context: Context, options: argparse.Namespace) -> Table[Verdict]:
    files = _files_to_verify(context, options.places, family=options.family)
    verdicts = [_verify(context, file) for file in files]
    table = verdict_table(verdicts)
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
