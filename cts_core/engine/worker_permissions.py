"""The requests to the object store that a container's worker may have signed. Pure functions and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cts_core.errors import UnauthorizedError
from cts_core.model.worker import ObjectRequest

_UNSAFE_SEGMENTS = frozenset({"", ".", ".."})
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

    inputs: frozenset[str]
    output_dir: str
    logs: frozenset[str]

    def check(self, request: ObjectRequest) -> None:
        """Raise UnauthorizedError unless the worker may make this request."""
        if not self._allows(request):
            raise UnauthorizedError(
                f"The worker of this container may not {request.method} '{request.path}' in this way"
            )

    def _allows(self, request: ObjectRequest) -> bool:
        names, headers = frozenset(request.parameters), frozenset(request.headers)
        if request.method == "GET":
            return request.path in self.inputs and not names and headers <= _READ_HEADERS
        if not self._is_writable(request.path):
            return False
        if request.method == "HEAD":
            return not names and headers <= _READ_HEADERS
        return names in _UPLOAD_PARAMETERS[request.method] and headers <= _WRITE_HEADERS

    def _is_writable(self, path: str) -> bool:
        if path in self.logs:
            return True
        folder, rest = path[: len(self.output_dir) + 1], path[len(self.output_dir) + 1 :]
        # A proxy could normalise these segments to another path.
        return folder == f"{self.output_dir}/" and not _UNSAFE_SEGMENTS.intersection(
            rest.split("/")
        )
