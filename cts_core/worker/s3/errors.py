"""What an S3 server's refusal means for one object, in a sentence for whoever owns the job."""

from __future__ import annotations

from cts_core.worker.http.client import ResponseError, TransientError


class S3Error(Exception):
    """An object cannot be had, or stored; the text says what and why."""


class NotFoundError(Exception):
    """There is no such object, bucket or upload."""


class ObjectChangedError(TransientError):
    """The object is not the one that was begun with."""


class RangeIgnoredError(ObjectChangedError):
    """All of it came where a part of it was asked for."""


_CHANGED, _NOT_FOUND, _FORBIDDEN, _SERVER_ERROR = 412, 404, 403, 500
_PASSING_STATUS = (408, 429)
_PASSING = {
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "TooManyRequests",
    "BadDigest",  # the bytes were damaged on their way, as in the next
    "XAmzContentChecksumMismatch",
}
_GONE = {"NoSuchKey", "NoSuchBucket", "NoSuchUpload"}
_FULL = {
    "InsufficientStorage",
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}
_KEYS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "XAdminUserNotFound",  # versitygw's
}
_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"}
_FINAL = (
    (_FULL, "There is no space left at the object store for '{path}'"),
    (
        _KEYS,
        "The object store does not accept this service's own credentials ({code}): ask an administrator",
    ),
    (
        _REGION,
        "The bucket of '{path}' is in another region than this service is set up for ({code})",
    ),
)


def code_of(text: str) -> str:
    """S3's own name for an error; empty when the text is none of its."""
    _, found, rest = text.partition("<Code>")
    return rest.partition("<")[0].strip() if found else ""


def meaning(refusal: ResponseError, path: str) -> Exception:
    """The error to raise: S3Error, NotFoundError, or TransientError for what may go better soon."""
    code, status = code_of(refusal.text), refusal.status
    said = code or f"HTTP {status}"
    if status == _CHANGED:
        return ObjectChangedError("it was changed")
    for codes, sentence in _FINAL:
        if code in codes:
            return S3Error(sentence.format(path=path, code=code))
    if code in _GONE or status == _NOT_FOUND:
        return NotFoundError(f"The path '{path}' was not found at the object store ({said})")
    if code in _PASSING or status in _PASSING_STATUS or status >= _SERVER_ERROR:
        return TransientError(said)
    refuses = "denies access to" if status == _FORBIDDEN else "refuses"
    return S3Error(f"The object store {refuses} '{path}' ({said})")
