"""Glob patterns over object paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_jupyter.notebook.magics.globs import literal_prefix, matches


@pytest.mark.parametrize(
    ("path", "pattern", "is_match"),
    [
        ("b/a.fna", "*.fna", True),
        ("b/c/a.fna", "*.fna", True),
        ("b/c/a.fna", "b/*.fna", False),
        ("b/c/a.fna", "b/**/*.fna", True),
        ("b/a.fna", "b/**/*.fna", True),
        ("b/a.fna", "b/?.fna", True),
        ("b/ab.fna", "b/?.fna", False),
        ("b/a.fna", "b/[abc].fna", True),
        ("b/a.fna", "b/[!a].fna", False),
        ("b/a+(1).fna", "b/a+(*).fna", True),
        ("b/a/x", "b?a/x", False),
        ("b/[", "b/[", True),
        ("b/^", "b/[^]", True),
        ("b/A.fna", "b/a.fna", False),
    ],
)
def test_patterns(path, pattern, is_match):
    assert matches(path, pattern) is is_match


@given(st.text(st.characters(exclude_characters="*?[", exclude_categories=("Cs",)), max_size=20))
def test_pattern_without_wildcards_matches_itself_alone(text):
    assert matches(text, text)
    assert not matches(f"{text}x", text)
    if text.rpartition("/")[2] not in (".", ".."):
        assert literal_prefix(f"{text}*") == text


def test_a_prefix_has_no_part_of_dots():
    # The service takes none; names that begin with dots are below the folder.
    assert literal_prefix("data/.*") == literal_prefix("data/..*") == "data/"
    assert literal_prefix("data/.a*") == "data/.a"
