"""Transfers by presigned links: each permits one request for a limited time, and needs no keys here."""

from __future__ import annotations

import os
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Callable, Dict, Iterable, Iterator, Mapping, Sequence, Tuple

from cts_core.worker.attempts import LastingError
from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.http.client import HttpClient, ResponseError, SignedRequest
from cts_core.worker.parallel import ParallelMap
from cts_core.worker.s3.download import Download
from cts_core.worker.s3.errors import NotFoundError, ObjectRefusedError, WrongObjectError
from cts_core.worker.s3.requests import S3Requests
from cts_core.worker.s3.upload import CRC_HEADER
from cts_core.worker.units import CHUNK_SIZE

LANES = 10
"""Requests that go on at once."""
_SILENCE_SECONDS = 60.0
"""How long a server may stay silent."""
_MIN_SECONDS, _SECONDS_PER_GB, _GB = 300.0, 120.0, 1_000_000_000
_LEFT_SECONDS = 86_400.0
"""The age of the last write to a temporary, after which nobody can be writing to it: a transfer has to end long before."""
_TEMPORARY = re.compile(r".+_[0-9]+\.[0-9a-f-]{32,36}\.tmp")
"""The names of temporaries, also of those of the deployed service's helper."""
_FORBIDDEN = 403


class TooSlowError(Exception):
    """A transfer takes longer than it may; the text says which."""


def transfer_seconds(size: int) -> float:
    """Return how long the transfer of so many bytes may take."""
    return max(_MIN_SECONDS, size * _SECONDS_PER_GB / _GB)


@dataclass(frozen=True)
class Source:
    """An object to be fetched."""

    name: str
    """Of the object, for messages: the link is worth as much as a key."""
    url: str = field(repr=False)
    crc64nvme: str
    size: int


@dataclass(frozen=True)
class Target:
    """A file to be sent, and the form that permits it."""

    name: str
    """Of the object, for messages."""
    url: str
    fields: Mapping[str, str] = field(repr=False)
    path: str
    crc64nvme: str
    size: int


class _LinkSigner:
    """Permits requests by the links that there are for them, by the names of their objects."""

    def __init__(self, links: Mapping[str, str]) -> None:
        self._links = links

    def sign(
        self,
        method: str,  # noqa: ARG002 - a link is for one method
        path: str,
        parameters: Mapping[str, str],  # noqa: ARG002 - they are part of the link
        headers: Dict[str, str],
        check: Callable[[], None] = lambda: None,  # noqa: ARG002 - nothing is waited for
    ) -> SignedRequest:
        return SignedRequest(self._links[path], headers)


def fetch(sources: Mapping[str, Source], *, insecure: bool = False) -> None:
    """Fetch each source to the path that is its key, unless its bytes are there already.

    Files are read-only, and get their names only when their checksums were compared. The first failure ends all. What transfers
    that were killed have left in the same folders is removed. Raises LastingError for objects that are gone or wrong.
    """
    _remove_left({os.path.dirname(path) for path in sources})
    parallel = ParallelMap(LANES)
    requests = _requests(
        {source.name: source.url for source in sources.values()}, parallel, insecure
    )

    def fetch_one(item: Tuple[str, Source]) -> None:
        path, source = item
        if is_there(path, source):
            # JAWS removes what is old.
            os.utime(path)
        else:
            _fetch(requests, parallel, path, source)

    try:
        parallel.map(fetch_one, sources.items())
    except WrongObjectError as e:
        raise LastingError(str(e)) from e
    finally:
        requests.close()


def _remove_left(folders: Iterable[str]) -> None:
    """Remove old temporaries: a helper that is killed leaves its own, which may be very large."""
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if _TEMPORARY.fullmatch(entry.name):
                    with suppress(OSError):
                        if time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFT_SECONDS:
                            os.unlink(entry.path)


def is_there(path: str, source: Source) -> bool:
    """Return whether the file is there with the source's bytes."""
    try:
        with open(path, "rb", 0) as file:
            if os.fstat(file.fileno()).st_size != source.size:
                return False
            return file_checksum(file) == source.crc64nvme
    except FileNotFoundError:
        return False


def _fetch(requests: S3Requests, parallel: ParallelMap, path: str, source: Source) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}_{os.getpid()}.{uuid.uuid4().hex}.tmp"
    check = _deadline(source.name, source.size)
    try:
        with open(temporary, "xb", 0) as file:
            Download(requests, parallel, source.name, file, source.crc64nvme, check=check).run()
            # Programs have hard links to it, by which they must not write.
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def send(targets: Sequence[Target], root: str, *, insecure: bool = False) -> None:
    """Send each file, all of which are below the folder ``root``. The first failure ends all.

    Raises LastingError for files that are gone or have changed, and for what the object store will never take.
    """
    parallel = ParallelMap(LANES)
    requests = _requests({target.name: target.url for target in targets}, parallel, insecure)
    try:
        parallel.map(partial(_send, requests, root), targets)
    except NotFoundError as e:
        raise LastingError(str(e)) from e
    except ObjectRefusedError as e:
        cause = e.__cause__
        if isinstance(cause, ResponseError) and cause.status == _FORBIDDEN:
            # So are forms refused that have expired, which the next attempt has anew.
            raise
        raise LastingError(str(e)) from e
    finally:
        requests.close()


def _send(requests: S3Requests, root: str, target: Target) -> None:
    check = _deadline(target.name, target.size)

    def attempt(_: Callable[[], None]) -> None:
        boundary = uuid.uuid4().hex
        head, tail = _form(target, boundary)
        headers = {
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(len(head) + target.size + len(tail)),
        }
        with open(target.path, "rb", 0) as file:
            body = _body(head, file, tail, target, check)
            requests.request("POST", target.name, {}, headers, body)

    try:
        requests.retry(target.name, attempt)
    except FileNotFoundError as e:
        if not os.path.isdir(root):
            # Its file system is not there, and may come back.
            raise
        raise LastingError(f"The file of {target.name} is gone: {target.path}") from e


def _form(target: Target, boundary: str) -> Tuple[bytes, bytes]:
    """Return what comes before and after the file in a form, whose last field it is."""
    fields = {**target.fields, CRC_HEADER: target.crc64nvme}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()


def _body(
    head: bytes, file: BinaryIO, tail: bytes, target: Target, check: Callable[[], None]
) -> Iterator[memoryview]:
    yield memoryview(head)
    crc, size = Crc64Nvme(), 0
    for chunk in _chunks(file):
        check()
        crc.update(chunk)
        size += len(chunk)
        if size > target.size:
            break
        yield memoryview(chunk)
    if (size, crc.text()) != (target.size, target.crc64nvme):
        raise LastingError(f"The file of {target.name} has changed: {target.path}")
    yield memoryview(tail)


def file_checksum(file: BinaryIO) -> str:
    """Return the CRC64/NVME of the rest of a file."""
    crc = Crc64Nvme()
    for chunk in _chunks(file):
        crc.update(chunk)
    return crc.text()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK_SIZE), b"")


def _requests(links: Mapping[str, str], parallel: ParallelMap, insecure: bool) -> S3Requests:  # noqa: FBT001 - private
    http = HttpClient(timeout=_SILENCE_SECONDS, insecure=insecure)
    return S3Requests(http, _LinkSigner(links), parallel, time.sleep)


def _deadline(name: str, size: int) -> Callable[[], None]:
    """Return what raises TooSlowError once the transfer of this object takes too long."""
    seconds = transfer_seconds(size)
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > end:
            raise TooSlowError(f"The transfer of {name} took longer than {seconds:.0f} seconds")

    return check
