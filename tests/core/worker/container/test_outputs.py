"""The listing of an output folder, and the rules for object paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cts_core.object_paths import check_path
from cts_core.worker.container.outputs import collect_outputs, path_problem

_name = st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..")
)


@pytest.mark.slow
@given(st.lists(_name, min_size=1, max_size=30))
@example(["x" * 60] * 20)
@example(["a'b"])
@example(["a;b"])
@example(["a\x85b"])
@example(["\udcff"])
def test_path_rules_agree_with_the_services(names: list[str]) -> None:
    path = "bucket/" + "/".join(names)
    try:
        check_path(path)
        fine = True
    except ValueError:
        # The service accepts a name of white space only as a key that has a folder.
        fine = False
    if not path.removeprefix("bucket/").strip():
        return
    assert (path_problem(path) is None) == fine


def test_regular_files_in_order(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a/b/c", "c d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "in" / "empty").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    outputs = collect_outputs(str(tmp_path))
    assert outputs.files == ["a/b/c", "a/z", "b", "c d"]
    assert outputs.irregular == ["a/up"]
    assert outputs.empty == ["a/in/empty", "empty"]


def test_output_folder_itself_is_not_named_as_empty(tmp_path: Path) -> None:
    assert collect_outputs(str(tmp_path)).empty == []


def test_folder_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(NotADirectoryError, match="replaced its output folder"):
        collect_outputs(str(tmp_path / "link"))
