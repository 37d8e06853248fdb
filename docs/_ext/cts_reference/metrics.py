"""The metrics of ``/metrics``, from the source that makes them.

They are read from the syntax tree, since labels cannot be seen in an exposition without values, and some metrics are there
only while an engine runs.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cts_core.observability import metrics
from cts_reference.markdown import code, escape, table

_TYPES = {
    "Counter": "counter",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "Histogram": "histogram",
    "Info": "info",
}
_SUFFIXES = {"counter": "_total", "info": "_info"}


@dataclass(frozen=True)
class Metric:
    """A metric as it is scraped."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def describe() -> str:
    """Return all metrics of CTS: name, type, labels, help."""
    return table(
        ["metric", "type", "labels", "meaning"],
        (
            [code(m.name), m.type, ", ".join(map(code, m.labels)) or "none", escape(m.help)]
            for m in sorted(find_metrics(), key=lambda metric: metric.name)
        ),
    )


def find_metrics() -> Iterator[Metric]:
    """Yield the metrics that the module defines: calls whose first arguments are a name and a help text."""
    calls = [n for n in ast.walk(ast.parse(inspect.getsource(metrics))) if isinstance(n, ast.Call)]
    for node in calls:
        texts = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)]
        if len(texts) != 2 or not str(texts[0]).startswith("cts"):  # noqa: PLR2004 - name and help
            continue
        kind = _TYPES.get(getattr(node.func, "id", ""), "gauge")
        suffix = _SUFFIXES.get(kind, "")
        labels = _info_labels(calls) if kind == "info" else _labels(node)
        yield Metric(str(texts[0]).removesuffix(suffix) + suffix, kind, labels, str(texts[1]))


def _info_labels(calls: Iterable[ast.Call]) -> tuple[str, ...]:
    """Return the keys of the one call ``.info({...})``."""
    for call in calls:
        if getattr(call.func, "attr", "") == "info" and isinstance(call.args[0], ast.Dict):
            return tuple(ast.literal_eval(key) for key in call.args[0].keys if key)
    return ()


def _labels(call: ast.Call) -> tuple[str, ...]:
    given = [*call.args[2:], *(k.value for k in call.keywords if k.arg in ("labels", "labelnames"))]
    for node in given:
        if isinstance(node, ast.List):
            return tuple(ast.literal_eval(node))
    return ()
