"""The commands ``%cts files``, ``put`` and ``get``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from cts_core.globs import matches
from cts_core.object_paths import check_path
from cts_jupyter import formatting
from cts_jupyter.client.api.files import checksum_of
from cts_jupyter.client.lookups import find_file
from cts_jupyter.client.models import StoredObject
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook.columns import MISSING, file_table
from cts_jupyter.notebook.magics.command import Command, CommandParser, folder
from cts_jupyter.notebook.magics.context import Context, is_path
from cts_jupyter.notebook.magics.each import try_each
from cts_jupyter.notebook.magics.errors import MagicError
from cts_jupyter.notebook.magics.inputs import expand_paths
from cts_jupyter.notebook.magics.local_files import LocalFiles, find_local_files, show_path
from cts_jupyter.notebook.magics.outputs import (
    add_family,
    as_stored,
    check_family,
    find_outputs,
    local_names,
)
from cts_jupyter.notebook.table import Table

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
        stored = list(context.files_below(options.place))
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


def _local_checksum(path: Path) -> str:
    with path.open("rb") as file:
        return checksum_of(file)


def _run_put(context: Context, options: argparse.Namespace) -> Table[StoredObject]:
    found = find_local_files(options.local)
    targets = _targets(found, options.folder)
    if found.empty:
        context.add_note(
            f"Not stored, as an object store has no empty folders: {formatting.name_some(found.empty)}"
        )
    there = _stored(context, options.folder)
    try:
        same = {
            t for t, p in targets.items() if t in there and there[t].crc64nvme == _local_checksum(p)
        }
    except OSError as e:
        raise MagicError(f"A local file cannot be read: {e}") from None
    differ = [t for t in targets if t in there and t not in same]
    if differ and not options.overwrite:
        raise MagicError(
            f"Other files are stored already as {formatting.name_some(differ)}: add --overwrite to replace them"
        )
    stored = {target: there[target] for target in same}

    def upload(target: str) -> None:
        stored[target] = context.client.upload(targets[target], target, overwrite=options.overwrite)

    failed = try_each([target for target in targets if target not in same], upload)
    if failed:
        named = formatting.name_some([f"{targets[t]} ({reason})" for t, reason in failed.items()])
        raise MagicError(
            f"{len(failed)} of {formatting.plural(len(targets), 'file')} not stored: {named}"
        )
    notes = [f"{formatting.plural(len(same), 'file')} stored before, unchanged"] if same else []
    return file_table([stored[t] for t in targets], empty="No files to put", notes=notes)


def _targets(found: LocalFiles, folder: str) -> dict[str, Path]:
    """Return the local file of each object. Raises MagicError if something cannot be one, or two would be the same."""
    targets: dict[str, Path] = {}
    refused = list(found.refused)
    for path, name in found.files:
        target = f"{folder}{name}"
        if target in targets:
            raise MagicError(
                f"{targets[target]} and {path} would both become {target}: put them one by one"
            )
        targets[target] = path
        try:
            check_path(target)
        except ValueError as e:
            refused.append(f"{show_path(path)} ({e})")
    if refused:
        raise MagicError(
            f"Nothing was stored, as this cannot be: {formatting.name_some(refused)}. Move it away, or name the files "
            "themselves, such as by a pattern"
        )
    return targets


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
            yield from ((path, path.removeprefix(place)) for path in expand_paths(context, [place]))
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
            f"Other files are there already: {formatting.name_some(differ)}; add --overwrite to replace them"
        )
    unchecked = []

    def download(target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if context.client.download(sources[target], target) is None:
            unchecked.append(sources[target])

    failed = try_each([target for target in sources if target not in same], download)
    context.add_note(
        f"{formatting.plural(len(sources) - len(same) - len(failed), 'file')} downloaded"
        + (f", {len(same)} there already" if same else "")
    )
    if unchecked:
        context.add_note(
            f"Not verified, as no checksum is stored: {formatting.name_some(unchecked)}"
        )
    if failed:
        named = formatting.name_some([f"{sources[t]} ({reason})" for t, reason in failed.items()])
        raise MagicError(
            f"{len(failed)} of {formatting.plural(len(sources), 'file')} not downloaded: {named}"
        )
    return list(sources)


def _is_same(context: Context, target: Path, path: str) -> bool:
    if not target.is_file():
        return False
    stored = find_file(context.client, path)
    return stored is not None and stored.crc64nvme == _local_checksum(target)


COMMANDS = (
    Command("files", "list stored files with sizes and checksums", _configure_files, _run_files),
    Command(
        "put", "store local files, with checksums", _configure_put, _run_put,
        details="A folder is stored with its name, and FOLDER/ without it: only what is in it. Links are followed.\n"
        "Files that are stored already, byte for byte, are left as they are.",
    ),
    Command(
        "get", "fetch stored files, verified by their checksums", _configure_get, _run_get,
        details="Local files that are the same already are left as they are.",
    ),
)  # fmt: skip
