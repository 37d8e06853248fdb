"""Which processes are meant, in HTCondor's language."""

from __future__ import annotations

import re

import pytest

from cts_core.sites.htcondor import constraints
from cts_core.sites.htcondor.classads import ATTRIBUTES, Ad, Status, read_ads
from cts_core.sites.htcondor.constraints import (
    MAX_NAMED,
    among,
    any_cluster,
    any_job,
    any_started,
    quoted,
    these,
)


def _ad(cluster: int, process: int) -> Ad:
    said = {"CTSJobID": "a", "CTSContainerNumber": process, "ClusterId": cluster, "ProcId": process}
    row = [{**said, "JobStatus": Status.IDLE}.get(name) for name in ATTRIBUTES]
    (ad,) = read_ads([row])
    return ad


@pytest.mark.parametrize(
    "made",
    [
        constraints.OURS,
        constraints.WITHOUT_FILES,
        constraints.UNENDED,
        any_job(["a"]),
        any_job(["a", "b"]),
        among([str(n) for n in range(MAX_NAMED)]),
        among([str(n) for n in range(MAX_NAMED + 1)]),
        any_started("a"),
        any_cluster([1, 2]),
        these([_ad(1, 0), _ad(1, 1), _ad(2, 0)]),
    ],
)
def test_each_can_stand_within_another(made: str) -> None:
    outside = re.sub(r'"[^"]*"', "", made)
    while (inner := re.sub(r"\([^()]*\)", "", outside)) != outside:
        outside = inner
    assert not re.search(r"[|&()]", outside), made


def test_processes_are_named_by_their_clusters() -> None:
    one = these([_ad(1, 0), _ad(1, 3)])
    assert one == "(ClusterId == 1 && member(ProcId, {0,3}))"
    assert these([_ad(1, 0), _ad(2, 0)]).startswith(f"({these([_ad(1, 0)])} || ")


def test_a_string_ends_where_it_should() -> None:
    assert quoted('a" || "\\') == '"a\\" || \\"\\\\"'
