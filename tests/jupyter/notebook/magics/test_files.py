"""``%cts files``, ``put``, ``get``, ``checksum`` and ``verify`` against a real service."""

from __future__ import annotations

import errno
import os

import pytest

from cts_core.worker.checksum import Crc64Nvme
from cts_jupyter.client import CTSClient
from cts_jupyter.notebook import each


def crc(text):
    made = Crc64Nvme()
    made.update(text.encode())
    return made.text()


def test_put_and_files(shell, inputs, place):
    table = shell(f"%cts files {place}")
    assert [file.path for file in table] == [f"{inputs}{n}.txt" for n in "abc"]
    assert [file.crc64nvme for file in table] == [crc(n) for n in "abc"]
    assert crc("a") in repr(table)
    assert len(shell(f"%cts files {place} -g '[ab].txt'")) == 2
    assert "No files like *.fna" in repr(shell(f"%cts files {place} -g *.fna"))
    assert "No files without a checksum" in repr(shell(f"%cts files {place} --missing"))
    assert "cannot be read" in shell.refusal(f"%cts files {place} -g '[z-a]'")
    assert list(table.to_frame()["size"]) == [1, 1, 1]


def test_put_takes_patterns_and_folders(shell, place, tmp_path):
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "x 1.txt").write_text("x")
    (tmp_path / "tree" / "y.txt").write_text("y")
    shell(f"%cts put tree {place}")
    assert [f.path for f in shell(f"%cts files {place}")] == [
        f"{place}tree/deep/x 1.txt",
        f"{place}tree/y.txt",
    ]
    shell(f"%cts put 'tree/**/*.txt' {place}flat/")
    assert [f.path for f in shell(f"%cts files {place}flat/")] == [
        f"{place}flat/x 1.txt",
        f"{place}flat/y.txt",
    ]
    assert "no local file" in shell.refusal(f"%cts put nothing* {place}")
    assert "ending in '/'" in shell.refusal(f"%cts put tree {place}x")


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("tree", "tree/"),
        ("tree/", ""),
        ("tree/.", ""),
        ("./tree", "tree/"),
        ("$tree", "tree/"),
        ("tree/deep/", None),
    ],
)
def test_slash_after_a_folder_leaves_out_its_name(shell, place, tmp_path, word, base):
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "x").write_text("x")
    (tmp_path / "tree" / ".y").write_text("y")
    shell.names["tree"] = tmp_path / "tree"
    shell(f"%cts put {word} {place}")
    names = ["x"] if base is None else [f"{base}.y", f"{base}deep/x"]
    assert [f.path for f in shell(f"%cts files {place}")] == [f"{place}{name}" for name in names]


def test_put_of_a_folder_here_keeps_no_name(shell, place, tmp_path):
    (tmp_path / "x").write_text("x")
    shell(f"%cts put . {place}")
    assert [f.path for f in shell(f"%cts files {place}")] == [f"{place}x"]


def test_put_follows_links_and_names_empty_folders(shell, place, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "x").write_text("x")
    (tmp_path / "tree" / "none" / "at all").mkdir(parents=True)
    (tmp_path / "tree" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree" / "file").symlink_to(tmp_path / "elsewhere" / "deep" / "x")
    ran = shell.run(f"%cts put tree {place}")
    assert [f.path for f in ran.value] == [f"{place}tree/file", f"{place}tree/folder/deep/x"]
    assert "no empty folders: tree/none/at all" in ran.out


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("nowhere"), "a link to nothing"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to(path.parent.parent), "a link to a folder that it is in"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.with_name("it's").touch(), "may not contain"),
    ],
)
def test_put_of_what_cannot_be_stored_names_it_and_stores_nothing(
    shell, place, tmp_path, make, reason
):
    (tmp_path / "tree" / "in").mkdir(parents=True)
    (tmp_path / "tree" / "a").write_text("a")
    make(tmp_path / "tree" / "in" / "bad")
    for word in ("tree", "tree/in/"):
        refusal = shell.refusal(f"%cts put {word} {place}")
        assert refusal.startswith("Nothing was stored, as this cannot be: tree/in/")
        assert reason in refusal
    assert len(shell(f"%cts files {place}")) == 0


def test_put_of_a_device_is_refused(shell, place):
    assert "not a regular file" in shell.refusal(f"%cts put /dev/null {place}")


def test_file_that_the_service_refuses_does_not_end_the_rest(shell, service, place, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    (service.objects / place / "b" / "below").mkdir(parents=True)
    refusal = shell.refusal(f"%cts put a b c {place}")
    assert refusal.startswith("1 of 3 files not stored: b (There is something at")
    assert [f.path for f in shell(f"%cts files {place}")] == [f"{place}a", f"{place}c"]


def test_file_name_that_is_not_unicode_is_refused(shell, place, tmp_path):
    name = shell.names["name"] = "b\udcff"
    (tmp_path / name).write_text("x")
    for line in ("put $name {place}", "files {place}{name}/", "verify {place}{name}"):
        shell.names["place"] = place
        assert "not valid unicode text" in shell.refusal(f"%cts {line}")


def test_put_is_idempotent_and_overwrites_only_on_request(shell, inputs, place, tmp_path):
    assert "3 files stored before, unchanged" in repr(shell(f"%cts put a.txt b.txt c.txt {inputs}"))
    (tmp_path / "b.txt").write_text("other")
    said = shell.refusal(f"%cts put a.txt b.txt {inputs}")
    assert f"{inputs}b.txt" in said
    assert f"{inputs}a.txt" not in said
    shell(f"%cts put a.txt b.txt {inputs} --overwrite")
    assert shell(f"%cts files {inputs}b.txt")[0].crc64nvme == crc("other")


def test_get_verifies_and_overwrites_only_on_request(shell, inputs, tmp_path):
    ran = shell.run(f"%cts get {inputs} got/")
    assert [path.read_text() for path in ran.value] == ["a", "b", "c"]
    assert "3 files downloaded" in ran.out
    assert "3 there already" in shell.run(f"%cts get {inputs} got/").out
    (tmp_path / "got" / "b.txt").write_text("mine")
    assert "got/b.txt" in shell.refusal(f"%cts get {inputs}b.txt got/")
    assert (tmp_path / "got" / "b.txt").read_text() == "mine"
    shell(f"%cts get {inputs}b.txt got/ --overwrite")
    assert (tmp_path / "got" / "b.txt").read_text() == "b"
    shell(f"%cts put b.txt {inputs}other/")
    assert "both become" in shell.refusal(f"%cts get {inputs}b.txt {inputs}other/ got/")
    assert len(shell(f"%cts get {inputs}b.txt {inputs} got/")) == 4


@pytest.mark.parametrize("length", [240, 241, 250, 255])
def test_name_of_any_length_that_a_disk_takes_is_fetched(shell, place, tmp_path, length):
    name = "x" * length
    (tmp_path / name).write_text("long")
    shell(f"%cts put {name} {place}")
    (got,) = shell(f"%cts get {place} got/")
    assert (got.name, got.read_text()) == (name, "long")
    assert [path.name for path in (tmp_path / "got").iterdir()] == [name]


def test_file_that_cannot_be_fetched_does_not_end_the_rest(shell, service, inputs, tmp_path):
    (service.objects / inputs / "a.txt").write_text("tampered")
    (tmp_path / "got" / "b.txt").mkdir(parents=True)
    ran = shell.run(f"%cts get {inputs} got/ --overwrite")
    assert "1 file downloaded" in ran.out
    assert (tmp_path / "got" / "c.txt").read_text() == "c"
    said = str(ran.error)
    assert said.startswith("2 of 3 files not downloaded: ")
    assert f"{inputs}a.txt (The bytes" in said
    assert f"{inputs}b.txt (Is a directory)" in said
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["b.txt", "c.txt"]


def test_full_disk_ends_get_at_once(shell, inputs, monkeypatch):
    asked = []

    def download(_, path, target, *, on_piece):
        asked.append(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(each, "AT_ONCE", 1)
    monkeypatch.setattr(CTSClient, "download", download)
    assert "No space left on device" in shell.refusal(f"%cts get {inputs} got/")
    assert asked == [f"{inputs}a.txt"]


def test_corrupted_object_is_named_and_not_downloaded(shell, service, inputs):
    (service.objects / inputs / "b.txt").write_text("tampered")
    (service.objects / inputs / "c.txt").unlink()
    refusal = shell.refusal(f"%cts verify {inputs}a.txt {inputs}b.txt {inputs}c.txt -o verdicts")
    assert [verdict.is_good for verdict in shell.names["verdicts"]] == [True, False, False]
    assert refusal.startswith("2 of 3 files not verified")
    assert f"{inputs}b.txt (CHANGED" in refusal
    assert f"{inputs}c.txt (there is no such file" in refusal
    assert [v.is_good for v in shell(f"%cts verify {inputs}a.txt")] == [True]
    assert "CHANGED" in repr(shell(f"%cts files {inputs}"))
    assert shell.run(f"%cts get {inputs}b.txt got/").error is not None


def test_checksums_are_shown_and_written(shell, service, inputs):
    (service.objects / inputs / "d.txt").write_text("by hand")
    table = shell(f"%cts checksum {inputs}")
    assert [file.crc64nvme for file in table] == [crc("a"), crc("b"), crc("c"), None]
    assert "--write" in repr(table)
    assert "no checksum" in shell.refusal(f"%cts verify {inputs}d.txt")
    table = shell(f"%cts checksum {inputs} --write")
    assert table[3].crc64nvme == crc("by hand")
    assert "1 checksum computed and stored" in repr(table)
    assert shell(f"%cts verify {inputs}")[3].is_good
    assert "was not found" in shell.refusal(f"%cts checksum {inputs}none")


def test_checksum_that_cannot_be_stored_does_not_end_the_rest(shell, service, inputs, monkeypatch):
    for name in ("d.txt", "e.txt"):
        (service.objects / inputs / name).write_text(name)
    really = CTSClient.write_checksum

    def write_checksum(client, path, *, etag):
        return really(client, path, etag="another" if path.endswith("d.txt") else etag)

    monkeypatch.setattr(CTSClient, "write_checksum", write_checksum)
    refusal = shell.refusal(f"%cts checksum {inputs} --write")
    assert refusal.startswith(f"1 of 2 checksums not stored: {inputs}d.txt (")
    assert [f.path for f in shell(f"%cts files {inputs} --missing")] == [f"{inputs}d.txt"]


def test_link_in_the_folder_of_objects_is_named_wherever_it_is_left_out(
    shell, service, inputs, place
):
    (service.objects / inputs / "link.txt").symlink_to("a.txt")
    left_out = f"Left out, as a link or a special file is no object: {inputs}link.txt"
    for line in (f"files {place}", f"verify {inputs}", f"checksum {inputs}", f"get {inputs} got/"):
        ran = shell.run(f"%cts {line}")
        assert left_out in ran.out, line
        assert len(ran.value) == 3
    ran = shell.run(
        f"%cts check host/tool -i {inputs} --output-dir {place}o/ --memory 50MB --runtime 1m"
    )
    assert left_out in ran.out
    assert "Left out" not in shell.run(f"%cts files {inputs}b").out


def test_empty_folder_has_its_own_text(shell, place):
    assert f"No files below {place}none/" in repr(shell(f"%cts files {place}none/"))


def test_pattern_in_the_place_of_a_folder_leads_to_one_that_works(shell, inputs):
    found = shell(f"%cts files {inputs}*.txt")
    assert len(found) == 0
    assert f"%cts files {inputs} -g '*.txt' -o found, and then $found" in repr(found)
    assert len(shell(f"%cts files {inputs} -g '*.txt' -o found")) == 3
    assert len(shell("%cts verify $found")) == 3
