"""The rule that keeps a job's mount points apart."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.errors import IllegalParameterError
from cts_core.model.parameters import Parameters
from cts_core.mounts import Mounts, mounts_of
from tests.harness.factories import make_image

PLAIN = make_image()
WITH_REFDATA = make_image(refdata_id="r1", default_refdata_mount_point="/ref")
POINTS = st.builds(
    "/{}{}".format,
    st.lists(st.sampled_from(["a", "b", "ab", ".", "..", ".a"]), min_size=1, max_size=3).map(
        "/".join
    ),
    st.sampled_from(["", "/"]),
)


def test_job_wins_over_image():
    assert mounts_of(Parameters(), PLAIN) == Mounts("/input_files", "/output_files", None)
    assert mounts_of(Parameters(), WITH_REFDATA).refdata == "/ref"
    assert mounts_of(Parameters(refdata_mount_point="/own/"), WITH_REFDATA).refdata == "/own/"


def test_reference_data_needs_a_mount_point():
    with pytest.raises(IllegalParameterError, match="set refdata_mount_point"):
        mounts_of(Parameters(), make_image(refdata_id="r1"))


def test_only_what_is_mounted_counts():
    overlapping = Parameters(refdata_mount_point="/output_files")
    assert mounts_of(overlapping, PLAIN).refdata is None
    with pytest.raises(IllegalParameterError, match="Two mount points are /output_files"):
        mounts_of(overlapping, WITH_REFDATA)


@pytest.mark.parametrize(
    ("inputs", "outputs", "refdata", "message"),
    [
        ("/data", "/data/", "/ref", "Two mount points are /data"),
        ("/data", "/out", "/out/", "Two mount points are /out"),
        ("/data", "/out", "/out/ref", "/out/ref lies within /out"),
        ("/data", "/ref/out", "/ref", "/ref/out lies within /ref"),
        ("/data/in", "/out", "/data/", "/data/in lies within /data"),
        ("/data", "/out", "/data/x/../../out", r"has a part \. or \.\."),
        ("/data/.", "/data", "/ref", r"has a part \. or \.\."),
    ],
)
def test_mount_points_that_overlap_are_refused(
    inputs: str, outputs: str, refdata: str, message: str
):
    params = Parameters(
        input_mount_point=inputs, output_mount_point=outputs, refdata_mount_point=refdata
    )
    with pytest.raises(IllegalParameterError, match=message):
        mounts_of(params, WITH_REFDATA)


@pytest.mark.slow
@given(POINTS, POINTS, POINTS)
def test_accepted_mount_points_are_folders_beside_each_other(
    inputs: str, outputs: str, refdata: str
):
    params = Parameters(
        input_mount_point=inputs, output_mount_point=outputs, refdata_mount_point=refdata
    )
    try:
        mounts_of(params, WITH_REFDATA)
    except IllegalParameterError:
        return
    real = [posixpath.normpath(point) for point in (inputs, outputs, refdata)]
    for point in real:
        beside = [other for other in real if other is not point]
        assert posixpath.commonpath([point, beside[0]]) not in (point, beside[0])
        assert posixpath.commonpath([point, beside[1]]) not in (point, beside[1])
