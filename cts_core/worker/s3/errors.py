"""Translates an S3 server's error responses to sentences about one object, for the job's owner."""

from __future__ import annotations

from cts_core.worker.clock import describe_offset
from cts_core.worker.files import says_full
from cts_core.worker.http.client import ResponseError, TransientError
from cts_core.worker.objects.tree import RefusedError


class S3Error(Exception):
    """An object cannot be read or stored; the text says what failed and why."""


class ObjectRefusedError(S3Error, RefusedError):
    """The server refuses this object."""


class WrongObjectError(S3Error):
    """The object is gone, or is not the one that was meant."""


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
ARCHIVED = "InvalidObjectState"
"""The code of a read of an object in an archive storage class that is not restored."""
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
CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
_PRESIGNED = ("Request has expired", "Request is not valid yet")
"""What is said, beside AccessDenied, of a presigned request whose time has passed or is to come."""
_NO_SPACE = 507
_FINAL = (
    (
        _KEYS,
        "The object store does not accept this service's own credentials ({code}): ask an administrator",
    ),
    (
        _REGION,
        "The bucket of '{path}' is in another region than this service is set up for ({code})",
    ),
    (
        {ARCHIVED},
        "The object '{path}' is in an archive storage class, and cannot be read before it is restored ({code})",
    ),
)


def error_code(text: str) -> str:
    """Return S3's own code of an error; empty when the text has none."""
    _, tag, rest = text.partition("<Code>")
    return rest.partition("<")[0].strip() if tag else ""


def to_error(response: ResponseError, path: str, method: str) -> Exception:
    """Return the exception to raise: S3Error, NotFoundError, or TransientError for what is worth another try."""
    code, status = error_code(response.text), response.status
    message = code or f"HTTP {status}"
    if status == _CHANGED:
        return ObjectChangedError("it was changed")
    if final := _final_sentence(response, code, path):
        return S3Error(final)
    if status == _NOT_FOUND and not code and method != "HEAD":
        # Such an answer to HEAD has no text. To anything else it is that of a proxy, which says nothing of the object.
        return TransientError(f"{message}, without a code of S3")
    if code in _GONE or status == _NOT_FOUND:
        return NotFoundError(f"The path '{path}' was not found at the object store ({message})")
    if code in _PASSING or status in _PASSING_STATUS or status >= _SERVER_ERROR:
        return TransientError(message)
    if code in _OBSTRUCTED:
        message = "it is a folder with objects in it, or a folder of it is an object"
    refuses = "denies access to" if status == _FORBIDDEN else "refuses"
    return ObjectRefusedError(f"The object store {refuses} '{path}' ({message})")


def _final_sentence(response: ResponseError, code: str, path: str) -> str:
    """Return what no retry mends, and concerns more than this object or needs an administrator; else an empty text."""
    if code in FULL or response.status == _NO_SPACE or says_full(response.text):
        return f"There is no space left at the object store for '{path}'"
    if code in CLOCK:
        offset = describe_offset(response.date)
        return f"This machine's clock is {offset} that of the object store ({code}): an administrator has to set both right"
    if response.status == _FORBIDDEN and any(words in response.text for words in _PRESIGNED):
        return (
            f"The object store finds the time of a request for '{path}' wrong that the service has just signed: the clock of "
            "one of the two is off, and an administrator has to set both right"
        )
    for codes, sentence in _FINAL:
        if code in codes:
            return sentence.format(path=path, code=code)
    return ""
