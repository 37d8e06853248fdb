"""The object directory on disk: crashes, changed files, full disks and paths that lead outside."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cts_core.worker.checksum import crc64nvme_text
from cts_core.worker.objects import directory as disk
from cts_core.worker.objects.directory import Directory
from cts_core.worker.objects.sidecar import ABANDONED_SECONDS
from cts_core.worker.units import CHUNK_SIZE
from tests.harness.disk import fill, small_disk

OLD, NEW = b"the old bytes", b"the newer bytes"
# All calls that change the disk, except writes of bytes: a crash between two of these equals a crash at one.
STEPS = ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "utime", "fsync")


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def directory(root) -> Directory:
    directory = Directory(str(root))
    directory.create()
    return directory


def _put(directory: Directory, path: str, data: bytes, **options) -> disk.ObjectInfo:
    with directory.writer(path, **options) as writer:
        writer.write(data)
        return writer.commit()


def _read(directory: Directory, path: str) -> bytes:
    return b"".join(directory.read(path))


def _sidecars(root: Path) -> list[Path]:
    return sorted((root / ".cts" / "meta").glob("*/*/*"))


def _temporary(root: Path) -> list[Path]:
    return list((root / ".cts" / "tmp").iterdir())


def _touch(file: Path, seconds: int = 100) -> None:
    time = file.stat().st_mtime_ns + seconds * 10**9
    os.utime(file, ns=(time, time))


# -- crashes -----------------------------------------------------------------------------------


def _interrupt(step: int, action: Callable[[], object], what: Callable[[], None]) -> None:
    """Run ``action``, and ``what`` in place of the ``step``-th call that changes the disk and of each later one."""
    passed = 0

    def wrap(function):
        def wrapped(*args, **kwargs):
            nonlocal passed
            passed += 1
            if passed >= step:
                what()
            return function(*args, **kwargs)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, wrap(getattr(os, name)))
        action()


def _dies_at(step: int, action: Callable[[], object]) -> bool:
    """Run ``action`` in a process that dies at this step; return False when it ended before."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _interrupt(step, action, lambda: os.kill(os.getpid(), signal.SIGKILL))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _crashes(
    root: Path, prepare: Callable[[Directory], object], action: Callable[[Directory], object]
) -> Iterator[Directory]:
    """Yield the store after a crash at the first, second, … step of ``action``, each time from the start."""
    step = 0
    crashed = True
    while crashed:
        step += 1
        shutil.rmtree(root, ignore_errors=True)
        directory = Directory(str(root))
        directory.create()
        prepare(directory)
        crashed = _dies_at(step, lambda: action(Directory(str(root))))
        again = Directory(str(root))
        again.create()
        yield again
    assert step > 2


def _seen(directory: Directory, path: str = "data/a/x") -> tuple[bytes, str] | None:
    try:
        info = directory.head(path)
    except disk.ObjectNotFoundError:
        return None
    data = _read(directory, path)
    assert info.size == len(data)
    assert directory.verify(path) == info
    if info.checksum == disk.STORED:
        assert info.crc64nvme == crc64nvme_text(data)
    return data, info.checksum


def _check_usable(directory: Directory, root: Path) -> None:
    """Check that leftovers do no harm, and are removed after a day."""
    _put(directory, "data/a/x", b"afterwards")
    assert _seen(directory) == (b"afterwards", disk.STORED)
    for file in _temporary(root):
        _touch(file, -2 * int(ABANDONED_SECONDS))
    for file in _sidecars(root):
        if file.suffix == ".pending":
            _touch(file, -2 * int(ABANDONED_SECONDS))
    directory.create()
    assert _temporary(root) == []
    _put(directory, "data/a/x", b"and again")
    assert len(_sidecars(root)) == 1


@pytest.mark.slow
def test_a_crash_of_a_first_write(root):
    outcomes = set()
    for directory in _crashes(root, lambda d: None, lambda d: _put(d, "data/a/x", NEW)):
        outcomes.add(_seen(directory))
        _check_usable(directory, root)
    assert outcomes == {None, (NEW, disk.STORED)}


@pytest.mark.slow
@pytest.mark.parametrize("new", [NEW, OLD.upper()], ids=["other size", "same size"])
def test_a_crash_of_an_overwrite(root, new):
    outcomes = set()
    for directory in _crashes(
        root, lambda d: _put(d, "data/a/x", OLD), lambda d: _put(d, "data/a/x", new)
    ):
        outcomes.add(_seen(directory))
        _check_usable(directory, root)
    assert outcomes == {(OLD, disk.STORED), (new, disk.STORED)}


@pytest.mark.slow
def test_a_crash_of_an_overwrite_of_a_file_that_is_touched_afterwards(root):
    outcomes = set()
    for directory in _crashes(
        root, lambda d: _put(d, "data/a/x", OLD), lambda d: _put(d, "data/a/x", NEW)
    ):
        directory.head("data/a/x")
        _touch(root / "data/a/x")
        outcomes.add(_seen(directory))
    assert outcomes == {(OLD, disk.STORED), (NEW, disk.STORED)}


@pytest.mark.slow
def test_a_crash_of_a_write_over_a_dropped_in_file(root):
    def drop(_: Directory) -> None:
        (root / "data/a").mkdir(parents=True)
        (root / "data/a/x").write_bytes(OLD)

    outcomes = set()
    for directory in _crashes(root, drop, lambda d: _put(d, "data/a/x", NEW)):
        outcomes.add(_seen(directory))
        _check_usable(directory, root)
    # A write that died does not affect the file that was there before.
    assert outcomes == {(OLD, disk.MISSING), (NEW, disk.STORED)}


@pytest.mark.slow
def test_a_crash_of_a_write_that_overwrites_nothing(root):
    outcomes = set()
    for directory in _crashes(
        root, lambda d: None, lambda d: _put(d, "data/a/x", NEW, only_if_absent=True)
    ):
        outcomes.add(_seen(directory))
        _check_usable(directory, root)
    assert outcomes == {None, (NEW, disk.STORED)}


@pytest.mark.slow
def test_a_crash_of_a_deletion(root):
    outcomes = set()
    for directory in _crashes(
        root, lambda d: _put(d, "data/a/x", OLD), lambda d: d.delete("data/a/x")
    ):
        outcomes.add(_seen(directory))
        _check_usable(directory, root)
    assert outcomes == {None, (OLD, disk.STORED)}


@pytest.mark.slow
def test_a_crash_while_writing_a_checksum(root):
    def drop(_: Directory) -> None:
        (root / "data/a").mkdir(parents=True)
        (root / "data/a/x").write_bytes(OLD)

    outcomes = set()
    for directory in _crashes(root, drop, lambda d: d.write_checksum("data/a/x")):
        outcomes.add(_seen(directory))
        _check_usable(directory, root)
    assert outcomes == {(OLD, disk.MISSING), (OLD, disk.STORED)}


@pytest.mark.slow
def test_a_crash_while_healing(root):
    def touched(directory: Directory) -> None:
        _put(directory, "data/a/x", OLD)
        _touch(root / "data/a/x")

    for directory in _crashes(root, touched, lambda d: d.head("data/a/x")):
        assert _seen(directory) == (OLD, disk.STORED)
        _check_usable(directory, root)


@pytest.mark.slow
def test_a_frozen_writer_blocks_nobody(root, directory):
    """Stop a writer at any step; others write and delete; the writer continues and does no harm."""
    step, stopped = 0, True
    while stopped:
        step += 1
        _put(directory, "data/a/x", OLD)
        pid = os.fork()
        if pid == 0:
            status = 1
            once = [signal.SIGSTOP]
            try:
                _interrupt(
                    step,
                    lambda: _put(Directory(str(root)), "data/a/x", NEW),
                    lambda once=once: once and os.kill(os.getpid(), once.pop()),
                )
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, os.WUNTRACED)
        stopped = os.WIFSTOPPED(status)
        if stopped:
            _put(directory, "data/a/x", b"meanwhile")
            assert _seen(directory) == (b"meanwhile", disk.STORED)
            if step % 2:
                directory.delete("data/a/x")
            os.kill(pid, signal.SIGCONT)
            _, status = os.waitpid(pid, 0)
        assert os.WEXITSTATUS(status) == 0
        assert _seen(directory) in {(NEW, disk.STORED), (b"meanwhile", disk.STORED), None}
    assert step > 5


# -- files changed by other programs -------------------------------------------------------------


def test_a_touched_file_heals(root, directory):
    first = _put(directory, "data/x", OLD, content_type="text/plain")
    for _ in range(3):
        _touch(root / "data/x")
        info = directory.head("data/x")
        assert info.modified > first.modified
        assert (info.checksum, info.crc64nvme) == (disk.STORED, first.crc64nvme)
        assert (info.etag, info.content_type) == (first.etag, "text/plain")
        assert len(_sidecars(root)) == 1


def test_a_copied_store_is_as_good(root, directory, tmp_path):
    _put(directory, "data/x", OLD)
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copy)
    assert Directory(str(tmp_path / "copy")).head("data/x").checksum == disk.STORED


def test_a_touched_or_changed_file_is_read_once(root, directory, monkeypatch):
    _put(directory, "data/touched", OLD)
    _put(directory, "data/changed", OLD)
    _touch(root / "data/touched")
    (root / "data/changed").write_bytes(NEW)
    before = directory.list("data/")
    monkeypatch.setattr(Directory, "_checksum", lambda *_: pytest.fail("was read again"))
    assert directory.list("data/") == before
    assert [o.checksum for o in before[0]] == [disk.MISMATCH, disk.STORED]


def test_a_changed_file_has_another_etag(root, directory):
    first = _put(directory, "data/x", OLD)
    (root / "data/x").write_bytes(NEW)
    assert directory.head("data/x").etag != first.etag


def test_corruption_with_unchanged_size_and_time(root, directory, tmp_path):
    for path in ("data/read", "data/fetched", "data/verified", "data/blessed"):
        _put(directory, path, OLD)
        times = (root / path).stat()
        (root / path).write_bytes(OLD.upper())
        os.utime(root / path, ns=(times.st_mtime_ns, times.st_mtime_ns))
        assert directory.head(path).checksum == disk.STORED
    with pytest.raises(disk.CorruptObjectError, match="data/read"):
        _read(directory, "data/read")
    with pytest.raises(disk.CorruptObjectError, match="data/fetched"):
        directory.fetch("data/fetched", str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()
    assert directory.verify("data/verified").checksum == disk.MISMATCH
    with pytest.raises(disk.CorruptObjectError, match="data/blessed"):
        directory.write_checksum("data/blessed")
    # The result of the check is recorded.
    assert {o.checksum for o in directory.list("data/")[0]} == {disk.MISMATCH}
    (root / "data/read").write_bytes(OLD)
    assert directory.verify("data/read").checksum == disk.STORED


def test_last_chunk_of_a_corrupt_object_is_not_yielded(root, directory):
    data = b"x" * (CHUNK_SIZE + 5)
    _put(directory, "data/x", data)
    times = (root / "data/x").stat()
    with (root / "data/x").open("r+b") as file:
        file.write(b"y")
    os.utime(root / "data/x", ns=(times.st_mtime_ns, times.st_mtime_ns))
    pieces = directory.read("data/x")
    assert len(next(pieces)) == CHUNK_SIZE
    with pytest.raises(disk.CorruptObjectError):
        next(pieces)


def test_a_file_that_shrinks_while_it_is_read(root, directory):
    (root / "data").mkdir()
    (root / "data/x").write_bytes(b"x" * (2 * CHUNK_SIZE))
    pieces = directory.read("data/x")
    next(pieces)
    os.truncate(root / "data/x", CHUNK_SIZE)
    with pytest.raises(disk.CorruptObjectError):
        next(pieces)


def test_a_dropped_in_file_that_changes_while_its_checksum_is_made(root, directory, monkeypatch):
    (root / "data").mkdir()
    (root / "data/x").write_bytes(OLD)
    compute = Directory._checksum

    def meanwhile(self, path, file):
        crc = compute(self, path, file)
        (root / "data/x").write_bytes(NEW)
        return crc

    monkeypatch.setattr(Directory, "_checksum", meanwhile)
    with pytest.raises(disk.CorruptObjectError, match="changed while"):
        directory.write_checksum("data/x")
    assert directory.head("data/x").checksum == disk.MISSING


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"crc64nvme": "x"}', "\x00\xff"])
def test_damaged_sidecar_is_ignored(root, directory, text):
    _put(directory, "data/x", OLD)
    _sidecars(root)[0].write_bytes(text.encode("latin-1"))
    assert directory.head("data/x").checksum == disk.MISSING
    assert directory.write_checksum("data/x").checksum == disk.STORED


def test_sidecar_of_a_newer_version_is_read(root, directory):
    first = _put(directory, "data/x", OLD)
    sidecar = _sidecars(root)[0]
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "more": 1}))
    assert directory.head("data/x") == first


def test_two_writes_within_one_tick_of_the_clock(directory, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    etags = {_put(directory, "data/x", data).etag for data in (b"aa", b"bb", b"cc")}
    assert len(etags) == 3
    assert _seen(directory, "data/x") == (b"cc", disk.STORED)


# -- files in and out ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, 2 * CHUNK_SIZE + 1])
def test_store_and_fetch(directory, tmp_path, size):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    stored = directory.store(str(source), "data/x", "text/plain")
    assert stored == directory.head("data/x")
    assert stored.crc64nvme == crc64nvme_text(source.read_bytes())
    assert directory.fetch("data/x", str(target), stored.crc64nvme) == size
    assert target.read_bytes() == source.read_bytes()


def test_fetch_leaves_no_target_on_a_mismatch(directory, tmp_path):
    actual = _put(directory, "data/x", OLD).crc64nvme
    expected = crc64nvme_text(NEW)
    with pytest.raises(
        disk.CorruptObjectError,
        match=(
            f"The S3 path 'data/x' has changed: its CRC64/NVME checksum was '{expected}', and is '{actual}' now".replace(
                "+", r"\+"
            )
        ),
    ):
        directory.fetch("data/x", str(tmp_path / "target"), expected)
    assert not (tmp_path / "target").exists()
    # The object itself is unchanged.
    assert directory.head("data/x").checksum == disk.STORED


def test_fetch_never_overwrites_a_file(directory, tmp_path):
    _put(directory, "data/x", OLD)
    (tmp_path / "target").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        directory.fetch("data/x", str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == b"mine"


def test_a_missing_source_changes_nothing(root, directory, tmp_path):
    _put(directory, "data/x", OLD)
    with pytest.raises(FileNotFoundError):
        directory.store(str(tmp_path / "none"), "data/x")
    assert _seen(directory, "data/x") == (OLD, disk.STORED)
    assert _temporary(root) == []


def test_missing_root(tmp_path):
    directory = Directory(str(tmp_path / "unmounted"))
    for attempt in (
        lambda: directory.head("data/x"),
        lambda: directory.list("data/"),
        lambda: _put(directory, "data/x", OLD),
        lambda: directory.delete("data/x"),
    ):
        with pytest.raises(disk.StoreUnavailableError, match="unmounted"):
            attempt()
    assert not (tmp_path / "unmounted").exists()


def test_close_ends_long_reads(directory, tmp_path):
    _put(directory, "data/x", OLD)
    directory.close()
    with pytest.raises(disk.StoreUnavailableError, match="data/x"):
        directory.verify("data/x")
    assert directory.head("data/x").checksum == disk.STORED


# -- full disks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_at_any_step(root, code):
    def refuse() -> None:
        raise OSError(code, os.strerror(code))

    step, refused = 0, True
    outcomes = set()
    while refused:
        step += 1
        shutil.rmtree(root, ignore_errors=True)
        directory = Directory(str(root))
        directory.create()
        _put(directory, "data/a/x", OLD)
        refused = False

        def once() -> None:
            nonlocal refused
            if not refused:
                refused = True
                refuse()

        with suppress(disk.DiskFullError):
            _interrupt(step, lambda: _put(directory, "data/a/x", NEW), once)  # noqa: B023 - runs now
        outcomes.add(_seen(directory))
        assert _temporary(root) == []
    assert step > 5
    assert outcomes == {(OLD, disk.STORED), (NEW, disk.STORED)}


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", "1m") as disk:
        yield disk


def test_a_full_disk(small, tmp_path):
    directory = Directory(str(small / "objects"))
    directory.create()
    _put(directory, "data/x", OLD)
    _touch(small / "objects/data/x")
    (tmp_path / "big").write_bytes(os.urandom(2 << 20))
    for path in ("data/x", "data/new"):
        with pytest.raises(disk.DiskFullError, match=f"no space left on the disk for '{path}'"):
            directory.store(str(tmp_path / "big"), path)
    # Full to the last byte, so that the result of the check cannot be recorded.
    filler = fill(small)
    assert os.statvfs(small).f_bavail == 0
    assert _seen(directory, "data/x") == (OLD, disk.STORED)
    with pytest.raises(disk.DiskFullError):
        _put(directory, "data/x", b"")
    assert _seen(directory, "data/x") == (OLD, disk.STORED)
    filler.unlink()
    _put(directory, "data/x", NEW)
    assert _seen(directory, "data/x") == (NEW, disk.STORED)
    assert _temporary(small / "objects") == []


def test_fetching_to_a_full_disk(small, directory, tmp_path):
    (tmp_path / "big").write_bytes(os.urandom(2 << 20))
    directory.store(str(tmp_path / "big"), "data/big")
    with pytest.raises(disk.DiskFullError, match="data/big"):
        directory.fetch("data/big", str(small / "target"))
    assert not (small / "target").exists()


def test_file_size_limit(root, directory, tmp_path):
    _put(directory, "data/x", OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_SIZE, limits[1]))
    try:
        # No full disk: there may be room for many smaller files.
        with pytest.raises(disk.IllegalPathError, match="'data/x' would be larger than one file"):
            _put(directory, "data/x", b"x" * (CHUNK_SIZE + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _seen(directory, "data/x") == (OLD, disk.STORED)
    assert _temporary(root) == []


def test_a_read_only_store_can_be_read(root, directory, monkeypatch):
    _put(directory, "data/x", OLD)
    _touch(root / "data/x")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(disk.AccessDeniedError, match="data/x"):
        _put(directory, "data/x", NEW)
    assert _read(directory, "data/x") == OLD
    assert directory.head("data/x").checksum == disk.STORED


# -- confinement ---------------------------------------------------------------------------------

OUTWARD = [
    "data/..",
    "data/../x",
    "data/../../x",
    "data/a/../../../x",
    "../x",
    "./x",
    "data/./x",
    "data//x",
    "data/",
    "/data/x",
    "data",
    "",
    ".cts/meta/x",
    ".cts/tmp/x",
    "data/nul\0/x",
    "data/\ud800",
    f"data/{'x' * 256}",
    f"data/{'ä' * 128}/x",
]


@pytest.mark.parametrize("path", OUTWARD)
def test_no_path_leaves_the_root(root, directory, tmp_path, path):
    (tmp_path / "x").write_bytes(b"outside")
    (root / "data/a").mkdir(parents=True)
    for attempt in (
        lambda: directory.head(path),
        lambda: _read(directory, path),
        lambda: directory.fetch(path, str(tmp_path / "target")),
        lambda: directory.verify(path),
        lambda: directory.write_checksum(path),
        lambda: directory.delete(path),
        lambda: _put(directory, path, NEW),
    ):
        with pytest.raises(disk.IllegalPathError):
            attempt()
    assert (tmp_path / "x").read_bytes() == b"outside"


@pytest.mark.parametrize(
    "prefix",
    [
        "..",
        "../",
        "../objects/",
        "data/../",
        "data/../../",
        ".cts/",
        ".cts/tmp/",
        "data//",
        "/",
        "",
        "data",
    ],
)
def test_no_listing_leaves_the_root(root, directory, prefix):
    (root / "data").mkdir()
    with pytest.raises(disk.IllegalPathError):
        directory.list(prefix)


@pytest.mark.slow
def test_long_names_are_fine(directory):
    path = "data/" + "/".join(["x" * 255] * 4)[:1024]
    _put(directory, path, NEW)
    assert _seen(directory, path) == (NEW, disk.STORED)
    deep = "data/" + "/".join("d" * 512)
    _put(directory, deep, NEW)
    assert [o.path for o in directory.list("data/")[0]] == [deep, path]


@pytest.fixture
def outside(tmp_path) -> Path:
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "x").write_bytes(b"secret")
    (outside / "sub" / "x").write_bytes(b"secret")
    return outside


@pytest.mark.parametrize(
    ("link", "to", "path"),  # the link, its outside target, and the requested path
    [
        ("link-bucket", "", "link-bucket/x"),
        ("data/link", "", "data/link/x"),
        ("data/link", "", "data/link/sub/x"),
        ("data/a/link", "sub", "data/a/link/x"),
        ("data/a/link", "x", "data/a/link"),
        ("data/a/link", "none", "data/a/link"),
    ],
)
def test_links_are_never_followed(root, directory, outside, link, to, path):  # noqa: PLR0917 - parametrised
    _put(directory, "data/a/y", OLD)
    (root / link).symlink_to(outside / to if to else outside)
    before = sorted((p, p.read_bytes()) for p in outside.rglob("*") if p.is_file())
    for attempt in (
        lambda: directory.head(path),
        lambda: _read(directory, path),
        lambda: directory.verify(path),
        lambda: directory.write_checksum(path),
    ):
        with pytest.raises(disk.ObjectNotFoundError):
            attempt()
    directory.delete(path)
    assert (root / link).is_symlink()
    assert [o.path for o in directory.list("data/")[0]] == ["data/a/y"]
    assert directory.list("data/a/", folders=True)[1] == []
    if path == link:
        # Writing replaces the link itself, as it would any file.
        _put(directory, path, NEW)
        assert _seen(directory, path) == (NEW, disk.STORED)
    else:
        with pytest.raises(disk.IllegalPathError, match=path):
            _put(directory, path, NEW)
    assert sorted((p, p.read_bytes()) for p in outside.rglob("*") if p.is_file()) == before


def test_a_folder_swapped_for_a_link_while_it_is_walked(root, directory, outside, monkeypatch):
    _put(directory, "data/a/x", OLD)
    really = os.open

    def swapped(path, flags, *args, **kwargs):
        if path == "a" and not (root / "data/a").is_symlink():
            (root / "data/a").rename(root / "data/b")
            (root / "data/a").symlink_to(outside)
        return really(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(disk.ObjectNotFoundError):
        _read(directory, "data/a/x")
    with pytest.raises(disk.IllegalPathError):
        _put(directory, "data/a/x", NEW)
    assert (outside / "x").read_bytes() == b"secret"


def test_special_files_are_not_objects(root, directory):
    _put(directory, "data/x", OLD)
    os.mkfifo(root / "data/fifo")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(root / "data")  # a socket's path must be short
    try:
        listener.bind("socket")
    finally:
        os.chdir(here)
        listener.close()
    (root / "data/folder").mkdir()
    (root / os.fsdecode(b"data/\xff")).write_bytes(b"no text")
    for name in ("fifo", "socket", "folder"):
        with pytest.raises(disk.ObjectNotFoundError):
            directory.head(f"data/{name}")
    page = directory.list("data/")
    assert [o.path for o in page.objects] == ["data/x"]
    assert page.left_out == ["data/fifo", "data/socket", "data/\\xff"]
    # An empty folder has no object below it, so it is not listed.
    assert directory.list("data/", folders=True).folders == []


def test_links_are_named_as_left_out_once_and_within_bounds(root, directory):
    for name in ("a/x", "b/x", "b/z"):
        _put(directory, f"data/{name}", OLD)
    (root / "data/a/link").symlink_to("x")
    (root / "data/b/y").symlink_to("x")
    (root / "data/b/zz").symlink_to(root)
    assert directory.list("data/").left_out == ["data/a/link", "data/b/y", "data/b/zz"]
    assert directory.list("data/b/z").left_out == ["data/b/zz"]
    assert directory.list("data/", after="data/b/y").left_out == ["data/b/zz"]
    assert directory.list("data/", folders=True).left_out == []
    for number in range(2 * disk.MAX_LEFT_OUT):
        (root / f"data/b/more-{number}").symlink_to("x")
    page = directory.list("data/")
    assert len(page.left_out) == disk.MAX_LEFT_OUT
    assert [o.path for o in page.objects] == ["data/a/x", "data/b/x", "data/b/z"]


def test_a_file_and_a_folder_cannot_share_a_path(root, directory):
    _put(directory, "data/a", OLD)
    _put(directory, "data/b/c", OLD)
    for path in ("data/a/b", "data/b"):
        with pytest.raises(disk.IllegalPathError, match=f"'{path}' cannot be written"):
            _put(directory, path, NEW)
    assert _seen(directory, "data/a") == (OLD, disk.STORED)
    assert _seen(directory, "data/b/c") == (OLD, disk.STORED)
    assert len(_sidecars(root)) == 2
    assert _temporary(root) == []


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(NAMES | st.sampled_from(["..", ".", "", "a", "a-b", "~", " "]), min_size=1, max_size=4)
)
def test_any_key_is_stored_or_rejected(tmp_path_factory, names):
    base = tmp_path_factory.mktemp("any")
    directory = Directory(str(base / "root"))
    directory.create()
    path = "/".join(["data", *names])
    try:
        _put(directory, path, NEW)
    except disk.IllegalPathError:
        assert list(base.iterdir()) == [base / "root"]
        assert [p for p in (base / "root").rglob("*") if p.is_file()] == []
        return
    assert _seen(directory, path) == (NEW, disk.STORED)
    assert [o.path for o in directory.list("data/")[0]] == [path]
    assert list(base.iterdir()) == [base / "root"]
    files = [p for p in (base / "root").rglob("*") if p.is_file() and ".cts" not in p.parts]
    assert [p.read_bytes() for p in files] == [NEW]
    directory.delete(path)
    assert _seen(directory, path) is None


TREES = st.sets(
    st.lists(
        st.sampled_from(["a", "b", "a-", "a.", "a0", "ä", "\uffff", "\U0001f600"]),
        min_size=1,
        max_size=4,
    ).map("/".join),
    max_size=12,
)


@pytest.mark.slow
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TREES, st.integers(1, 5), st.sampled_from(["", "a", "a/", "a-", "b/a", "ä/"]))
def test_pages_of_any_tree(tmp_path_factory, keys, limit, start):
    directory = Directory(str(tmp_path_factory.mktemp("tree")))
    directory.create()
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
    keys = keys or {"a/0"}
    for key in keys:
        _put(directory, f"data/{key}", b"")
    expected = sorted((f"data/{key}" for key in keys if key.startswith(start)), key=str.encode)
    paths, after = [], None
    while True:
        objects, _, after, _ = directory.list(f"data/{start}", after=after, limit=limit)
        paths += [o.path for o in objects]
        if after is None:
            break
    assert paths == expected


def test_a_page_reads_only_the_folders_on_its_way(directory, monkeypatch):
    for folder in "abcdefgh":
        for name in "123":
            _put(directory, f"data/{folder}/{name}", b"")
    scanned = []
    really = os.scandir
    monkeypatch.setattr(os, "scandir", lambda fd: scanned.append(fd) or really(fd))
    objects, _, after, _ = directory.list("data/", after="data/d/3", limit=3)
    assert [o.path for o in objects] == ["data/e/1", "data/e/2", "data/e/3"]
    assert after == "data/e/3"
    # The bucket, d with the cursor in it, e, and f to see that there is more.
    assert len(scanned) == 4
