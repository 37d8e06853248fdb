"""What ``%cts put`` finds below the words of a line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from cts_core.worker.files import remove_tree
from cts_jupyter.notebook.magics.local_files import find_local_files


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "good").touch()
    really = Path.iterdir

    def iterdir(path):
        if path.name == "folder":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(path)

    # The tests may run as root, who may read everything.
    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(os, "access", lambda path, _: path.name != "file")
    found = find_local_files([f"{tmp_path}/"])
    assert found.files == [(tmp_path / "good", "good")]
    assert found.refused == [
        f"{tmp_path}/file (no permission to read it)",
        f"{tmp_path}/folder (Permission denied)",
    ]


def test_folders_may_be_deeper_than_pythons_stack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):
        Path("d").mkdir()
        os.chdir("d")
    Path("x").touch()
    os.chdir(tmp_path)
    try:
        (file,) = find_local_files(["d/"]).files
    finally:
        remove_tree("d")
    assert file[1] == "d/" * 1499 + "x"


def test_linked_folder_is_found_each_time_and_a_loop_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").touch()
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "b").symlink_to("a")
    found = find_local_files([f"{tmp_path}/"])
    assert [name for _, name in found.files] == ["a/x", "b/x"]
    assert found.refused == [
        f"{tmp_path}/{name}/up (a link to a folder that it is in)" for name in "ab"
    ]


def test_name_that_is_no_text_can_be_printed(tmp_path):
    (tmp_path / "b\udcff").symlink_to("nowhere")
    assert find_local_files([f"{tmp_path}/"]).refused == [f"{tmp_path}/b\\xff (a link to nothing)"]
