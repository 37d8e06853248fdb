"""Chooses a node's container runtime and its folder for images."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import stat
from dataclasses import replace

from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.probe import IMAGE_RUNTIMES, probe


def choose_runtime(
    plan: WorkerPlan, chosen: str, arguments: str, *, scratch: str, cache: str
) -> WorkerPlan:
    """Return the plan with this node's runtime.

    ``chosen``: the name of a runtime, empty: the first that works. ``arguments``: further ones for each container, in shell
    syntax. ``cache``: a folder that workers share, or empty. Raises ContainerRuntimeError.
    """
    extra = _split_arguments(arguments)
    name = _check_chosen(chosen) if chosen else _detect(extra, scratch, network=plan.network)
    return replace(
        plan,
        container_runtime=name,
        runtime_command=[name],
        runtime_arguments=[*plan.runtime_arguments, *extra],
        image_folder=_image_folder(scratch, cache),
    )


def _split_arguments(arguments: str) -> list[str]:
    try:
        return shlex.split(arguments)
    except ValueError as e:
        raise ContainerRuntimeError(
            f"CTS_RUNTIME_ARGUMENTS of the node {platform.node()} is not what a shell can split ({e}): an administrator has "
            "to correct it there."
        ) from e


def _check_chosen(name: str) -> str:
    if name not in IMAGE_RUNTIMES:
        raise ContainerRuntimeError(
            f"The node {platform.node()} is to use {name}, which is none of {', '.join(IMAGE_RUNTIMES)}: an "
            "administrator has to set CTS_RUNTIME there to one of them."
        )
    return name


def _detect(arguments: list[str], scratch: str, *, network: bool) -> str:
    installed = [name for name in IMAGE_RUNTIMES if shutil.which(name)]
    if not installed:
        raise ContainerRuntimeError(
            f"The node {platform.node()} has none of {', '.join(IMAGE_RUNTIMES)}: an administrator has to install one "
            "there, or to name its folder in htcondor.additional_path."
        )
    if len(installed) == 1:
        # If it does not work, the container's own error says why.
        return installed[0]
    faults = []
    for name in installed:
        try:
            return probe(name, [name], arguments, network=network, folder=scratch).name
        except ContainerRuntimeError as e:  # noqa: PERF203 - three at most
            faults.append(f"{name}: {e}")
    raise ContainerRuntimeError(
        f"No container runtime works on the node {platform.node()} ({'; '.join(faults)}): an administrator has to see to it."
    )


def _image_folder(scratch: str, cache: str) -> str:
    """Return the folder for images: one shared with other workers of this user, if only this user can write to it."""
    own = os.path.join(scratch, "cts-images")
    if not cache:
        return own
    shared = os.path.join(cache, f"cts-images-{os.geteuid()}")
    try:
        os.makedirs(shared, mode=0o700, exist_ok=True)
        info = os.lstat(shared)
    except OSError:
        return own
    is_safe = info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return shared if stat.S_ISDIR(info.st_mode) and is_safe else own
