"""Python variables on lines and in YAML."""

from __future__ import annotations

import datetime as dt
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.expansion import (
    Namespace,
    expand_scalars,
    expand_words,
    split_words,
)
from cts_jupyter.notebook.magics.yaml_cell import load_cell
from cts_jupyter.notebook.placeholders import quote_word
from cts_jupyter.notebook.table import Column, Table


class Thing:
    def as_word(self):
        return "a-word"

    def __iter__(self):
        return iter("no")


NAMES = {
    "img": "host/x",
    "genomes": ["b/a 1.fna", "b/b.fna"],
    "n": 3,
    "nothing": None,
    "empty": [],
    "d": {"k": "v}"},
    "path": Path("/tmp/x"),
    "thing": Thing(),
    "day": dt.timedelta(hours=1),
    "numbers": (n for n in [1, 2]),
    "table": Table([Column("name", str)], [Path("b/a.fna"), Path("b/b.fna")], empty=""),
}


def words(line, **local):
    return expand_words(split_words(line), Namespace({**NAMES, **local}))


@pytest.mark.parametrize(
    ("line", "expanded"),
    [
        ("$img", ["host/x"]),
        ("-i $genomes --x", ["-i", "b/a 1.fna", "b/b.fna", "--x"]),
        ("${genomes[0]}", ["b/a 1.fna"]),
        ("'{d[\"k\"]}'", ["v}"]),
        ("out_$n.tsv", ["out_3.tsv"]),
        ("$table", ["b/a.fna", "b/b.fna"]),
        ("{n+1}GB", ["4GB"]),
        ("$path/y", ["/tmp/x/y"]),
        ("$thing {thing}", ["a-word", "a-word"]),
        ("a$empty$n", None),
        ("$empty", []),
        ("$$img {{n}} $5 $", ["$img", "{n}", "$5", "$"]),
        ("'${\"{}\"}'", ["{}"]),
        ("'{ {1: 2}[1] }'", ["2"]),
        ("{[g.upper() for g in genomes]}", ["B/A 1.FNA", "B/B.FNA"]),
        ("x{f'{n} and {img}'}.txt {d['k']} ${d[\"k\"]}", ["x3 and host/x.txt", "v}", "v}"]),
        ('a\\ b \'c d\'e "f\\" g"', ["a b", "c de", 'f" g']),
        ("'{[g.upper() for g in genomes]}'", ["B/A 1.FNA", "B/B.FNA"]),
        ("$len_ok", ["yes"]),
    ],
)
def test_words_are_expanded(line, expanded):
    if expanded is None:
        with pytest.raises(MagicError):
            words(line)
    else:
        assert words(line, len_ok="yes") == expanded


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("$gemones", "no variable named 'gemones'"),
        ("'{nothing.x}'", "AttributeError"),
        ("$nothing", "is None"),
        ("$d", "a dict"),
        ("x{", "opens no Python expression"),
        ("'open", "not closed"),
        ('"open', "not closed"),
        ("end\\", "stands before nothing"),
        ("{'a' 'b", "opens no Python expression"),
        ("$day", "a timedelta"),
    ],
)
def test_errors_name_the_expression(line, said):
    with pytest.raises(MagicError) as caught:
        words(line)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=5))
def test_quoted_word_round_trips(texts):
    assert words(" ".join(quote_word(text) for text in texts)) == texts


# All white space ends a word here, and not only the shell's: a pasted non-breaking space must not join two.
plain = st.text(
    st.characters(
        exclude_categories=("Cs", "Z"), exclude_characters="${}\x0b\x0c\x1c\x1d\x1e\x1f\x85"
    ),
    max_size=4,
)


@given(st.lists(plain | st.sampled_from(["'", '"', "\\", " ", "a b"]), max_size=12).map("".join))
def test_words_are_split_as_by_a_shell(line):
    try:
        expected = shlex.split(line)
    except ValueError:
        with pytest.raises(MagicError):
            split_words(line)
    else:
        assert split_words(line) == expected


def test_values_are_never_parsed_as_syntax():
    assert words("$x", x="'$img' {n} --") == ["'$img' {n} --"]


def test_yaml_scalars_are_expanded():
    tree = {
        "image": "$img",
        "input_files": ["$genomes", "b/c.fna", "x-$n"],
        "cpus": "$n",
        "runtime": "$day",
        "nested": {"a": "$$img", "b": "{n}", "c": "${n + 1}"},
        "all": "$genomes",
        "rows": "$table",
        "numbers": "$numbers",
        "where": "$path",
        "none": "$nothing",
    }
    assert expand_scalars(tree, Namespace(NAMES)) == {
        "image": "host/x",
        "input_files": ["b/a 1.fna", "b/b.fna", "b/c.fna", "x-3"],
        "cpus": 3,
        "runtime": 3600.0,
        "nested": {"a": "$img", "b": "{n}", "c": 4},
        "all": ["b/a 1.fna", "b/b.fna"],
        "rows": ["b/a.fna", "b/b.fna"],
        "numbers": [1, 2],
        "where": "/tmp/x",
        "none": None,
    }


def test_cell_is_loaded():
    cell = "image: $img\ninput_files: $genomes\nparams:\n  args: [-t, '8', <files>]\n"
    assert load_cell(cell, Namespace(NAMES)) == {
        "image": "host/x",
        "input_files": NAMES["genomes"],
        "params": {"args": ["-t", "8", "<files>"]},
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("a: [1\nb: 2", "line 3"),
        ("just text", "key: value"),
        ("", "key: value"),
        ("a: 1\na: 2", "'a' stands there twice"),
        ("p:\n  a: 1\n  a: 2", "line 4"),
        ("a: $gemones", "'gemones'"),
        ("a: !!python/object:os.system {}", "cannot be read"),
        (r'a: "\UFFFFFFFF"', "cannot be read"),
        ("a: " + "[" * 5000, "nested too deep"),
        ("[a]: b", "a key must be a name"),
    ],
)
def test_invalid_cell_is_refused(cell, said):
    with pytest.raises(MagicError) as caught:
        load_cell(cell, Namespace(NAMES))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
