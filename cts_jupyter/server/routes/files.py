"""Routes for objects: list, read, write, and compute or verify checksums."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, Field, StringConstraints

from cts_core.engine.files import FileSearch
from cts_core.errors import UnsupportedError
from cts_core.globs import MAX_PATTERN
from cts_core.model.checksums import FileChecksum
from cts_core.model.file import FileSummary, Roots
from cts_core.model.job import S3File
from cts_core.objects.store import ChecksumState, ObjectPage, StoredObject
from cts_jupyter.server.http.call import Call, Stream, Upload
from cts_jupyter.server.http.route import Access, Route

CRC_HEADER = "x-amz-checksum-crc64nvme"
BINARY = "application/octet-stream"
MAX_PAGE = 1000
MAX_OFFSET = 2**63 - 1

PathText = Annotated[str, StringConstraints(min_length=1, max_length=1088)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN)]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET)]
Length = Annotated[int, Field(ge=1, le=MAX_OFFSET)]


class Span(BaseModel):
    """A range of bytes: from ``seek`` on, at most ``length``; without ``length`` to the end."""

    seek: Offset = 0
    length: Length | None = None


class FileListing(BaseModel):
    """Prefix and page of a listing of objects.

    With ``match``, a glob, or ``checksum``, objects are searched for below the prefix: the answer has ``scanned``, may have no
    objects, and is not the last while it has ``next``. A glob without ``/`` is matched against names alone. ``folders`` groups
    a listing, not a search.
    """

    prefix: PathText
    after: PathText | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = MAX_PAGE
    folders: bool = False
    match: Pattern | None = None
    checksum: ChecksumState | None = None


class SummaryQuery(BaseModel):
    """The objects that are added up: below a prefix, with paths that match a glob; from ``after`` on."""

    prefix: PathText
    match: Pattern | None = None
    after: PathText | None = None


class FileSpan(Span):
    """A range of an object's bytes."""

    path: PathText


class FileTarget(BaseModel):
    """The path of a new object, and whether it may replace one."""

    path: PathText
    overwrite: bool = False


async def list_files(call: Call, query: FileListing) -> ObjectPage:
    """``GET /files``."""
    if query.match is not None or query.checksum is not None:
        search = FileSearch(query.prefix, query.match, query.checksum)
        return await call.engine.files.search(
            call.user, search, after=query.after, limit=query.limit
        )
    return await call.engine.files.list(
        call.user, query.prefix, after=query.after, limit=query.limit, folders=query.folders
    )


async def list_roots(call: Call) -> Roots:
    """``GET /files/roots``."""
    return await call.engine.files.roots(call.user)


async def sum_files(call: Call, query: SummaryQuery) -> FileSummary:
    """``GET /files/summary``."""
    search = FileSearch(query.prefix, query.match)
    return await call.engine.files.summary(call.user, search, after=query.after)


async def read_file(call: Call, query: FileSpan) -> Stream:
    """``GET /files/content``."""
    stored, body = await call.engine.files.open(
        call.user, query.path, seek=query.seek, length=query.length
    )
    size = stored.size - query.seek
    if query.length is not None:
        size = min(size, query.length)
    headers = {
        "ETag": f'"{stored.etag}"',
        # Always a download, because a stored HTML page must not run in Jupyter's origin.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(stored.path.rpartition('/')[2], safe='')}",
    }
    if size == stored.size and stored.crc64nvme is not None:
        headers[CRC_HEADER] = stored.crc64nvme
    return Stream(body, stored.content_type, size, headers)


async def write_file(call: Call, query: FileTarget, body: Upload) -> StoredObject:
    """``PUT /files/content``."""
    if call.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedError("Send the bytes as they are, without a Content-Encoding")
    return await call.engine.files.write(
        call.user,
        query.path,
        body,
        content_type=call.headers.get("Content-Type", BINARY),
        crc64nvme=call.headers.get(CRC_HEADER),
        overwrite=query.overwrite,
    )


async def write_checksum(call: Call, body: FileChecksum) -> StoredObject:
    """``POST /files/checksum``."""
    return await call.engine.files.write_checksum(call.user, body.file, etag=body.etag)


async def verify_file(call: Call, body: S3File) -> StoredObject:
    """``POST /files/verify``."""
    return await call.engine.files.verify(call.user, body)


_CONTENT = "/files/content"
ROUTES = (
    Route("GET", "/files", list_files, Access.USER, "Objects that start with a prefix, by page"),
    Route("GET", "/files/roots", list_roots, Access.USER, "Where the caller can look for objects"),
    Route(
        "GET", "/files/summary", sum_files, Access.USER, "Number and size of objects, by a prefix"
    ),
    Route("GET", _CONTENT, read_file, Access.USER, "An object's bytes", media=BINARY),
    Route(
        "PUT",
        _CONTENT,
        write_file,
        Access.USER,
        "Store an object whole or not at all",
        headers=(CRC_HEADER,),
    ),
    Route("POST", "/files/checksum", write_checksum, Access.USER, "Compute and store a checksum"),
    Route(
        "POST", "/files/verify", verify_file, Access.USER, "Read an object and compare its checksum"
    ),
)
