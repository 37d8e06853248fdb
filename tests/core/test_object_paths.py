"""The rules for object paths."""

from __future__ import annotations

import inspect
import posixpath
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.errors import IllegalPathError
from cts_core.object_paths import (
    MAX_FOLDERS,
    MAX_KEY_BYTES,
    FolderPath,
    ObjectPath,
    ObjectPrefix,
    above,
    check_path,
    check_paths,
    check_root,
    folders_beside,
)
from cts_core.objects.store import ObjectStore

ANY = st.text(max_size=30) | st.text("abc-/. ';\t", max_size=30)
SEGMENTS = st.text("ab-. ", min_size=1, max_size=5).filter(lambda name: name not in (".", ".."))
FOLDERS = st.lists(SEGMENTS, max_size=4).map(lambda parts: FolderPath("/".join(["data", *parts])))
PATHS = st.lists(st.text("ab-. ", max_size=5), min_size=1, max_size=5).map(
    lambda parts: "/".join(["data", *parts])
)


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


# -- the types of paths that a store gets --

ODD = [
    "data/ana/../bob",
    "data/../x",
    "data/./x",
    "data/x/./y",
    "data/..",
    "data/x/..",
    "data/.",
    "data//x",
]
TYPES = (ObjectPath, FolderPath, ObjectPrefix)


@pytest.mark.parametrize("make", TYPES)
@pytest.mark.parametrize("path", ODD)
def test_no_part_is_empty_or_dots(make, path):
    with pytest.raises(IllegalPathError):
        make(path)


@given(ANY | st.builds("data/{}".format, st.text("./a", max_size=8)), st.sampled_from(TYPES))
def test_a_path_has_one_meaning_at_every_store(text, make):
    """What a store that resolves paths makes of it is what it says."""
    try:
        path = make(text)
    except IllegalPathError:
        return
    assert _is_legal(f"{path.rstrip('/')}/x")
    assert posixpath.normpath(path) == path.rstrip("/")
    assert make(path) == path
    assert path.rstrip("/") == text.strip().rstrip("/") or path.rstrip("/") == text.lstrip().rstrip(
        "/"
    )
    assert {ObjectPath: not path.endswith("/"), FolderPath: path.endswith("/")}.get(
        make, "/" in path
    )


@given(PATHS)
def test_every_other_legal_path_is_an_object_or_a_folder(path):
    for make, parts, example in (
        (ObjectPath, path, path),
        (FolderPath, path.removesuffix("/"), f"{path.removesuffix('/')}/x"),
    ):
        is_odd = any(part in ("", ".", "..") for part in parts.split("/"))
        if is_odd or not _is_legal(example):
            with pytest.raises(IllegalPathError):
                make(path)
        else:
            assert make(path).rstrip("/") == path.rstrip("/")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "data/x/",
            "Path 'data/x/' may not end in '/', for it names a folder: name an object in it",
        ),
        (
            "data/a/../b",
            "Path 'data/a/../b' may not have the part '..': name what is meant without it",
        ),
        ("data", "Path 'data' must start with the s3 bucket and include a key"),
    ],
)
def test_an_object_has_a_name(path, message):
    with pytest.raises(IllegalPathError, match=f"^{re.escape(message)}$"):
        ObjectPath(path)


def test_the_message_names_the_index():
    with pytest.raises(IllegalPathError, match=r"^Path 'data/\.\./x' at index 3 may not have"):
        ObjectPath("data/../x", index=3)
    with pytest.raises(IllegalPathError, match=r"^Path 'data/x/' at index 3 may not end"):
        ObjectPath("data/x/", index=3)


@given(FOLDERS, SEGMENTS, SEGMENTS)
def test_below_is_by_whole_segments(folder, segment, other):
    path = folder.file(segment, other)
    assert path.startswith(folder)
    assert path.startswith(folder.folder(segment))
    assert folder.folder(segment).startswith(folder)
    # A folder's own key, and one that only begins like it, are not below it.
    assert not folder.rstrip("/").startswith(folder)
    assert not f"{folder.rstrip('/')}{segment}".startswith(folder)


@pytest.mark.parametrize("name", ["", ".", "..", "a/../b", "a//b", "it's"])
def test_no_name_leads_out_of_a_folder(name):
    folder = FolderPath("data/ana")
    with pytest.raises(IllegalPathError):
        folder.file(name)
    if name:
        with pytest.raises(IllegalPathError):
            folder.folder(name)


def test_above_an_object_are_folders():
    assert above("data/a/b/c") == ["data/a", "data/a/b"]
    assert above("data/a") == []


def test_prefixes():
    assert [
        ObjectPrefix(text) for text in ("data", "data/", " data/an", "data/ana/", "data/.a")
    ] == [
        "data/",
        "data/",
        "data/an",
        "data/ana/",
        "data/.a",
    ]
    assert [FolderPath(text) for text in ("data", "data/", " data/ana")] == [
        "data/",
        "data/",
        "data/ana/",
    ]


def test_no_port_takes_text_for_a_path():
    """Only the types can be given to an object store: there is no other way in."""
    for name, method in inspect.getmembers(ObjectStore, inspect.isfunction):
        for parameter in inspect.signature(method).parameters.values():
            if parameter.name in {"path", "paths", "prefix", "folder"}:
                assert parameter.annotation in {
                    "ObjectPath",
                    "Sequence[ObjectPath]",
                    "ObjectPrefix",
                    "FolderPath",
                }, name


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
