"""The object store on S3, by botocore, and by a leaner client for the metadata of many objects.

Every object is uploaded with its CRC64/NVME, which the server checks and stores. The checksum of an object without one,
or with a composite one of its parts, is ``missing``: S3 does not offer more.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError
from pydantic import SecretStr
from typing_extensions import override

from cts_core.clock import utc_now
from cts_core.config.sections import S3Settings
from cts_core.errors import (
    ChecksumMismatchError,
    CTSError,
    IllegalParameterError,
    IllegalPathError,
    PathInaccessibleError,
    PathNotFoundError,
    UnavailableError,
)
from cts_core.object_paths import (
    FolderPath,
    ObjectPath,
    ObjectPrefix,
    above,
    legal_buckets,
    split_path,
)
from cts_core.objects.errors import access_denied, not_found
from cts_core.objects.s3.client import Api
from cts_core.objects.s3.errors import (
    ILLEGAL,
    ConditionError,
    PastEndError,
    by_code,
    code_of,
)
from cts_core.objects.s3.head import HeadClient, Response
from cts_core.objects.s3.listing import MAX_KEYS, list_keys
from cts_core.objects.s3.metadata import DEFAULT_TYPE, crc_in, describe
from cts_core.objects.s3.presign import (
    Output,
    PresignedPost,
    presigned_gets,
    presigned_post_below,
    presigned_posts,
)
from cts_core.objects.s3.read import ObjectBody
from cts_core.objects.s3.startup_check import check_access
from cts_core.objects.s3.upload import MEMORY, Upload
from cts_core.objects.store import (
    ChecksumState,
    ObjectPage,
    ObjectStore,
    StoredObject,
    matching,
)
from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.s3.sigv4 import query_string

_PROBE = ".cts-write-probe"
_OK = 200
_COPIED = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Metadata",
)
"""The properties that an object keeps when its checksum is added."""


class S3Store(ObjectStore):
    """Objects in the buckets that one pair of keys can reach."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._api = Api(settings)
        self._heads: HeadClient | None = None
        self._external: Any = None

    @override
    async def open(self) -> None:
        # The keys must permit listing buckets, by both URLs.
        try:
            await self._api.open()
            self._external = await self._api.run(lambda: check_access(self._settings))
        except BaseException:
            await self._api.close()
            raise
        self._heads = HeadClient(self._settings)

    @override
    async def close(self) -> None:
        if self._heads is not None:
            self._heads.close()
        await self._api.close()

    # -- metadata --

    @override
    async def head(self, paths: Sequence[ObjectPath]) -> list[StoredObject | CTSError]:
        return await self._head(paths)

    async def _head(self, paths: Sequence[str]) -> list[StoredObject | CTSError]:
        """Return the same of paths that may come from the store itself.

        Raises UnavailableError when the store cannot be reached, since that concerns all objects.
        """
        if self._heads is None:
            raise UnavailableError("The object store is not open: try again")
        codes: dict[tuple[str, int], str] = {}
        return [
            describe(path, response.headers)
            if response.status == _OK
            else await self._error(path, response, codes)
            for path, response in zip(paths, await self._heads.head(paths), strict=True)
        ]

    async def _error(
        self, path: str, response: Response, codes: dict[tuple[str, int], str]
    ) -> CTSError:
        """Return why a HEAD failed. Its response has no body: one GET finds the code for all objects likely to share it."""
        group = split_path(path)[0], response.status
        code = codes.get(group) or await self._find_code(path) or str(response.status)
        if code not in ILLEGAL:
            codes[group] = code
        return by_code(code, path, date=response.headers.get("date", ""))

    async def _find_code(self, path: str) -> str:
        try:
            response = await self._api.call("get_object", path, Range="bytes=0-0")
        except PastEndError:
            return ""
        except CTSError as e:
            if isinstance(e.__cause__, ClientError):
                return code_of(e.__cause__)
            raise
        response["Body"].close()
        return ""

    async def _find(self, path: ObjectPath) -> StoredObject:
        (result,) = await self.head([path])
        if isinstance(result, CTSError):
            raise result
        return result

    @override
    async def buckets(self) -> list[FolderPath]:
        return legal_buckets(
            bucket["Name"] for bucket in (await self._api.call("list_buckets", ""))["Buckets"]
        )

    @override
    async def list(
        self,
        prefix: ObjectPrefix,
        *,
        after: str | None = None,
        limit: int = MAX_KEYS,
        folders: bool = False,
        match: Callable[[str], bool] | None = None,
    ) -> ObjectPage:
        # Keys that end in a slash, by which other programs mark folders, are left out.
        page = await list_keys(self._api, prefix, after=after, limit=limit, folders=folders)
        entries = await matching(page.objects, match)
        results = await self._head([entry.path for entry in entries])
        objects = []
        for entry, result in zip(entries, results, strict=True):
            if isinstance(result, StoredObject):
                objects.append(result)
            elif not isinstance(result, PathNotFoundError):
                # It can be listed but not read, so that it cannot be an input: the entry of the listing is enough.
                objects.append(entry)
        if not (page.objects or page.folders or prefix.endswith("/")):
            objects += [
                o for o in await self._itself(prefix, after) if match is None or match(o.path)
            ]
        return page.model_copy(update={"objects": objects, "scanned": len(page.objects)})

    async def _itself(self, prefix: str, after: str | None) -> Sequence[StoredObject]:
        """Return the object at the prefix of an empty listing: some servers list nothing that lies below another object."""
        if prefix.encode() <= (after or "").encode():
            return []
        return [found for found in await self._head([prefix]) if isinstance(found, StoredObject)]

    # -- reading --

    @override
    async def read(
        self, path: ObjectPath, *, seek: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        # When a connection breaks, another one continues from there.
        if length is not None:
            size = (await self._find(path)).size
            if seek == 0 and length >= size:
                length = None
            elif length == 0 or seek >= size:
                return
            else:
                # Some servers ignore a range whose end exceeds 64 bits, and would send the whole object.
                length = min(length, size - seek)
        body = await ObjectBody.open(self._api, path, seek=seek, length=length)
        expected = crc_in(body.headers) if seek == 0 and length is None else None
        crc = Crc64Nvme()
        try:
            while piece := await body.next():
                crc.update(piece)
                if expected is not None and not body.left and crc.text() != expected:
                    raise _corrupt(path)
                yield piece
        finally:
            body.close()

    @override
    async def verify(self, path: ObjectPath) -> StoredObject:
        # Raises ChecksumMismatchError if the object is changed meanwhile.
        stored = await self._find(path)
        if stored.crc64nvme is None:
            return stored
        crc = Crc64Nvme()
        async for piece in self._read_whole(stored):
            crc.update(piece)
        state = ChecksumState.STORED if crc.text() == stored.crc64nvme else ChecksumState.MISMATCH
        return stored.model_copy(update={"checksum": state})

    async def _read_whole(self, stored: StoredObject) -> AsyncGenerator[bytes, None]:
        """Yield all bytes of an object. Raises ChecksumMismatchError if it has another etag now."""
        try:
            body = await ObjectBody.open(self._api, stored.path, etag=stored.etag)
        except ConditionError as e:
            raise _changed(stored.path) from e
        try:
            while piece := await body.next():
                yield piece
        finally:
            body.close()

    # -- writing --

    @property
    @override
    def upload_memory(self) -> int:
        return MEMORY

    @override
    async def write(
        self,
        path: ObjectPath,
        body: AsyncIterator[bytes],
        *,
        content_type: str = DEFAULT_TYPE,
        crc64nvme: str | None = None,
        only_if_absent: bool = False,
    ) -> StoredObject:
        # Raises IllegalParameterError for more than ``upload.MAX_SIZE`` bytes, too.
        await self._check_place(path)
        conditions = {"IfNoneMatch": "*"} if only_if_absent else {}
        upload = Upload(self._api, path, {"ContentType": content_type}, conditions, crc64nvme)
        if only_if_absent:
            # Checked before the bytes are sent, too; the server decides once they are.
            (existing,) = await self.head([path])
            if isinstance(existing, StoredObject):
                raise _taken(path)
        try:
            return await self._describe_uploaded(upload, await upload.run(body))
        except ConditionError as e:
            raise _taken(path) from e

    async def _check_place(self, path: ObjectPath) -> None:
        """Raise IllegalPathError if the path would be both an object and a folder, or a folder of it an object.

        S3 itself can have both, but servers that keep objects as files refuse it, or list only one of them.
        """
        folders = above(path)
        for folder, found in zip(folders, await self.head(folders), strict=True):
            if isinstance(found, StoredObject):
                raise IllegalPathError(
                    f"The path '{path}' cannot be written: '{folder}' is an object, so that nothing can lie below it"
                )
        try:
            below = await list_keys(self._api, FolderPath(path), limit=1)
        except UnavailableError:
            raise
        except CTSError:
            return  # what is wrong, if anything is, shows when it is written
        if below.objects:
            raise IllegalPathError(
                f"The path '{path}' cannot be written: it is a folder, in which there are objects"
            )

    async def _describe_uploaded(self, upload: Upload, etag: str) -> StoredObject:
        """Return the metadata of the uploaded object, even if another one has replaced it since."""
        (stored,) = await self.head([upload.path])
        if isinstance(stored, StoredObject) and stored.etag == etag:
            return stored
        return StoredObject(
            path=upload.path,
            size=upload.size,
            etag=etag,
            content_type=str(upload.properties["ContentType"]),
            modified=utc_now(),
            checksum=ChecksumState.STORED,
            crc64nvme=upload.crc64nvme,
        )

    @override
    async def write_checksum(self, path: ObjectPath, *, etag: str | None = None) -> StoredObject:
        # The object is read and uploaded again, on the condition that it has not changed. A copy by the server would be
        # cheaper, but servers do not check the condition for that.
        response = await self._api.call("head_object", path, ChecksumMode="ENABLED")
        stored = describe(path, response["ResponseMetadata"]["HTTPHeaders"])
        if etag not in (None, stored.etag):
            raise _changed(path)
        if stored.checksum is ChecksumState.STORED:
            return stored
        properties = {name: response[name] for name in _COPIED if response.get(name)}
        if response.get("TagCount"):
            tags = (await self._api.call("get_object_tagging", path))["TagSet"]
            properties["Tagging"] = query_string({tag["Key"]: tag["Value"] for tag in tags})
        upload = Upload(
            self._api,
            path,
            {"ContentType": DEFAULT_TYPE, **properties},
            {"IfMatch": f'"{stored.etag}"'},
        )
        try:
            return await self._describe_uploaded(upload, await upload.run(self._read_whole(stored)))
        except (ConditionError, PathNotFoundError) as e:
            raise _changed(path) from e

    @override
    async def delete(self, path: ObjectPath) -> None:
        # Some servers raise it for an object that does not exist.
        with contextlib.suppress(PathNotFoundError):
            await self._api.call("delete_object", path, writing=True)

    @override
    async def probe(self, folder: FolderPath) -> None:
        path = folder.file(_PROBE)
        try:
            for operation in ("put_object", "delete_object"):
                await self._api.call(operation, path, writing=True)
        except PathInaccessibleError as e:
            raise access_denied(folder, writing=True) from e
        except PathNotFoundError as e:
            raise not_found(folder) from e

    # -- presigned requests --

    async def presign_gets(
        self, paths: Sequence[ObjectPath], lifetime: timedelta
    ) -> Sequence[SecretStr]:
        """Return presigned URLs, by the external URL, to GET objects, for at most ``presign.MAX_LIFETIME``."""
        return await self._api.run(lambda: list(presigned_gets(self._external, paths, lifetime)))

    async def presign_posts(
        self, outputs: Sequence[Output], lifetime: timedelta
    ) -> Sequence[PresignedPost]:
        """Return forms, by the external URL, to POST objects, each on the condition of its checksum and size."""
        return await self._api.run(lambda: list(presigned_posts(self._external, outputs, lifetime)))

    async def presign_post_below(
        self, folder: FolderPath, lifetime: timedelta, *, max_bytes: int
    ) -> PresignedPost:
        """Return a form, by the external URL, to POST objects below a folder with checksums that their sender adds."""
        return await self._api.run(
            lambda: presigned_post_below(self._external, folder, lifetime, max_bytes)
        )


def _corrupt(path: str) -> ChecksumMismatchError:
    return ChecksumMismatchError(
        f"The bytes of '{path}' are not those that its CRC64/NVME checksum was made of: store it anew"
    )


def _changed(path: str) -> ChecksumMismatchError:
    return ChecksumMismatchError(
        f"The object '{path}' was changed since it was looked at: look again"
    )


def _taken(path: str) -> IllegalParameterError:
    return IllegalParameterError(f"There is an object at '{path}' already")
