"""What is wrong with a refused request, in plain words, from the service's list of faults."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cts_core.model.job import Submission
from cts_core.model.parameters import Parameters
from cts_core.worker.units import format_size
from cts_jupyter import formatting

_MAX_FAULTS = 3
_SIZES = frozenset({"memory"})
"""Fields of which a number without a unit is bytes."""
JOB_FIELDS = (*Submission.model_fields, *Parameters.model_fields)
"""The fields of a submission."""
_QUOTED = re.compile(r"'([^']*)'")
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def describe_faults(
    faults: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    words: Mapping[str, Sequence[str]] = {},
) -> str:
    """Return the first faults as one line. ``names`` are what the person calls the fields of the request.

    ``words`` are what the person may write for a field besides the values that the service takes.
    """
    lines = [_describe(fault, names, words) for fault in faults[:_MAX_FAULTS]]
    more = len(faults) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more else "")


def _describe(
    fault: Mapping[str, Any], names: Mapping[str, str], words: Mapping[str, Sequence[str]]
) -> str:
    path = [str(part) for part in fault.get("loc", ())[1:]]
    field = path[-1] if path else ""
    place = names.get(field, ".".join(path))
    kind, given = fault.get("type", ""), fault.get("input")
    context = fault.get("ctx") or {}
    if kind == "extra_forbidden":
        near = formatting.nearest(field, JOB_FIELDS)
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        return f"There is no field {place}{hint}"
    if kind == "missing":
        return f"{place} is missing"
    if kind in ("enum", "literal_error"):
        known = _QUOTED.findall(str(context.get("expected", "")))
        return formatting.unknown(place, str(given), [*words.get(field, ()), *known])
    if kind in _BOUNDS and _BOUNDS[kind][0] in context:
        return f"{place}: {_describe_bound(field, given, *_bound(kind, context))}"
    if kind in ("byte_size", "byte_size_unit"):
        return f"{place}: {given} is no size: write it with a unit, as in 500MB, 40GB or 1.5GiB"
    text = str(fault.get("msg", "")).removeprefix("Value error, ")
    for name, called in names.items():
        text = re.sub(rf"\b{name}\b", called, text)
    return f"{place}: {text}" if place else text


def _bound(kind: str, context: Mapping[str, Any]) -> tuple[str, Any]:
    key, words = _BOUNDS[kind]
    return words, context[key]


def _describe_bound(field: str, given: object, words: str, bound: object) -> str:
    if field not in _SIZES or not isinstance(bound, (int, float)):
        shown = f"{bound:,}" if isinstance(bound, int) else str(bound)
        return f"{given} is given, and it may be {words} {shown}"
    text = f"{given} is given, and it may be {words} {format_size(bound)}"
    if str(given).isdecimal():
        text += f". A number without a unit is bytes: write {given}GB or {given}MB"
    return text
