"""Planning: what each container of a job gets, its files, arguments, environment and manifest. Pure functions.

The rules are those of the contract (docs/reference/contract.md §3); ``tests/vectors/plan.json`` holds the plans that the deployed
service makes of 200 inputs.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cts_core.errors import IllegalParameterError
from cts_core.model.image import JobImage
from cts_core.model.job import JobInput, S3FileWithDataID
from cts_core.model.parameters import (
    InputFilesFormat,
    ManifestFileFormat,
    Parameter,
    Parameters,
    ParameterType,
    ParameterWithFlag,
)
from cts_core.mounts import Mounts, mounts_of
from cts_core.object_paths import FolderPath, ObjectPath


@dataclass(frozen=True)
class PlacedFile:
    """An input file, its path in the object store, and its path below the input mount point."""

    file: S3FileWithDataID
    path: ObjectPath
    place: str


@dataclass(frozen=True)
class Manifest:
    """A file that CTS writes into the input folder of a container."""

    name: str
    text: str


@dataclass(frozen=True)
class ContainerPlan:
    """Everything that one container gets; paths inside it are below the mount points."""

    number: int
    argv: list[str]
    environment: dict[str, str]
    mounts: Mounts
    files: list[PlacedFile]
    manifest: Manifest | None
    output_dir: FolderPath
    """The object folder of its outputs."""


MAX_WORD_BYTES = 131_071
"""Bytes of one argument, or of one variable with its name: the limit of Linux (MAX_ARG_STRLEN, without the final NUL)."""
_Item = TypeVar("_Item")


def split_evenly(items: Sequence[_Item], count: int) -> Iterator[list[_Item]]:
    """Yield ``items`` in order as ``count`` parts; the first ``len(items) % count`` have one more."""
    size, extra = divmod(len(items), count)
    start = 0
    for number in range(count):
        end = start + size + (number < extra)
        yield list(items[start:end])
        start = end


def place_file(path: str, roots: Sequence[str]) -> str:
    """Return the path of an input in the container: without the longest root above it, else its base name.

    A root counts if it is a proper prefix by whole segments; the root ``""`` keeps the whole path.
    """
    below = [root for root in roots if root == "" or path.startswith(f"{root}/")]
    if not below:
        return posixpath.basename(path)
    root = max(below, key=len)
    return path[len(root) + 1 :] if root else path


def _place_files(
    files: Sequence[S3FileWithDataID], roots: Sequence[str], mount: str
) -> list[PlacedFile]:
    # Files of different containers could share a path, but the deployed service refuses that, too.
    taken: dict[str, tuple[str, int]] = {}
    placed = []
    for index, file in enumerate(files):
        # A job may have been stored by other rules than those of today.
        path = ObjectPath(file.file, index=index)
        place = place_file(path, roots)
        if place in taken:
            other, other_index = taken[place]
            raise IllegalParameterError(
                f"Input files '{file.file}' at index {index} and '{other}' at index {other_index} "
                f"collide at path '{posixpath.join(mount, place)}'"
            )
        taken[place] = (file.file, index)
        placed.append(PlacedFile(file, path, place))
    return placed


def _check_folders(files: Sequence[PlacedFile], mount: str) -> None:
    by_place = {file.place: file.file.file for file in files}
    for file in files:
        for folder in parents(file.place):
            if folder in by_place:
                raise IllegalParameterError(
                    f"Input files '{file.file.file}' and '{by_place[folder]}' collide: "
                    f"'{posixpath.join(mount, folder)}' would be both a folder and a file"
                )


def parents(place: str) -> Iterator[str]:
    """Yield the folders above a file, from the nearest to the topmost."""
    while place := posixpath.dirname(place):
        yield place


def _manifest_name(number: int) -> str:
    # Numbered from 1, as at the deployed service.
    return f"manifest-{number + 1}"


def _make_manifest(
    parameter: Parameter, number: int, files: Sequence[PlacedFile], mount: str
) -> Manifest:
    name = _manifest_name(number)
    if any(file.place == name or file.place.startswith(f"{name}/") for file in files):
        raise IllegalParameterError(
            f"An input file of container {number} collides with its manifest at path "
            f"'{posixpath.join(mount, name)}'; give an input root that keeps its folder"
        )
    lines = [] if parameter.manifest_file_header is None else [parameter.manifest_file_header]
    if parameter.manifest_file_format is ManifestFileFormat.DATA_IDS:
        lines += [file.file.data_id or "" for file in files]
    else:
        lines += [posixpath.join(mount, file.place) for file in files]
    return Manifest(name, "\n".join(lines) + "\n")


def _with_flag(flag: str | None, values: Sequence[str]) -> list[str]:
    if flag is None:
        return list(values)
    if flag.endswith("="):
        return [flag + values[0], *values[1:]]
    return [flag, *values]


def _plan_container(
    job: JobInput, image: JobImage, number: int, files: list[PlacedFile]
) -> ContainerPlan:
    params = job.params
    mounts = mounts_of(params, image)
    mount = mounts.inputs
    _check_folders(files, mount)
    paths = [posixpath.join(mount, file.place) for file in files]
    parameter = params.manifest
    manifest = None if parameter is None else _make_manifest(parameter, number, files, mount)

    def values(parameter: Parameter) -> list[str]:
        match parameter.type:
            case ParameterType.CONTAINER_NUMBER:
                prefix = parameter.container_num_prefix or ""
                return [f"{prefix}{number}{parameter.container_num_suffix or ''}"]
            case ParameterType.MANIFEST_FILE:
                return [posixpath.join(mount, _manifest_name(number))]
            case ParameterType.INPUT_FILES:
                if parameter.input_files_format is InputFilesFormat.COMMA_SEPARATED_LIST:
                    return [",".join(paths)]
                return paths

    argv = [*image.entrypoint, *_arguments(params.args or [], values)]
    environment = {
        key: values(value)[0] if isinstance(value, Parameter) else value
        for key, value in (params.environment or {}).items()
    }
    output_dir = FolderPath(job.output_dir)
    _check_words(number, [*argv, *map("=".join, environment.items())])
    return ContainerPlan(
        number=number,
        argv=argv,
        environment=environment,
        mounts=mounts,
        files=files,
        manifest=manifest,
        output_dir=output_dir.folder(str(number)) if params.declobber else output_dir,
    )


def _check_commas(params: Parameters, placed: Sequence[PlacedFile]) -> None:
    formats = {parameter.input_files_format for parameter in params.parameters()}
    if InputFilesFormat.COMMA_SEPARATED_LIST not in formats:
        return
    for index, file in enumerate(placed):
        if "," in file.place:
            raise IllegalParameterError(
                f"Input file '{file.file.file}' at index {index} has a comma in its path "
                f"'{posixpath.join(params.input_mount_point, file.place)}', which a comma separated list would divide "
                "in two: name the files by a space separated list or a manifest (<files>, <manifest> in %cts), or store "
                "the file by another name"
            )


def _check_words(number: int, words: Sequence[str]) -> None:
    longest = max((len(word.encode()) for word in words), default=0)
    if longest > MAX_WORD_BYTES:
        raise IllegalParameterError(
            f"Container {number} would be given {longest} bytes in one argument or variable, and no program can be "
            f"given more than {MAX_WORD_BYTES}: name its input files by a manifest or as a space separated list, or use "
            "more containers"
        )


def _arguments(
    args: Sequence[str | ParameterWithFlag], values: Callable[[Parameter], list[str]]
) -> Iterator[str]:
    for arg in args:
        if isinstance(arg, str):
            yield arg
        elif arg.input_files_format is InputFilesFormat.REPEAT_PARAMETER:
            for value in values(arg):
                yield from _with_flag(arg.flag, [value])
        else:
            yield from _with_flag(arg.flag, values(arg))


def has_numbered_outputs(params: Parameters) -> bool:
    """Return whether the names of a container's outputs may have its number in them."""
    numbered = any(p.type is ParameterType.CONTAINER_NUMBER for p in params.parameters())
    return numbered or params.declobber


def overwriting_warning(num_containers: int, params: Parameters) -> str | None:
    """Return a warning if neither declobber nor their numbers keep the outputs of several containers apart; else None."""
    if num_containers == 1 or has_numbered_outputs(params):
        return None
    return (
        f"All {num_containers} containers store into one folder, and of outputs with the same name only the last one is "
        "kept: have the container's number in their names (<n> in %cts, container_number in the API), or set declobber "
        "to keep the outputs of each container in a folder of its own"
    )


def plan_container(job: JobInput, image: JobImage, number: int) -> ContainerPlan:
    """Return the plan of one container of a job that ``plan_job`` accepts, in time proportional to its own files."""
    size, extra = divmod(len(job.input_files), job.num_containers)
    start = number * size + min(number, extra)
    files = job.files[start : start + size + (number < extra)]
    placed = _place_files(files, job.input_roots or [], job.params.input_mount_point)
    return _plan_container(job, image, number, placed)


def plan_job(job: JobInput, image: JobImage) -> list[ContainerPlan]:
    """Return the plans of all containers of ``job``, in the order of their numbers.

    Raises IllegalPathError, and IllegalParameterError if two inputs have the same path, mount points overlap, an argument or variable is
    too long, or a comma in a path would divide it in a list with commas.
    """
    placed = _place_files(job.files, job.input_roots or [], job.params.input_mount_point)
    _check_commas(job.params, placed)
    return [
        _plan_container(job, image, number, files)
        for number, files in enumerate(split_evenly(placed, job.num_containers))
    ]
