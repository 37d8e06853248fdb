"""Every benchmark works, its results can be had again, and the page of performance has them."""

import ast
import json
import re

import pytest

from benchmarks import harness, scripts
from benchmarks.compare import figures, lines, ratios
from cts_reference import performance
from tests.harness.paths import ROOT
from tests.services.server import or_skip

SCRIPTS = scripts.names()


def result(what, **values):
    return {"what": what, "text": "", "figures": values}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_works_with_tiny_sizes(name):
    with or_skip():
        results = scripts.run(name, tiny=True)
    assert results
    assert len({one["what"] for one in results}) == len(results)


def test_page_has_each_benchmark_and_none_that_is_gone():
    rows = performance.describe()
    assert re.findall(r"bench_(\w+)\.py", rows) == SCRIPTS
    assert {
        name.removeprefix("bench_") for name in json.loads(performance.RESULTS.read_text())
    } <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_says_what_it_measures(name):
    source = (ROOT / "benchmarks" / f"bench_{name}.py").read_text()
    assert ast.get_docstring(ast.parse(source)).startswith("Benchmark of ")


def test_a_result_without_figures_is_an_error():
    with pytest.raises(ValueError, match="no figures"):
        harness.report("a", "b")
    with pytest.raises(ValueError, match="no figures"):
        harness.report("a", "b", rate_per_s=float("nan"))


def test_sizes_are_tiny_where_this_is_asked_for(monkeypatch):
    monkeypatch.delenv(harness.TINY, raising=False)
    assert harness.size(10, 1) == 10
    monkeypatch.setenv(harness.TINY, "1")
    assert harness.size(10, 1) == 1


def test_two_checkouts_are_compared_within_a_round():
    a = figures([result("x", time_s=1.0, gone=1.0), result("y", time_s=0.0)])
    b = figures([result("x", time_s=3.0, new=1.0), result("y", time_s=1.0)])
    slower = {("x", "time_s"): 2.0}
    found = ratios([(a, b), (slower, {("x", "time_s"): 4.0})])
    assert found == {("x", "time_s"): [3.0, 2.0]}
    assert lines(found) == ["*   2.50 (2.00 to 3.00)  x: time_s"]


def test_a_figure_that_is_now_more_now_less_is_not_marked():
    assert lines({("x", "time_s"): [0.9, 1.1]})[0].startswith(" ")
