"""The files by which servers and workers communicate."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest

from cts_core.worker.container_folder import CLAIM, EVENTS, LOCK, RESULT, ContainerFolder
from cts_core.worker.files import remove_tree
from cts_core.worker.local import main


@pytest.fixture
def folder(tmp_path: Path) -> ContainerFolder:
    return ContainerFolder(str(tmp_path))


def test_one_lock(folder: ContainerFolder) -> None:
    lock = folder.hold_lock()
    assert lock is not None
    assert folder.hold_lock() is None
    os.close(lock)
    again = folder.hold_lock()
    assert again is not None
    os.close(again)


def test_one_claim(folder: ContainerFolder) -> None:
    assert folder.claim()
    assert not folder.claim()
    assert folder.read_claim()["pid"] == os.getpid()


def test_torn_claim_is_a_claim(folder: ContainerFolder) -> None:
    Path(folder.file(CLAIM)).write_text('{"pid": 1')
    assert folder.is_claimed()
    assert not folder.claim()
    assert folder.read_claim() == {}


def test_lost_is_claimed_without_a_worker_or_a_result(folder: ContainerFolder) -> None:
    lock = folder.hold_lock()
    assert lock is not None
    folder.claim()
    assert not folder.is_lost()
    os.close(lock)
    assert folder.is_lost()
    folder.write_result({"state": "complete"})
    assert not folder.is_lost()


def test_lost_without_a_lock_file(folder: ContainerFolder) -> None:
    folder.claim()
    assert not Path(folder.file(LOCK)).exists()
    assert folder.is_lost()


def test_events(folder: ContainerFolder) -> None:
    assert folder.read_events() == []
    folder.append_event({"state": "job_submitting"})
    folder.append_event({"state": "upload_submitting", "exit_code": 0})
    events = folder.read_events()
    assert [event["state"] for event in events] == ["job_submitting", "upload_submitting"]
    assert events[1]["exit_code"] == 0


@pytest.mark.parametrize("torn", ["{", '{"state": "job_submi', '{"state": "x"}'])
def test_torn_last_event_is_ignored(folder: ContainerFolder, torn: str) -> None:
    folder.append_event({"state": "job_submitting"})
    with Path(folder.file(EVENTS)).open("a") as file:
        file.write(torn)
    assert [event["state"] for event in folder.read_events()] == ["job_submitting"]


def test_result_is_whole_or_absent(folder: ContainerFolder) -> None:
    assert folder.read_result() is None
    folder.write_result({"state": "complete"})
    result = folder.read_result()
    assert result is not None
    assert result["state"] == "complete"
    json.dumps(result)


def test_remove_tree_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "tree" / "locked").mkdir(parents=True)
    (tmp_path / "tree" / "locked" / "file").touch()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "tree" / "locked").chmod(0)
    (tmp_path / "tree").chmod(0)
    remove_tree(str(tmp_path / "tree"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove_tree(str(tmp_path / "link"))
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


@pytest.mark.slow
def test_remove_tree_of_any_depth(tmp_path: Path) -> None:
    # Deeper than Python can recurse, and than a path can be long.
    top = tmp_path / "tree"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(2_200):
        os.close(os.open("file", os.O_CREAT, dir_fd=folder))
        os.mkdir("d", dir_fd=folder)
        outer, folder = folder, os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(outer)
    os.fchmod(folder, 0)
    os.close(folder)
    remove_tree(str(top))
    assert not top.exists()


class _FullDisk(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_result_is_retried_on_a_full_disk(
    folder: ContainerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [errno.ENOSPC, errno.EDQUOT]

    def fsync(_: int) -> None:
        if left:
            raise OSError(left.pop(), "no space")

    monkeypatch.setattr(main, "_FIRST_DELAY", 0.0)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(sys, "stderr", _FullDisk())
    main._write_result(folder, {"state": "complete"})
    assert (folder.read_result() or {})["state"] == "complete"
    assert [path.name for path in Path(folder.path).iterdir()] == [RESULT]
