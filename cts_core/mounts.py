"""The mount points of a job's containers, and the rule that keeps them apart at every site. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from cts_core.errors import IllegalParameterError
from cts_core.model.image import JobImage
from cts_core.model.parameters import Parameters


@dataclass(frozen=True)
class Mounts:
    """The paths in a container below which its folders are."""

    inputs: str
    outputs: str
    refdata: str | None
    """None for an image without reference data."""


def mounts_of(params: Parameters, image: JobImage) -> Mounts:
    """Return the mount points of a job. Raises IllegalParameterError if one is missing, unclear or within another.

    Of two mounts at one place, or one within the other, a runtime may write into the folder of the first what belongs to the
    second: reference data, which is shared, must not be writable so.
    """
    refdata = None
    if image.refdata_id is not None:
        refdata = params.refdata_mount_point or image.default_refdata_mount_point
        if not refdata:
            raise IllegalParameterError(
                f"The image {image.name} needs reference data, and neither the job nor the image says where: "
                "set refdata_mount_point"
            )
    mounts = Mounts(params.input_mount_point, params.output_mount_point, refdata)
    _check([mounts.inputs, mounts.outputs, *([refdata] if refdata else [])])
    return mounts


def _check(points: list[str]) -> None:
    for point in points:
        if {".", ".."} & set(point.split("/")):
            raise IllegalParameterError(
                f"The mount point {point} has a part . or .. in it: give the path of the folder itself"
            )
    for outer, inner in permutations((point.rstrip("/") for point in points), 2):
        if inner == outer:
            raise IllegalParameterError(
                f"Two mount points are {inner}: inputs, outputs and reference data need one each"
            )
        if inner.startswith(f"{outer}/"):
            raise IllegalParameterError(
                f"The mount point {inner} lies within {outer}: choose folders beside each other"
            )
