"""The mapping of mount points for host programs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.worker.runtimes.host import map_mounts

MOUNTS = {"/input_files": "/job/in", "/output_files": "/job/out"}
_name = st.text(st.sampled_from("abz09._-é"), min_size=1, max_size=8)
_path = st.lists(_name, min_size=1, max_size=4).map("/".join)
_separator = st.sampled_from([",", "=", ":", ";", " ", "\n", "\t", "|", '"', "'", "(", ")"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/input_files", "/job/in"),
        ("/input_files/", "/job/in/"),
        ("/input_files/a", "/job/in/a"),
        ("--in=/input_files/a", "--in=/job/in/a"),
        ("/input_files/a,/input_files/b", "/job/in/a,/job/in/b"),
        ("/input_files:/output_files", "/job/in:/job/out"),
        ("file\n/input_files/a\n/input_files/b\n", "file\n/job/in/a\n/job/in/b\n"),
        ("/input_files2", "/input_files2"),
        ("/input_files.bak/a", "/input_files.bak/a"),
        ("/input_files-1", "/input_files-1"),
        ("/data/input_files", "/data/input_files"),
        ("data/input_files/a", "data/input_files/a"),
        ("./input_files/a", "./input_files/a"),
        ("~/input_files", "~/input_files"),
        ("input_files", "input_files"),
        ("/INPUT_FILES", "/INPUT_FILES"),
        ("", ""),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert map_mounts(text, MOUNTS) == expected


def test_the_longer_of_nested_mount_points_wins() -> None:
    mounts = {"/data": "/job/in", "/data/out": "/job/out"}
    assert (
        map_mounts("/data/out/x,/data/x,/data/outer", mounts)
        == "/job/out/x,/job/in/x,/job/in/outer"
    )


def test_a_slash_at_the_end_of_a_mount_point_means_nothing() -> None:
    assert map_mounts("/in/a", {"/in/": "/job/in"}) == "/job/in/a"


def test_replacements_are_not_mapped_again() -> None:
    mounts = {"/in": "/out/in", "/out": "/x"}
    assert map_mounts("/in/a,/out/b", mounts) == "/out/in/a,/x/b"


def test_regular_expression_characters() -> None:
    assert map_mounts("/a.b/x,/aXb/x", {"/a.b": "\\1\\g<0>"}) == "\\1\\g<0>/x,/aXb/x"


@given(st.text(st.characters(blacklist_characters="/")))
def test_text_without_a_mount_point_stays(text: str) -> None:
    assert map_mounts(text, MOUNTS) == text


@given(mount=st.sampled_from(list(MOUNTS)), path=_path)
def test_paths_below_a_mount_point_move(mount: str, path: str) -> None:
    assert map_mounts(f"{mount}/{path}", MOUNTS) == f"{MOUNTS[mount]}/{path}"


@given(mount=st.sampled_from(list(MOUNTS)), name=_name)
def test_longer_names_are_other_folders(mount: str, name: str) -> None:
    assert map_mounts(f"{mount}{name}", MOUNTS) == f"{mount}{name}"
    assert map_mounts(f"/{name}{mount}", MOUNTS) == f"/{name}{mount}"


@pytest.mark.slow
@given(
    parts=st.lists(st.tuples(st.sampled_from([*MOUNTS, "/other"]), _path), min_size=1, max_size=4),
    separator=_separator,
)
def test_each_of_several_paths_is_mapped_by_itself(parts, separator) -> None:
    paths = [f"{mount}/{path}" for mount, path in parts]
    expected = separator.join(map_mounts(path, MOUNTS) for path in paths)
    assert map_mounts(separator.join(paths), MOUNTS) == expected
