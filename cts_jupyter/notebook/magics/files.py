"""The commands ``%cts files``, ``put`` and ``get``."""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from cts_core.object_paths import check_path
from cts_jupyter import formatting
from cts_jupyter.client.api.files import checksum_of
from cts_jupyter.client.lookups import find_files
from cts_jupyter.client.models import AllowedPath, StoredObject
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook.columns import MISSING, file_table, root_table
from cts_jupyter.notebook.each import Stop, try_each
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.braces import matches
from cts_jupyter.notebook.magics.command import Command, CommandParser, folder
from cts_jupyter.notebook.magics.context import Context, is_path
from cts_jupyter.notebook.magics.hints import near_hint, pattern_hint
from cts_jupyter.notebook.magics.inputs import expand_paths
from cts_jupyter.notebook.magics.local_files import (
    LocalFiles,
    find_local_files,
    local_path,
    show_path,
)
from cts_jupyter.notebook.magics.outputs import (
    add_family,
    as_stored,
    check_family,
    family_notes,
    find_outputs,
    has_family,
    local_names,
)
from cts_jupyter.notebook.path_list import PathList
from cts_jupyter.notebook.table import Table
from cts_jupyter.notebook.typed_paths import object_path

# Listing.

_ROOTS = "/"


def _configure_files(parser: CommandParser) -> None:
    add = parser.add_argument
    add(
        "place",
        metavar="PREFIX|JOB",
        nargs="?",
        default=_ROOTS,
        type=object_path,
        help="a folder or the beginning of paths, or a job for its outputs; the folders in which to look if not given",
    )
    add("-g", "--glob", metavar="GLOB", help="only names like this, such as '*.fna.gz'")
    add("--missing", action="store_true", help="only files without a CRC64/NVME")
    add_family(parser)
    parser.add_result_name()


def _run_files(
    context: Context, options: argparse.Namespace
) -> Table[StoredObject] | Table[AllowedPath]:
    if options.place == _ROOTS:
        return root_table(context.client.roots())
    notes: list[str] = []
    check_family([options.place], family=options.family)
    if is_path(options.place):
        stored = list(context.files_below(options.place))
        where = f"below {options.place}"
    else:
        job = context.job(options.place)
        outputs = job.all_outputs() if options.family else job.outputs
        if options.family:
            notes += family_notes(context, job, outputs)
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
    stored = sorted(stored, key=lambda file: formatting.natural_key(file.path))
    if not stored and is_path(options.place):
        client, place = context.client, options.place
        hint = pattern_hint(client, place) or near_hint(client, place)
        notes += [hint] if hint else []
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


def _run_put(context: Context, options: argparse.Namespace) -> Table[StoredObject]:
    found = find_local_files(options.local)
    targets = _targets(found, options.folder)
    if found.empty:
        context.add_note(
            f"Not stored, as an object store has no empty folders: {formatting.name_some(found.empty)}"
        )
    there = _stored(context, options.folder)
    here = _checksums({target: path for target, path in targets.items() if target in there})
    same = {target for target, crc in here.items() if crc == there[target].crc64nvme}
    differ = [target for target in here if target not in same]
    if differ and not options.overwrite:
        raise MagicError(
            f"Other files are stored already as {formatting.name_some(differ)}: add --overwrite to replace them"
        )

    def upload(target: str, stop: Stop) -> StoredObject:
        return context.client.upload(
            targets[target], target, overwrite=options.overwrite, on_piece=stop.check
        )

    uploads = try_each([t for t in targets if t not in same], upload, doing="put")
    stored = {target: there[target] for target in same} | uploads.done
    notes = [f"{formatting.plural(len(same), 'file')} stored before, unchanged"] if same else []
    table = context.bind(
        file_table(
            [stored[t] for t in targets if t in stored], empty="No files to put", notes=notes
        )
    )
    if uploads.failed:
        raise MagicError(
            f"{len(uploads.failed)} of {formatting.plural(len(targets), 'file')} not stored: "
            + uploads.name_failures(context.describe, lambda target: show_path(targets[target]))
        )
    return table


def _checksums(files: Mapping[str, Path]) -> Mapping[str, str]:
    """Return the checksums of local files. Raises MagicError for one that cannot be read."""

    def compute(name: str, stop: Stop) -> str:
        stop.check()
        with files[name].open("rb") as file:
            return checksum_of(file)

    checksums = try_each(list(files), compute, doing="compare")
    for name, error in checksums.failed.items():
        raise MagicError(f"{show_path(files[name])} cannot be read: {error}")
    return checksums.done


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
    add(
        "places",
        metavar="PATH|JOB",
        nargs="+",
        type=object_path,
        help="files, folders, or a job for its outputs",
    )
    add("local", metavar="LOCALDIR", type=local_path, help="where to put them on this machine")
    add("--overwrite", action="store_true", help="replace local files that differ")
    add_family(parser)
    parser.add_result_name()


@dataclass(frozen=True)
class _Remote:
    """A stored file, and its path below the local folder."""

    path: str
    name: str
    job: str = ""
    """The short id of the job whose output it is; empty for a file that was named by its path."""
    job_id: str = ""


def _remote_files(context: Context, places: Iterable[str], *, family: bool) -> Iterator[_Remote]:
    for place in places:
        if not is_path(place):
            job = context.job(place)
            outputs = find_outputs(job, family=family)
            for note in family_notes(context, job, outputs) if family else ():
                context.add_note(note)
            for path, name in local_names(context, outputs, family=family):
                yield _Remote(path, name, formatting.short_id(job.id), job.id)
        elif place.endswith("/"):
            for path in sorted(expand_paths(context, [place]), key=formatting.natural_key):
                yield _Remote(path, path.removeprefix(place))
        else:
            yield _Remote(place, place.rpartition("/")[2])


def _apart(context: Context, files: Sequence[_Remote]) -> Sequence[_Remote]:
    """Return the files with a folder for each job if several jobs have outputs of one name."""
    jobs_of: dict[str, set[str]] = defaultdict(set)
    for file in files:
        jobs_of[file.name].add(file.job)
    if all(len(jobs - {""}) <= 1 for jobs in jobs_of.values()):
        return files
    context.add_note(
        "The jobs have outputs of the same names: each job's are in a folder with its id"
    )
    return [replace(file, name=f"{file.job}/{file.name}") if file.job else file for file in files]


def _run_get(context: Context, options: argparse.Namespace) -> PathList:
    root = options.local
    sources: dict[Path, str] = {}
    check_family(options.places, family=options.family)
    remote = list(_remote_files(context, options.places, family=options.family))
    for path, name in ((file.path, file.name) for file in _apart(context, remote)):
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute():
            raise MagicError(f"{path} has no place below {root}")
        target = root.joinpath(*parts)
        if sources.get(target, path) != path:
            raise MagicError(
                f"{sources[target]} and {path} would both become {target}: get them one by one"
            )
        sources[target] = path
    try:
        return _download(
            context,
            sources,
            overwrite=options.overwrite,
            way_out=partial(_way_out, context, remote, root, family=options.family),
        )
    except OSError as e:
        raise MagicError(f"A local file cannot be written: {e}") from None


def _way_out(context: Context, files: Sequence[_Remote], root: Path, *, family: bool) -> str:
    """Return what to do about other files that are in the place of these."""
    jobs = {file.job_id: file.job for file in files if file.job_id}
    again = next((jobs[job_id] for job_id in jobs if has_family(context, job_id)), None)
    if again is None or family:
        return "add --overwrite to replace them"
    # The containers of a resubmission are numbered from 0 again.
    return (
        f"they may be outputs of other inputs, for job {again} has resubmissions or is one. %cts get {again} --family "
        f"{show_path(root)}/ has those of all of them, a folder a job; %cts get {again} {show_path(root / again)}/ has its own"
    )


def _download(
    context: Context, sources: dict[Path, str], *, overwrite: bool, way_out: Callable[[], str]
) -> PathList:
    # Unlike Path.exists, this takes a name that the disk refuses as one that is not there.
    existing = {target: sources[target] for target in sources if os.path.exists(target)}  # noqa: PTH110
    same = _same(context, existing)
    differ = [target for target in existing if target not in same]
    if differ and not overwrite:
        raise MagicError(
            f"Other files are there already: {formatting.name_some(differ)}; {way_out()}"
        )

    def download(target: Path, stop: Stop) -> str | None:
        target.parent.mkdir(parents=True, exist_ok=True)
        return context.client.download(sources[target], target, on_piece=stop.check)

    downloads = try_each([t for t in sources if t not in same], download, doing="get")
    context.add_note(
        f"{formatting.plural(len(downloads.done), 'file')} downloaded"
        + (f", {len(same):,} there already" if same else "")
    )
    unchecked = [sources[target] for target, crc in downloads.done.items() if crc is None]
    if unchecked:
        context.add_note(
            f"Not verified, as no checksum is stored: {formatting.name_some(unchecked)}"
        )
    paths = context.bind(PathList(t for t in sources if t in same or t in downloads.done))
    if downloads.failed:
        raise MagicError(
            f"{len(downloads.failed)} of {formatting.plural(len(sources), 'file')} not downloaded: "
            + downloads.name_failures(context.describe, lambda target: sources[target])
        )
    return paths


def _same(context: Context, existing: Mapping[Path, str]) -> set[Path]:
    """Return the local files that are, byte for byte, what is stored."""
    files = {target: path for target, path in existing.items() if target.is_file()}
    stored = _find(context, set(files.values()))

    def is_same(target: Path, stop: Stop) -> bool:
        stop.check()
        with target.open("rb") as file:
            return stored[files[target]].crc64nvme == checksum_of(file)

    there = [target for target, path in files.items() if path in stored]
    compared = try_each(there, is_same, doing="compare")
    for error in compared.failed.values():
        raise error
    return {target for target, is_it in compared.done.items() if is_it}


def _find(context: Context, paths: Iterable[str]) -> dict[str, StoredObject]:
    """Return the objects at these paths, as far as there are any."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folders[f"{path.rpartition('/')[0]}/"].append(path)

    def find(folder: str, stop: Stop) -> dict[str, StoredObject]:
        stop.check()
        return find_files(context.client, folder, folders[folder])

    looked = try_each(list(folders), find, doing="look up")
    for error in looked.failed.values():
        raise error
    return {path: file for there in looked.done.values() for path, file in there.items()}


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
