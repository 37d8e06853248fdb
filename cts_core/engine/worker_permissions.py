"""The requests to the object store that a container's worker may have signed. Pure functions and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cts_core.errors import IllegalPathError, UnauthorizedError
from cts_core.model.worker import ObjectRequest
from cts_core.object_paths import FolderPath, ObjectPath

_READ_HEADERS = frozenset({"range", "if-match", "x-amz-checksum-mode"})
_WRITE_HEADERS = frozenset(
    {
        "content-type",
        "content-length",
        "x-amz-checksum-crc64nvme",
        "x-amz-checksum-algorithm",
        "x-amz-checksum-type",
    }
)
_UPLOAD_PARAMETERS: Mapping[str, Collection[frozenset[str]]] = {
    "PUT": (frozenset(), frozenset({"partNumber", "uploadId"})),
    "POST": (frozenset({"uploads"}), frozenset({"uploadId"})),
    # Aborts a multipart upload; no object is ever deleted.
    "DELETE": (frozenset({"uploadId"}),),
}
_NEVER_COPY = {"x-amz-copy-source-if-match": "never"}
_NEVER_UNPACK = {"x-amz-meta-snowball-auto-extract": "false"}


def with_protective_headers(request: ObjectRequest) -> dict[str, str]:
    """Return the headers to sign for an allowed request: its own, and headers that prevent its misuse.

    MinIO honours unsigned headers. The holder of a presigned PUT could add one that makes it a copy of any object, or one
    that has its body unpacked to anywhere in the bucket. Signed headers that contradict both prevent this.
    """
    headers = dict(request.headers)
    if request.method == "PUT":
        headers |= _NEVER_COPY
        if not request.parameters:
            headers |= _NEVER_UNPACK
    return headers


@dataclass(frozen=True)
class ObjectPermissions:
    """The objects that one container may read and write."""

    inputs: frozenset[ObjectPath]
    output_dir: FolderPath
    logs: frozenset[ObjectPath]

    def check(self, request: ObjectRequest) -> str:
        """Return the path, or the bucket, of a request that the worker may make. Raises UnauthorizedError for any other."""
        with suppress(IllegalPathError):
            if self._is_listing(request):
                return request.path
            path = ObjectPath(request.path)
            if self._allows(request, path):
                return path
        raise UnauthorizedError(
            f"The worker of this container may not {request.method} '{request.path}' in this way"
        )

    def _is_listing(self, request: ObjectRequest) -> bool:
        """Return whether it asks for the first object below a folder of the outputs."""
        prefix = request.parameters.get("prefix", "")
        is_first = request.parameters == {"list-type": "2", "max-keys": "1", "prefix": prefix}
        if request.method != "GET" or "/" in request.path or request.headers or not is_first:
            return False
        folder = FolderPath(f"{request.path}/{prefix}")
        return folder == f"{request.path}/{prefix}" and folder.startswith(self.output_dir)

    def _allows(self, request: ObjectRequest, path: ObjectPath) -> bool:
        names, headers = frozenset(request.parameters), frozenset(request.headers)
        if request.method == "GET":
            return path in self.inputs and not names and headers <= _READ_HEADERS
        if not (path in self.logs or path.startswith(self.output_dir)):
            return False
        if request.method == "HEAD":
            return not names and headers <= _READ_HEADERS
        return names in _UPLOAD_PARAMETERS[request.method] and headers <= _WRITE_HEADERS
