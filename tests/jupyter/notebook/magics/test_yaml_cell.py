"""The scalars of a cell are the text that stands there; numbers are read where numbers are meant."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cts_core.model.parameters import ARGUMENT_PATTERN
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.expansion import Namespace
from cts_jupyter.notebook.magics.submission import submission_from_yaml
from cts_jupyter.notebook.magics.yaml_cell import load_cell

NOTHING = Namespace({})
CHANGED_BY_OTHER_LOADERS = [
    "0012", "0o17", "0x1F", "0b11", "1_000", "+5", "12:30:00", "1:30", "1.10", "1.0", ".5", "1e3", "1.5e+3", ".inf",
    ".NaN", "true", "True", "yes", "no", "NO", "on", "off", "y", "2024-01-01", "2024-01-01 10:00:00", "2020-99-99", "=", "<<",
]  # fmt: skip
NULLS = ["null", "Null", "NULL", "~", ""]


def body_of(cell: str, **names: object) -> dict[str, object]:
    body = submission_from_yaml(load_cell(cell, Namespace(names))).body
    assert json.loads(json.dumps(body)) == body
    return body


@pytest.mark.parametrize("text", CHANGED_BY_OTHER_LOADERS)
def test_scalar_keeps_its_own_text(text):
    cell = f"image: {text}\ninput_roots: [{text}]\nlabels: {{a: {text}}}\n"
    assert body_of(cell) == {"image": text, "input_roots": [text], "labels": {"a": text}}


@pytest.mark.parametrize("key", ["0012", "1.10", "no", "ON", "null", "2024-01-01"])
def test_key_keeps_its_own_text(key):
    assert body_of(f"labels: {{{key}: x}}") == {"labels": {key: "x"}}


@pytest.mark.parametrize("text", ["0012", "1.10", "0x1F", "true", "no", "1e3", "2024-01-01"])
def test_argument_and_variable_keep_their_own_text(text):
    cell = f"params:\n  args: [--at, {text}]\n  environment: {{AT: {text}}}\n"
    assert body_of(cell) == {"params": {"args": ["--at", text], "environment": {"AT": text}}}


@pytest.mark.slow
@given(st.from_regex(ARGUMENT_PATTERN, fullmatch=True).filter(str.isascii))
def test_every_argument_is_a_plain_scalar_of_its_own_text(text):
    if text in NULLS:
        with pytest.raises(MagicError, match="args: null is no text"):
            body_of(f"params: {{args: [{text}]}}")
    else:
        assert body_of(f"params: {{args: [{text}]}}") == {"params": {"args": [text]}}


@given(st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="$")))
def test_quoted_scalar_keeps_every_character(text):
    cell = yaml.safe_dump({"labels": {"a": text}}, default_style='"', allow_unicode=True)
    assert body_of(cell) == {"labels": {"a": text}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("num_containers: 010", 10), ("cpus: '8'", 8), ("cpus: 4.0", 4), ("cpus: many", "many")],
)
def test_number_is_read_where_one_is_meant(text, value):
    assert list(body_of(text).values()) == [value]


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), ("yes", True), ("maybe", "maybe")]
)
def test_truth_value_is_read_where_one_is_meant(text, value):
    assert body_of(f"params: {{declobber: {text}}}") == {"params": {"declobber": value}}


@pytest.mark.parametrize("null", NULLS)
def test_null_is_none_and_no_text(null):
    assert body_of(f"input_roots: {null}\n") == {"input_roots": None}
    for cell in (f"labels: {{a: {null}}}", f"params: {{environment: {{A: {null}}}}}"):
        with pytest.raises(MagicError, match=r"(?i)a: null is no text: put it in quotes"):
            body_of(cell)


@pytest.mark.parametrize(
    ("text", "iso"), [("90s", "PT1M30S"), ("1h30m", "PT1H30M"), ("PT2H", "PT2H")]
)
def test_runtime_is_a_duration(text, iso):
    assert body_of(f"runtime: {text}") == {"runtime": iso}


@pytest.mark.parametrize("text", ["1:30", "01:30:00", "1_000", "0x10", "1e3", "soon"])
def test_runtime_that_could_mean_two_things_is_refused(text):
    with pytest.raises(MagicError, match=f"runtime: '{text}' is no duration: write 90s"):
        body_of(f"runtime: {text}")


def test_variable_is_its_value_where_a_value_is_meant_and_its_text_where_text_is():
    cell = "cpus: $n\nlabels: {n: $n}\nparams: {declobber: $on, args: [$n, $ratio]}"
    assert body_of(cell, n=4, on=True, ratio=0.5) == {
        "cpus": 4,
        "labels": {"n": "4"},
        "params": {"declobber": True, "args": ["4", "0.5"]},
    }
    with pytest.raises(MagicError, match="n: True is no text"):
        body_of("labels: {n: $on}", on=True)


@pytest.mark.parametrize("scalar", ["!!int 012", "!!timestamp 2024-01-01", "!!binary aGk=", "!x y"])
def test_tag_is_refused_with_its_line(scalar):
    with pytest.raises(MagicError, match=r"the tag .* has no meaning here.* in line 3 of the cell"):
        load_cell(f"image: a\ncpus: {scalar}", NOTHING)
    assert load_cell("cpus: !!str 012", NOTHING) == {"cpus": "012"}


def test_merged_mapping_gives_way_to_own_keys():
    cell = "base: &base {a: 01, b: 02}\nlabels: {<<: *base, b: 03}"
    assert load_cell(cell, NOTHING)["labels"] == {"a": "01", "b": "03"}
