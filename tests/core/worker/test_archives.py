"""Unpacking: the resulting files, and the limits of untrusted archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cts_core.worker import archives as module
from cts_core.worker.archives import (
    Budget,
    FileSum,
    Limits,
    NoRoomError,
    StoppedError,
    UnpackError,
    unpack,
)

LIMITS = Limits(bytes=10_000_000, entries=100, free=0)


def entry(name: str, content: bytes = b"x", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, b"", type=kind, linkname=to)


def packed(entries: Iterable[tuple[tarfile.TarInfo, bytes]], **kwargs) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1, **kwargs) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the target folder, beside which lies a file that must not be touched."""
    (tmp_path / "outside").write_text("untouched")
    inner = tmp_path / "in" / "here"
    inner.mkdir(parents=True)
    return inner


def run(folder: Path, data: bytes, name: str = "b/x.tar.gz", **limits) -> dict[str, FileSum]:
    (folder / "archive").write_bytes(data)
    budget = Budget(str(folder), Limits(**{**LIMITS.__dict__, **limits}))
    return unpack(str(folder / "archive"), name, str(folder / "data"), budget)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_nothing_outside(folder: Path) -> None:
    assert (folder.parent.parent / "outside").read_text() == "untouched"
    assert names_in(folder.parent.parent) == {"in", "outside"}
    assert names_in(folder.parent) == {"here"}
    assert names_in(folder) <= {"archive", "data"}


def test_unpacked_files(folder: Path):
    sums = run(
        folder,
        packed(
            [
                entry("./", b"", type=tarfile.DIRTYPE),
                entry("./a/b.txt", b"hello", mode=0o6777),
                entry("a/run", b"#!", mode=0o755),
                entry("empty", b"", type=tarfile.DIRTYPE),
                link("a/same", "b.txt"),
                link("up", "a/../a/b.txt"),
                link("again", "a/b.txt", tarfile.LNKTYPE),
            ]
        ),
    )
    data = folder / "data"
    assert sums == {
        "a/b.txt": FileSum(hashlib.md5(b"hello").hexdigest(), 5),
        "a/run": FileSum(hashlib.md5(b"#!").hexdigest(), 2),
        "again": FileSum(hashlib.md5(b"hello").hexdigest(), 5),
    }
    for name in ("a/b.txt", "a/same", "up", "again"):
        assert (data / name).read_text() == "hello"
    assert (data / "empty").is_dir()
    # Neither set-user-id nor writable.
    assert (data / "a/b.txt").stat().st_mode & 0o7777 == 0o555
    assert (data / "up").is_symlink()


def test_a_single_file(folder: Path):
    data = gzip.compress(b"one") + gzip.compress(b"two")
    assert run(folder, data, "b/k/x.fa.gz") == {
        "x.fa": FileSum(hashlib.md5(b"onetwo").hexdigest(), 6)
    }
    assert (folder / "data" / "x.fa").read_bytes() == b"onetwo"


@pytest.mark.parametrize("name", ["b/.gz", "b/..gz", "b/...gz"])
def test_a_single_file_without_a_name(folder: Path, name: str):
    with pytest.raises(UnpackError, match="no name"):
        run(folder, gzip.compress(b"x"), name)


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([entry("/etc/x")], "outside of it"),
        ([entry("../x")], "outside of it"),
        ([entry("a/../../x")], "outside of it"),
        ([entry("a/..")], "outside of it"),
        ([entry("../../outside", b"", type=tarfile.DIRTYPE)], "outside of it"),
        ([link("a", "/etc"), entry("a/x")], "outside of it"),
        ([link("a", "../../../.."), entry("a/x")], "outside of it"),
        ([link("a", ".."), entry("b")], "outside of it"),
        ([link("d/a", "../.."), entry("b")], "outside of it"),
        ([link("a", "x/" * 2000), entry("b")], "too long"),
        ([entry("d/e/f"), link("l", "d/e"), link("out", "L/../../..")], "outside of it"),
        ([link("a", ""), entry("b")], "outside of it"),
        # Each stays inside by its text, but both together lead outside.
        ([entry("d/e/f"), link("d/up", "e/.."), link("out", "d/up/../..")], "outside of it"),
        ([entry("d/e/f"), link("l", "d/e"), link("out", "l/../../..")], "outside of it"),
        ([entry("d/f"), link("l", "."), link("m", "l/l/l/.."), entry("z")], "outside of it"),
        ([entry("d/f"), link("l", "d"), entry("l/x")], "twice"),
        ([entry("a"), entry("a")], "twice"),
        ([entry("a"), entry("a/b")], "twice"),
        ([entry("a/b"), entry("a")], "twice"),
        ([entry("a"), link("a", "b")], "twice"),
        ([link("a", "b"), link("a", "b", tarfile.LNKTYPE)], "twice"),
        ([entry("Name"), entry("name")], "one file on some systems"),
        ([entry("D/a"), entry("d/b")], "one file on some systems"),
        ([entry("D/a"), link("d", "x")], "one file on some systems"),
        ([entry("e\u0301"), entry("\u00e9")], "one file on some systems"),
        ([entry("stra\u00dfe"), entry("strasse")], "one file on some systems"),
        ([link("a", "../outside", tarfile.LNKTYPE)], "outside of it"),
        ([link("a", "/etc/passwd", tarfile.LNKTYPE)], "outside of it"),
        ([link("a", "no", tarfile.LNKTYPE)], "no file before it"),
        ([link("s", "x"), link("a", "s", tarfile.LNKTYPE)], "no file before it"),
        ([entry("d/x"), link("a", "d", tarfile.LNKTYPE)], "no file before it"),
        ([entry("dev", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "a device"),
        ([entry("dev", b"", type=tarfile.BLKTYPE)], "a device"),
        ([entry("pipe", b"", type=tarfile.FIFOTYPE)], "a device"),
        ([entry("d", b"", type=tarfile.DIRTYPE)], "no files"),
        ([], "no files"),
        ([entry(".")], "no name of a file"),
        ([entry("a\nb")], "control characters"),
        ([entry("a" * 256)], "too long"),
        ([entry("/".join(["a" * 200] * 30))], "too long"),
    ],
)
def test_forbidden_entries(folder: Path, entries, match: str):
    with pytest.raises(UnpackError, match=match):
        run(folder, packed(entries))
    check_nothing_outside(folder)


def test_undecodable_name(folder: Path):
    data = packed([entry("a\udcff")], format=tarfile.GNU_FORMAT, errors="surrogateescape")
    with pytest.raises(UnpackError, match="not UTF-8"):
        run(folder, data)


def test_folders_without_end(folder: Path):
    assert run(folder, packed([entry("d/" * 99 + "x")]))
    shutil.rmtree(folder / "data")
    with pytest.raises(UnpackError, match="more than 100 folders deep"):
        run(folder, packed([entry("d/" * 1500 + "x")]))
    shutil.rmtree(folder / "data")


def chain(length: int) -> bytes:
    links = [link(f"l{number}", f"l{number + 1}") for number in range(length)]
    return packed([*links, entry(f"l{length}")])


def test_as_many_links_in_a_row_as_the_kernel_follows(folder: Path):
    run(folder, chain(40))
    assert (folder / "data" / "l0").read_bytes() == (folder / "data" / "l40").read_bytes()


@pytest.mark.parametrize(
    "archive", [chain(41), chain(2000), packed([link("a", "b"), link("b", "a"), entry("x")])]
)
def test_more_links_in_a_row_than_the_kernel_follows(folder: Path, archive: bytes):
    with pytest.raises(UnpackError, match="through too many other links"):
        run(folder, archive, entries=3000)
    check_nothing_outside(folder)


def test_too_many_links(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MAX_LINKS", 3)
    links = [link(f"l{number}", "x") for number in range(4)]
    assert run(folder, packed([entry("x"), *links[:3]]))
    shutil.rmtree(folder / "data")
    with pytest.raises(UnpackError, match="more than 3 symbolic links"):
        run(folder, packed([entry("x"), *links]))


def test_name_too_long_for_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MAX_NAME", 10_000)
    with pytest.raises(UnpackError, match="name that this disk does not take"):
        run(folder, packed([entry("x" * 300)]))


def test_too_many(folder: Path):
    entries = [entry(f"{n}", b"", type=tarfile.DIRTYPE) for n in range(101)]
    with pytest.raises(UnpackError, match="more than 100 files and folders"):
        run(folder, packed(entries))
    assert len(names_in(folder / "data")) == 100


def test_folders_on_the_way_are_counted(folder: Path):
    with pytest.raises(UnpackError, match="more than 50 files and folders"):
        run(folder, packed([entry("/".join("a" * 60))]), entries=50)


@pytest.mark.parametrize("name", ["b/x.tar.gz", "b/x.gz"])
def test_too_large(folder: Path, name: str):
    bomb = packed([entry("a", bytes(20_000_000))])
    assert len(bomb) < 100_000
    with pytest.raises(UnpackError, match="more than 10000000 bytes"):
        run(folder, bomb, name)
    assert sum(f.stat().st_size for f in (folder / "data").iterdir()) <= 10_000_000


def test_sparse_files_count_with_their_holes(folder: Path):
    source = folder / "sparse"
    with source.open("wb") as file:
        file.truncate(50_000_000)
    # As GNU tar writes it: a header of type S with the size including holes.
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    info.size = 0
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 50_000_000
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(UnpackError, match="more than 10000000 bytes"):
        run(folder, gzip.compress(bytes(header) + bytes(1024)))


def test_a_description_without_end(folder: Path):
    with pytest.raises(UnpackError, match="too long"):
        run(folder, packed([entry("a", pax_headers={"comment": "x" * 2_000_000})]))


def test_descriptions_of_descriptions(folder: Path):
    # Each announces another one, which the parser reads recursively.
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    header.size = 12
    block = header.tobuf(tarfile.USTAR_FORMAT) + b"12 path=abc\n".ljust(512, b"\0")
    with pytest.raises(UnpackError, match=r"damaged|too long"):
        run(folder, gzip.compress(block * 5_000))


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(b"no tar"), gzip.compress(b"x" * 512)],
    ids=["nothing", "no gzip", "no tar", "a block"],
)
def test_not_an_archive(folder: Path, data: bytes):
    with pytest.raises(UnpackError, match=r"damaged|no files"):
        run(folder, data)


def test_truncated_archive(folder: Path):
    data = packed([entry("a", os.urandom(3000)), entry("b", os.urandom(3000))])
    for number, end in enumerate(range(0, len(data), 97)):
        place = folder / str(number)
        place.mkdir()
        with pytest.raises(UnpackError):
            run(place, data[:end])
    # The tar archive is truncated, and the gzip stream complete.
    tar = gzip.decompress(data)
    with pytest.raises(UnpackError):
        run(folder, gzip.compress(tar[:2000]))


def test_trailing_data(folder: Path, monkeypatch: pytest.MonkeyPatch):
    data = gzip.compress(gzip.decompress(packed([entry("a")])) + bytes(5_000_000))
    assert set(run(folder, data)) == {"a"}
    monkeypatch.setattr(module, "_MAX_TAIL", 1 << 20)
    other = folder / "other"
    other.mkdir()
    with pytest.raises(UnpackError, match="goes on after its end"):
        run(other, data)


def test_free_space_is_reserved(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_CHECK_ROOM_EVERY", 1000)
    with pytest.raises(NoRoomError, match="are kept free"):
        run(folder, packed([entry("a", bytes(2000))]), free=1 << 62)


def test_a_full_disk(folder: Path):
    # A device that is always full.
    (folder / "full").mkdir()
    budget = Budget(str(folder), LIMITS)
    source = io.BytesIO(b"x" * 10)
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("wb", 0) as out:
        out.write(source.read())
    with pytest.raises(NoRoomError):
        budget.check_room(more=1 << 62)


def test_stopped(folder: Path):
    (folder / "archive").write_bytes(packed([entry("a")]))
    with pytest.raises(StoppedError):
        unpack(
            str(folder / "archive"),
            "x.tar.gz",
            str(folder / "data"),
            Budget(str(folder), LIMITS, lambda: True),
        )


names = st.text("ab./A\u00e9", min_size=1, max_size=8)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])


@pytest.mark.slow
@given(st.lists(st.tuples(names, names, kinds), max_size=8))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_archives_stay_inside(tmp_path_factory: pytest.TempPathFactory, entries):
    top = tmp_path_factory.mktemp("any")
    (top / "outside").write_text("untouched")
    folder = top / "in" / "here"
    folder.mkdir(parents=True)
    try:
        sums = run(folder, packed(entry(n, b"", type=k, linkname=t) for n, t, k in entries))
    except UnpackError:
        sums = {}
    check_nothing_outside(folder)
    root = (folder / "data").resolve()
    if sums:
        for path in root.rglob("*"):
            assert path.resolve().is_relative_to(root)
