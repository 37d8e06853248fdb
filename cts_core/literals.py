"""Literal arguments and variables that name what a container does not have. Pure.

CTS puts in paths where a parameter names files; a path that is written out is passed on as it is.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice

from cts_core.model.parameters import Parameters, ParameterType
from cts_core.mounts import Mounts
from cts_core.plan import ContainerPlan, parents

_SYSTEM = frozenset(
    {
        *("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt"),
        *("opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"),
    }
)
"""The folders that any Linux may have."""
_MAX_NAMED = 5
_NEAR = 0.8
"""How similar a name is to that of a mount point if it may be meant."""
_MAX_WARNINGS = 20


def parameter_warnings(params: Parameters) -> list[str]:
    """Return warnings of parameters by which the program may not find its inputs, or its outputs are not found."""
    return [*_unnamed_inputs(params), *_mistyped_mounts(params)]


def _unnamed_inputs(params: Parameters) -> Iterator[str]:
    mount = params.input_mount_point
    is_named = any(p.type is not ParameterType.CONTAINER_NUMBER for p in params.parameters())
    literals = [*(params.args or ()), *(params.environment or {}).values()]
    is_named |= any(isinstance(value, str) and mount in value for value in literals)
    if params.args and not is_named:
        yield (
            "No argument or variable names the input files, and the program may not know of them: put in where they belong "
            f"(<files> or <manifest> in %cts, input_files or manifest_file in the API), or their folder {mount}"
        )


def _mistyped_mounts(params: Parameters) -> Iterator[str]:
    """Yield a warning for each path that is nearly below a mount point."""
    points = (params.input_mount_point, params.output_mount_point, params.refdata_mount_point)
    by_name = {point.split("/")[1]: point for point in points if point}
    for path in dict.fromkeys(_paths(params)):
        name = path.split("/")[1]
        near = get_close_matches(name, by_name, 1, _NEAR)
        if near and name not in by_name:
            yield f"{path} is written out, and {by_name[near[0]]} is the mount point: did you mean that?"


def literal_warnings(params: Parameters, plans: Sequence[ContainerPlan]) -> list[str]:
    """Return a warning for each path in a literal that a container lacks, as far as that can be known."""
    if not plans:
        # A draft with other problems has no plans yet.
        return []
    mounts = plans[0].mounts
    paths = list(dict.fromkeys(_paths(params)))
    holders = _holders(plans, {place for path in paths if (place := _below(mounts.inputs, path))})
    warnings = []
    for path in paths:
        place = _below(mounts.inputs, path)
        if place:
            if len(holders[place]) < len(plans):
                warnings.append(_missing_input(path, holders[place], len(plans)))
        elif _is_outside(path, mounts):
            warnings.append(_no_mount(path, mounts))
    if len(warnings) > _MAX_WARNINGS:
        more = len(warnings) - _MAX_WARNINGS
        warnings[_MAX_WARNINGS:] = [f"{more} more paths are written out that containers lack"]
    return warnings


def _holders(plans: Sequence[ContainerPlan], places: set[str]) -> dict[str, set[int]]:
    """Return the numbers of the containers that have each of these places below the input mount point."""
    holders: dict[str, set[int]] = {place: set() for place in places}
    for number, plan in enumerate(plans):
        for place in places & _places(plan):
            holders[place].add(number)
    return holders


def _paths(params: Parameters) -> Iterator[str]:
    for values in (params.args or (), (params.environment or {}).values()):
        for value in values:
            if isinstance(value, str) and value.startswith("/"):
                yield posixpath.normpath(value)


def _places(plan: ContainerPlan) -> set[str]:
    """Return the paths below the input mount point that the container has, folders included."""
    places = {file.place for file in plan.files}
    places |= {folder for place in list(places) for folder in parents(place)}
    return places if plan.manifest is None else places | {plan.manifest.name}


def _below(mount: str, path: str) -> str | None:
    """Return the rest of a path that is a mount point, then empty, or below it; else None."""
    mount = mount.rstrip("/")
    return path[len(mount) + 1 :] if f"{path}/".startswith(f"{mount}/") else None


def _is_outside(path: str, mounts: Mounts) -> bool:
    points = (point for point in (mounts.inputs, mounts.outputs, mounts.refdata) if point)
    is_mounted = any(_below(point, path) is not None for point in points)
    return not is_mounted and path.strip("/") != "" and path.split("/")[1] not in _SYSTEM


def _missing_input(path: str, holders: Collection[int], count: int) -> str:
    if not holders:
        return (
            f"{path} is written out, and no input is placed there: containers find their inputs and their "
            "manifest there, and nothing else. Name the file among the inputs, or correct the path"
        )
    first = islice((number for number in range(count) if number not in holders), _MAX_NAMED)
    unnamed = count - len(holders) - _MAX_NAMED
    named = ", ".join(map(str, first)) + (f" and {unnamed} more" if unnamed > 0 else "")
    return (
        f"{path} is written out, and container {named} of {count} does not have it: each container has its own part of "
        "the inputs alone. Use one container, or put what all need into the image or reference data"
    )


def _no_mount(path: str, mounts: Mounts) -> str:
    return (
        f"{path} is below no mount point of this job: inputs are below {mounts.inputs}, and what is written below "
        f"{mounts.outputs} is stored, and nothing else. Correct it, unless the program has that path of its own"
    )
