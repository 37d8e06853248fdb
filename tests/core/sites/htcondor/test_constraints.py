"""Tests of the constraints."""

from __future__ import annotations

import re

import pytest

from cts_core.sites.htcondor import constraints
from cts_core.sites.htcondor.classads import ATTRIBUTES, JobAd, Status, read_ads
from cts_core.sites.htcondor.constraints import (
    MAX_NAMED,
    for_clusters,
    for_jobs,
    for_named_jobs,
    for_processes,
    for_started_job,
    quoted,
)


def _ad(cluster: int, process: int) -> JobAd:
    attributes = {
        "CTSJobID": "a",
        "CTSContainerNumber": process,
        "ClusterId": cluster,
        "ProcId": process,
    }
    row = [{**attributes, "JobStatus": Status.IDLE}.get(name) for name in ATTRIBUTES]
    (ad,) = read_ads([row])
    return ad


@pytest.mark.parametrize(
    "constraint",
    [
        constraints.OURS,
        constraints.WITHOUT_FILES,
        constraints.UNENDED,
        for_named_jobs(["a"]),
        for_named_jobs(["a", "b"]),
        for_jobs([str(n) for n in range(MAX_NAMED)]),
        for_jobs([str(n) for n in range(MAX_NAMED + 1)]),
        for_started_job("a"),
        for_clusters([1, 2]),
        for_processes([_ad(1, 0), _ad(1, 1), _ad(2, 0)]),
    ],
)
def test_constraints_can_be_nested(constraint: str) -> None:
    outside = re.sub(r'"[^"]*"', "", constraint)
    while (inner := re.sub(r"\([^()]*\)", "", outside)) != outside:
        outside = inner
    assert not re.search(r"[|&()]", outside), constraint


def test_processes_are_grouped_by_cluster() -> None:
    one = for_processes([_ad(1, 0), _ad(1, 3)])
    assert one == "(ClusterId == 1 && member(ProcId, {0,3}))"
    assert for_processes([_ad(1, 0), _ad(2, 0)]).startswith(f"({for_processes([_ad(1, 0)])} || ")


def test_string_is_escaped() -> None:
    assert quoted('a" || "\\') == '"a\\" || \\"\\\\"'
