"""Translates an S3 server's error responses to sentences about one object, for the job's owner."""

from __future__ import annotations

from cts_core.worker.files import says_full
from cts_core.worker.http.client import ResponseError, TransientError
from cts_core.worker.objects.tree import RefusedError


class S3Error(Exception):
    """An object cannot be read or stored; the text says what failed and why."""


class ObjectRefusedError(S3Error, RefusedError):
    """The server refuses this object."""


class NotFoundError(Exception):
    """There is no such object, bucket or multipart upload."""


class ObjectChangedError(TransientError):
    """The object is not the version that the download began with."""


class RangeIgnoredError(ObjectChangedError):
    """The whole object came where a range was requested."""


_CHANGED, _NOT_FOUND, _FORBIDDEN, _SERVER_ERROR = 412, 404, 403, 500
_PASSING_STATUS = (408, 429)
_PASSING = {
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "TooManyRequests",
    "BadDigest",  # the bytes were damaged in transit, as in the next
    "XAmzContentChecksumMismatch",
}
_GONE = {"NoSuchKey", "NoSuchBucket", "NoSuchUpload"}
FULL = {
    "InsufficientStorage",
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}
"""Codes of a store that has no space left, or whose quota is used up."""
_KEYS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "XAdminUserNotFound",  # of versitygw
}
_OBSTRUCTED = {
    "XMinioObjectExistsAsDirectory",
    "XMinioParentIsObject",
    "DirectoryObjectContainsData",  # of versitygw, as are the next
    "ExistingObjectIsDirectory",
    "ObjectParentIsFile",
}
_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"}
_FINAL = (
    (
        _KEYS,
        "The object store does not accept this service's own credentials ({code}): ask an administrator",
    ),
    (
        _REGION,
        "The bucket of '{path}' is in another region than this service is set up for ({code})",
    ),
)


def error_code(text: str) -> str:
    """Return S3's own code of an error; empty when the text has none."""
    _, tag, rest = text.partition("<Code>")
    return rest.partition("<")[0].strip() if tag else ""


def to_error(response: ResponseError, path: str) -> Exception:
    """Return the exception to raise: S3Error, NotFoundError, or TransientError for what is worth another try."""
    code, status = error_code(response.text), response.status
    message = code or f"HTTP {status}"
    if status == _CHANGED:
        return ObjectChangedError("it was changed")
    if code in FULL or says_full(response.text):
        return S3Error(f"There is no space left at the object store for '{path}'")
    for codes, sentence in _FINAL:
        if code in codes:
            return S3Error(sentence.format(path=path, code=code))
    if code in _GONE or status == _NOT_FOUND:
        return NotFoundError(f"The path '{path}' was not found at the object store ({message})")
    if code in _PASSING or status in _PASSING_STATUS or status >= _SERVER_ERROR:
        return TransientError(message)
    if code in _OBSTRUCTED:
        message = "it is a folder with objects in it, or a folder of it is an object"
    refuses = "denies access to" if status == _FORBIDDEN else "refuses"
    return ObjectRefusedError(f"The object store {refuses} '{path}' ({message})")
