"""The object store on S3: the port over botocore, and over a leaner client where many objects are looked at.

Every object is uploaded with its CRC64/NVME, which the server checks and keeps. What has no such checksum, or one that
was made of those of its parts, is ``missing``: S3 cannot say more of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError
from pydantic import SecretStr

from cts_core.clock import utc_now
from cts_core.config.sections import S3Settings
from cts_core.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    CTSError,
    IllegalParameterError,
    IllegalPathError,
    PathInaccessibleError,
    PathNotFoundError,
    UnavailableError,
)
from cts_core.object_paths import join_path, split_path
from cts_core.objects.s3.client import Api
from cts_core.objects.s3.errors import (
    ILLEGAL,
    ConditionError,
    PastEndError,
    code_of,
    denied,
    not_found,
    refused,
)
from cts_core.objects.s3.head import Answer, HeadClient
from cts_core.objects.s3.listing import MAX_KEYS, list_keys
from cts_core.objects.s3.metadata import DEFAULT_TYPE, crc_in, describe
from cts_core.objects.s3.presign import Output, PresignedPost, presigned_gets, presigned_posts
from cts_core.objects.s3.read import ObjectBody
from cts_core.objects.s3.startup_check import check_access
from cts_core.objects.s3.upload import Upload
from cts_core.objects.store import ChecksumState, ObjectPage, StoredObject
from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.s3.sigv4 import query_string

_PROBE = ".cts-write-probe"
_OK = 200
_KEPT = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Metadata",
)
"""What an object keeps when its checksum is added."""


class S3Store:
    """Objects in the buckets that one pair of keys can reach."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._api = Api(settings)
        self._heads: HeadClient | None = None
        self._external: Any = None

    async def open(self) -> None:
        """See the port: the keys must be able to list buckets, by both URLs."""
        try:
            await self._api.open()
            self._external = await self._api.run(lambda: check_access(self._settings))
        except BaseException:
            await self._api.close()
            raise
        self._heads = HeadClient(self._settings)

    async def close(self) -> None:
        """See the port."""
        if self._heads is not None:
            self._heads.close()
        await self._api.close()

    # -- looking -------------------------------------------------------------------------------

    async def head(self, paths: Sequence[str]) -> list[StoredObject | CTSError]:
        """See the port. Raises UnavailableError when the store is away, which is no object's own problem."""
        if self._heads is None:
            raise UnavailableError("The object store is not open: try again")
        keyed = [path for path in paths if split_path(path)[1]]
        answers = dict(zip(keyed, await self._heads.head(keyed), strict=True))
        codes: dict[tuple[str, int], str] = {}
        found: list[StoredObject | CTSError] = []
        for path in paths:
            if path not in answers:
                found.append(IllegalPathError(f"The path '{path}' names no object: give it a key"))
            elif answers[path].status == _OK:
                found.append(describe(path, answers[path].headers))
            else:
                found.append(await self._problem(path, answers[path], codes))
        return found

    async def _problem(
        self, path: str, answer: Answer, known: dict[tuple[str, int], str]
    ) -> CTSError:
        """Why a HEAD failed, whose answer has no text: asked once for all objects that are likely to share it."""
        group = split_path(path)[0], answer.status
        code = known.get(group) or await self._code(path) or str(answer.status)
        if code not in ILLEGAL:
            known[group] = code
        return refused(code, path)

    async def _code(self, path: str) -> str:
        try:
            answer = await self._api.call("get_object", path, Range="bytes=0-0")
        except PastEndError:
            return ""
        except CTSError as e:
            if isinstance(e.__cause__, ClientError):
                return code_of(e.__cause__)
            raise
        answer["Body"].close()
        return ""

    async def _find(self, path: str) -> StoredObject:
        (found,) = await self.head([path])
        if isinstance(found, CTSError):
            raise found
        return found

    async def list(
        self, prefix: str, *, after: str | None = None, limit: int = MAX_KEYS, folders: bool = False
    ) -> ObjectPage:
        """See the port. Keys that end in a slash, which stand for folders elsewhere, are left out."""
        page = await list_keys(self._api, prefix, after=after, limit=limit, folders=folders)
        looks = await self.head([entry.path for entry in page.objects])
        objects = []
        for entry, look in zip(page.objects, looks, strict=True):
            if isinstance(look, StoredObject):
                objects.append(look)
            elif not isinstance(look, PathNotFoundError):
                # It can be listed and not read, so that it is no input: what the listing says will do.
                objects.append(entry)
        return page.model_copy(update={"objects": objects})

    # -- reading -------------------------------------------------------------------------------

    async def read(
        self, path: str, *, seek: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See the port. A connection that breaks off is made anew, and read on from there."""
        if length is not None:
            size = (await self._find(path)).size
            if seek == 0 and length >= size:
                length = None
            elif length == 0 or seek >= size:
                return
            else:
                # A range that ends past what 64 bits hold is ignored by some servers: all would come.
                length = min(length, size - seek)
        body = await ObjectBody.open(self._api, _keyed(path), seek=seek, length=length)
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

    async def verify(self, path: str) -> StoredObject:
        """See the port. Raises ChecksumMismatchError when the object is changed while it is read."""
        found = await self._find(path)
        if found.crc64nvme is None:
            return found
        crc = Crc64Nvme()
        async for piece in self._pieces(found):
            crc.update(piece)
        state = ChecksumState.STORED if crc.text() == found.crc64nvme else ChecksumState.MISMATCH
        return found.model_copy(update={"checksum": state})

    async def _pieces(self, found: StoredObject) -> AsyncGenerator[bytes, None]:
        """All bytes of an object that was looked at."""
        try:
            body = await ObjectBody.open(self._api, found.path, etag=found.etag)
        except ConditionError as e:
            raise _changed(found.path) from e
        try:
            while piece := await body.next():
                yield piece
        finally:
            body.close()

    # -- writing -------------------------------------------------------------------------------

    async def write(
        self,
        path: str,
        body: AsyncIterator[bytes],
        *,
        content_type: str = DEFAULT_TYPE,
        crc64nvme: str | None = None,
        only_if_absent: bool = False,
    ) -> StoredObject:
        """See the port. Raises IllegalParameterError for more than ``s3_upload.MAX_SIZE`` bytes, too."""
        conditions = {"IfNoneMatch": "*"} if only_if_absent else {}
        upload = Upload(
            self._api, _keyed(path), {"ContentType": content_type}, conditions, crc64nvme
        )
        if only_if_absent:
            # Before all the bytes are sent; the server decides once they are.
            (found,) = await self.head([path])
            if isinstance(found, StoredObject):
                raise _taken(path)
        try:
            return await self._settled(upload, await upload.run(body))
        except ConditionError as e:
            raise _taken(path) from e

    async def _settled(self, upload: Upload, etag: str) -> StoredObject:
        """What was stored, also when somebody has replaced it since."""
        (found,) = await self.head([upload.path])
        if isinstance(found, StoredObject) and found.etag == etag:
            return found
        return StoredObject(
            path=upload.path,
            size=upload.size,
            etag=etag,
            content_type=str(upload.properties["ContentType"]),
            modified=utc_now(),
            checksum=ChecksumState.STORED,
            crc64nvme=upload.crc64nvme,
        )

    async def write_checksum(self, path: str, *, etag: str | None = None) -> StoredObject:
        """See the port. The object is read and uploaded again, on the condition that it is still the same.

        A copy by the server would spare that, but servers copy without regard to what was written meanwhile.
        """
        answer = await self._api.call("head_object", _keyed(path), ChecksumMode="ENABLED")
        found = describe(path, answer["ResponseMetadata"]["HTTPHeaders"])
        if etag not in (None, found.etag):
            raise _changed(path)
        if found.checksum is ChecksumState.STORED:
            return found
        properties = {name: answer[name] for name in _KEPT if answer.get(name)}
        if answer.get("TagCount"):
            tags = (await self._api.call("get_object_tagging", path))["TagSet"]
            properties["Tagging"] = query_string({tag["Key"]: tag["Value"] for tag in tags})
        upload = Upload(
            self._api,
            path,
            {"ContentType": DEFAULT_TYPE, **properties},
            {"IfMatch": f'"{found.etag}"'},
        )
        try:
            return await self._settled(upload, await upload.run(self._pieces(found)))
        except (ConditionError, PathNotFoundError) as e:
            raise _changed(path) from e

    async def delete(self, path: str) -> None:
        """See the port."""
        # Some servers say so of one that was not there.
        with contextlib.suppress(PathNotFoundError):
            await self._api.call("delete_object", _keyed(path), writing=True)

    async def probe(self, folder: str) -> None:
        """See the port."""
        path = join_path(folder, _PROBE)
        try:
            for operation in ("put_object", "delete_object"):
                await self._api.call(operation, path, writing=True)
        except PathInaccessibleError as e:
            raise denied(folder, writing=True) from e
        except BucketNotFoundError as e:
            raise not_found(folder, bucket=True) from e

    # -- links ---------------------------------------------------------------------------------

    async def presign_gets(self, paths: Sequence[str], lifetime: timedelta) -> Sequence[SecretStr]:
        """Links by the external URL to GET objects, for at most ``s3_presign.MAX_LIFETIME``."""
        return await self._api.run(lambda: list(presigned_gets(self._external, paths, lifetime)))

    async def presign_posts(
        self, outputs: Sequence[Output], lifetime: timedelta
    ) -> Sequence[PresignedPost]:
        """Forms by the external URL to POST objects, each on the condition of its checksum and size."""
        return await self._api.run(lambda: list(presigned_posts(self._external, outputs, lifetime)))


def _keyed(path: str) -> str:
    if not split_path(path)[1]:
        raise IllegalPathError(f"The path '{path}' names no object: give it a key")
    return path


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
