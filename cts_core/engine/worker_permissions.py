"""Which requests to the object store a container's worker may make. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cts_core.errors import UnauthorizedError
from cts_core.model.worker import ObjectRequest

_ODD = frozenset({"", ".", ".."})
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
    # An upload is given up; no object is ever deleted.
    "DELETE": (frozenset({"uploadId"}),),
}
_NEVER_COPY = {"x-amz-copy-source-if-match": "never"}
_NEVER_UNPACK = {"x-amz-meta-snowball-auto-extract": "false"}


def guarded(request: ObjectRequest) -> dict[str, str]:
    """The headers to sign for a request that is allowed.

    MinIO heeds headers that nobody signed. Whoever holds a signed request to write could add one that makes it a copy of
    any object, or one that has what is sent unpacked to anywhere in the bucket. What contradicts both is signed, too.
    """
    headers = dict(request.headers)
    if request.method == "PUT":
        headers |= _NEVER_COPY
        if not request.parameters:
            headers |= _NEVER_UNPACK
    return headers


@dataclass(frozen=True)
class Leave:
    """What one container reads and writes."""

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
        if not self._is_written(request.path):
            return False
        if request.method == "HEAD":
            return not names and headers <= _READ_HEADERS
        return names in _UPLOAD_PARAMETERS[request.method] and headers <= _WRITE_HEADERS

    def _is_written(self, path: str) -> bool:
        if path in self.logs:
            return True
        folder, rest = path[: len(self.output_dir) + 1], path[len(self.output_dir) + 1 :]
        # What a proxy would make another path of is none.
        return folder == f"{self.output_dir}/" and not _ODD.intersection(rest.split("/"))
