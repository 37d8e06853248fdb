"""The rules for object paths."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.object_paths import (
    MAX_FOLDERS,
    MAX_KEY_BYTES,
    check_path,
    check_paths,
    check_root,
    folders_beside,
    is_below,
    join_path,
    split_path,
)

ANY = st.text(max_size=30) | st.text("abc-/. ';\t", max_size=30)
SEGMENTS = st.text("ab-. ", min_size=1, max_size=5)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=5).map(lambda parts: "/".join(["data", *parts]))


def _is_legal(path: str) -> bool:
    """The rules once more, as the contract says them."""
    bucket, slash, key = path.partition("/")
    return bool(
        re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket)
        and slash
        and key.strip()
        and not key.startswith("/")
        and not re.search("'|;|//", path)
        and not any(unicodedata.category(char) in {"Cc", "Cs"} for char in path)
        and len(key.encode()) <= MAX_KEY_BYTES
    )


@given(ANY | st.builds("{}/{}".format, st.text("abc-", max_size=6), ANY))
def test_a_path_is_legal_exactly_by_the_rules(path):
    try:
        checked = check_path(path)
    except ValueError:
        assert not _is_legal(path.lstrip())
    else:
        assert checked == path.lstrip()
        assert _is_legal(checked)
        assert check_path(checked) == checked


@pytest.mark.parametrize(
    "path",
    [
        "data/x",
        "a-b/c",
        "123/4",
        "data/a b/ c ",
        "data/trailing ",
        "data/folder/",
        "data/ünï/\U0001f600",
        f"{'b' * 63}/x",
        f"data/{'x' * 1024}",
        f"data/{'ä' * 512}",
        'data/"quoted" $(x) `y` & | < > \\ * ?',
    ],
)
def test_legal(path):
    assert check_path(path) == path
    assert check_path(f"  {path}") == path


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "S3 paths must be a string"),
        (3, "S3 paths must be a string"),
        ("", "The s3 path cannot be null or a whitespace string"),
        (" \t", "The s3 path cannot be null or a whitespace string"),
        ("/data/x", "Path '/data/x' cannot start with '/'"),
        ("data", "Path 'data' must start with the s3 bucket and include a key"),
        ("data/", "Path 'data/' must start with the s3 bucket and include a key"),
        ("data/ ", "Path 'data/ ' must start with the s3 bucket and include a key"),
        ("ab/x", "Bucket name must be > 2 and < 64 characters: ab"),
        (f"{'b' * 64}/x", f"Bucket name must be > 2 and < 64 characters: {'b' * 64}"),
        (
            "my.data/x",
            "Bucket name may only contain '-' and lowercase ascii alphanumerics: my.data",
        ),
        ("dätä/x", "Bucket name may only contain '-' and lowercase ascii alphanumerics: dätä"),
        ("data-/x", "Bucket name cannot start or end with '-': data-"),
        ("data/a\nb", "Path data/a\nb contains a control character in the key at position 1"),
        ("data/a\x85", "Path data/a\x85 contains a control character in the key at position 1"),
        ("data/it's", "Path 'data/it's' may not contain \"'\""),
        ("data/a;b", "Path 'data/a;b' may not contain ';'"),
        ("data//b", "Path 'data//b' may not contain '//'"),
        (f"data/{'ä' * 513}", f"Path 'data/{'ä' * 513}''s key is longer than 1024 bytes in UTF-8"),
        ("data/\ud800", "Path 'data/\\ud800' is not valid unicode text"),
        ("\ud800", "Path '\\ud800' is not valid unicode text"),
        ("/\ud800", "Path '/\\ud800' is not valid unicode text"),
        ("d\ud800ta/x", "Path 'd\\ud800ta/x' is not valid unicode text"),
    ],
)
def test_refused(path, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_path(path)


def test_a_list_names_the_index():
    assert check_paths([" data/x", "data/y"]) == ["data/x", "data/y"]
    with pytest.raises(ValueError, match=r"^Path 'data' at index 1 must start with the s3 bucket"):
        check_paths(["data/x", "data"])
    with pytest.raises(ValueError, match=r"^S3 path must be a string at index 0$"):
        check_paths([None])


def test_roots():
    assert [check_root(root) for root in ("", "data", "data/", "data/a/", "data/a")] == [
        "",
        "data",
        "data",
        "data/a",
        "data/a",
    ]
    with pytest.raises(ValueError, match="at index 4"):
        check_root("x", index=4)


@given(PATHS)
def test_split_and_join_undo_each_other(path):
    bucket, key = split_path(path)
    assert join_path(bucket, key) == path == join_path(f"{bucket}/", key)


@given(PATHS, SEGMENTS)
def test_below_is_by_whole_segments(path, segment):
    assert is_below(path, path)
    assert is_below(f"{path}/{segment}", path)
    assert is_below(f"{path}/{segment}", f"{path}/")
    assert is_below(path, f"{path}/")
    assert not is_below(f"{path}{segment}", path)
    assert not is_below(path, f"{path}/{segment}")


@pytest.mark.parametrize(
    ("folder", "is_numbered", "first"),
    [
        ("data/out", False, "data/out-2/"),
        ("data/out/", True, "data/out-2/"),
        ("data/out-2/", True, "data/out-3/"),
        ("data/run-2024/", False, "data/run-2024-2/"),
    ],
)
def test_folders_beside(folder, is_numbered, first):
    found = list(folders_beside(folder, (), is_numbered=is_numbered))
    assert found[0] == first
    assert len(found) == MAX_FOLDERS
    rest = folders_beside(folder, {first}, is_numbered=is_numbered)
    assert list(rest) == found[1:]
