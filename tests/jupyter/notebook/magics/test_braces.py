"""Patterns with alternatives in braces."""

from __future__ import annotations

import pytest

from cts_jupyter.notebook.magics.braces import alternatives, is_pattern, literal_prefix, matches


@pytest.mark.parametrize(
    ("path", "pattern", "is_match"),
    [
        ("b/a.fna", "b/*.{fna,fa}", True),
        ("b/a.fa.gz", "*.{fna,fa{,.gz}}", True),
        ("b/a.fastq", "b/*.{fna,fa}", False),
        ("b/c/a.fa", "{b/*.fna,b/c/*.fa}", True),
        ("b/{a}", "b/{a}", True),
    ],
)
def test_alternatives(path, pattern, is_match):
    assert matches(path, pattern) is is_match


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("b/*.{fna,fa}", "b/"),
        ("b/mag_{1,2}/x", "b/mag_"),
        ("b/x", "b/x"),
        ("b/.{.x,./y}", "b/"),
        ("{a,b}/x", ""),
    ],
)
def test_prefix_of_alternatives(pattern, prefix):
    assert literal_prefix(pattern) == prefix


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        ("b/*.fna", True),
        ("b/?", True),
        ("b/[ab]", True),
        ("b/{a,b}", True),
        ("b/{a}", False),
        ("b/..", False),
    ],
)
def test_what_is_a_pattern(word, is_one):
    assert is_pattern(word) is is_one


def test_alternatives_are_bounded():
    assert alternatives("{a,b}{c,d}") == ("ac", "ad", "bc", "bd")
    with pytest.raises(ValueError, match="more than 64 others"):
        alternatives("{a,b}" * 30)
