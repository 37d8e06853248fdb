"""Glob patterns over object paths."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.globs import literal_prefix, matches


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


def as_expression(pattern: str) -> str:
    """Return the pattern as a regular expression, which says the same and may take forever."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", pattern)
    words = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        words.get(part)
        or (
            f"(?!/){part.replace('[!', '[^')}"
            if part.startswith("[") and part.endswith("]") and len(part) > 2
            else re.escape(part)
        )
        for part in parts
    )


@given(
    st.lists(
        st.sampled_from(["a", "b", "/", "*", "**", "**/", "?", "[a]", "[!a]", "[a-b]"]), max_size=8
    ),
    st.lists(st.sampled_from(["a", "b", "c", "/a", "/b"]), max_size=8),
)
def test_patterns_match_as_their_expressions(pieces, parts):
    pattern, path = "".join(pieces), "x" + "".join(parts)
    subject = path if "/" in pattern else path.rpartition("/")[2]
    expected = re.fullmatch(as_expression(pattern), subject, re.DOTALL) is not None
    assert matches(path, pattern) is expected


def test_time_does_not_explode():
    """A backtracking expression would not end within years."""
    assert not matches("b/" + "a" * 1000, "b/" + "*a" * 400 + "b")
    assert not matches("b/" + "a/" * 500, "b/" + "**/" * 200 + "**b")


@pytest.mark.parametrize(
    "pattern", ["b/[c-a]", "b/[ -\U0010ffff]", "a" * 1089, "[\u4e00-\u4f00]" * 200]
)
def test_patterns_that_cannot_be_read_are_refused(pattern):
    with pytest.raises(ValueError, match="pattern"):
        matches("b/x", pattern)


def test_choices_have_a_bound_together():
    assert matches("b/x", "b/[" + "a-z" * 30 + "]")
    assert matches("b/" + "x" * 30, "b/" + "[a-z]" * 30)
    with pytest.raises(ValueError, match="1024 characters to choose from"):
        matches("b/" + "x" * 40, "b/" + "[a-z]" * 40)
