"""Translates errors of S3 servers, and of connections to them."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)

from cts_core.errors import (
    BucketInaccessibleError,
    ChecksumMismatchError,
    CTSError,
    IllegalPathError,
    StorageFullError,
    UnavailableError,
)
from cts_core.objects.errors import access_denied, archived, not_found
from cts_core.worker.clock import describe_offset
from cts_core.worker.files import says_full
from cts_core.worker.s3.errors import ARCHIVED, CLOCK, FULL

_NOT_FOUND = {"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "404", "NotFound"}
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "MethodNotAllowed", "403"}
CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AccountProblem",
    "NotSignedUp",
    "XAdminUserNotFound",  # versitygw's
}
REGION = {
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
    "301",
}
ILLEGAL = {
    "InvalidBucketName",
    "InvalidURI",
    "KeyTooLongError",
    "XMinioInvalidObjectName",
    "XMinioInvalidResourceName",
    "XMinioParentIsObject",
    "XMinioObjectExistsAsDirectory",
    "ObjectParentIsFile",  # versitygw's, as is the next
    "ExistingObjectIsDirectory",
}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"}
_TRANSIENT = {
    "SlowDown",
    "RequestTimeout",
    "ServiceUnavailable",
    "InternalError",
    "OperationAborted",
    "ConditionalRequestConflict",
    "TooManyRequests",
}
_SERVER_ERROR, _BAD_REQUEST = 500, "400"
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class TransientError(Exception):
    """The next attempt may succeed; the text says what happened."""


class SilentStoreError(UnavailableError):
    """The store has not answered in time: to ask it more would take as long again."""


class ConditionError(Exception):
    """The object does not meet the condition of the request, such as an etag."""

    def __init__(self, *, tries: int = 1) -> None:
        super().__init__()
        self.tries = tries
        """Requests made; after more than one, an earlier one may have succeeded."""


class PastEndError(Exception):
    """The object ends before the requested range."""


class NoUploadError(Exception):
    """The multipart upload does not exist any more: it was completed, or aborted."""


_BY_CODE: dict[str, type[Exception]] = {
    "PreconditionFailed": ConditionError,
    "412": ConditionError,
    "NoSuchUpload": NoUploadError,
    "InvalidRange": PastEndError,
    "416": PastEndError,
}


def unavailable(path: str, reason: object) -> UnavailableError:
    """Return the error for a store that cannot be used now."""
    return UnavailableError(_sentence(path, reason))


def silent(path: str, reason: str) -> SilentStoreError:
    """Return the error for a store that has not answered in time."""
    return SilentStoreError(_sentence(path, reason))


def _sentence(path: str, reason: object) -> str:
    return f"The object store cannot be used for '{path}' now ({reason}): try again in a while"


def code_of(error: ClientError) -> str:
    """Return S3's own code of an error; empty if its answer has none."""
    return str(error.response.get("Error", {}).get("Code") or "")


def translate(error: Exception, path: str, *, writing: bool = False) -> Exception:
    """Return the error to raise: a CTSError, or one of this module, which its callers handle."""
    if isinstance(error, ClientError):
        return _translate_response(error, path, writing=writing)
    if isinstance(error, ParamValidationError):
        return IllegalPathError(f"The path '{path}' cannot be an S3 path: {error}")
    if isinstance(error, ReadTimeoutError | ConnectTimeoutError):
        return silent(path, _reason(error))
    if isinstance(error, SSLError):
        # A certificate will not change: no retry.
        return unavailable(path, _reason(error))
    return TransientError(_reason(error))


def _reason(error: Exception) -> str:
    # Without botocore's own text, which has URLs.
    return type(error).__name__ if isinstance(error, BotoCoreError) else str(error) or repr(error)


def _translate_response(error: ClientError, path: str, *, writing: bool) -> Exception:
    code = code_of(error)
    message = str(error.response.get("Error", {}).get("Message") or "")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _BY_CODE:
        return _BY_CODE[code]()
    if code in FULL or status == HTTPStatus.INSUFFICIENT_STORAGE or says_full(message):
        return _full(path)
    if code in _TRANSIENT or may_pass(status):
        return TransientError(code or f"HTTP {status}")
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    return by_code(code or str(status), path, writing=writing, date=date)


def _other_region(path: str) -> CTSError:
    return BucketInaccessibleError(
        f"The bucket of '{path}' is in another region than this service is set up for: use another "
        "bucket, or ask an administrator to set s3.region"
    )


def _damaged(path: str) -> CTSError:
    return ChecksumMismatchError(
        f"The bytes for '{path}' arrived at the object store otherwise than they were sent: send them again"
    )


def _full(path: str) -> CTSError:
    return StorageFullError(
        f"There is no space left at the object store for '{path}': free some, then try again"
    )


_ERRORS: tuple[tuple[set[str], Callable[[str], CTSError]], ...] = (
    (_NOT_FOUND, not_found),
    (REGION, _other_region),
    (_DAMAGED, _damaged),
    ({ARCHIVED}, archived),
    (FULL, _full),
)


def _own_fault(code: str, date: str) -> UnavailableError:
    if code in CLOCK:
        return UnavailableError(
            f"This server's clock is {describe_offset(date)} that of the object store ({code}): ask an administrator to "
            "set both by the same time servers"
        )
    return UnavailableError(
        f"The object store does not accept this service's own credentials ({code}): ask an administrator"
    )


def may_pass(status: int) -> bool:
    """Return whether a request that was answered with this HTTP status may succeed if it is sent again."""
    return status >= _SERVER_ERROR or status in _PASSING


def by_code(code: str, path: str, *, writing: bool = False, date: str = "") -> CTSError:
    """Return the error that a code of S3, or an HTTP status below 500, means for a path, if no retry can help.

    ``date`` is the Date header of the answer.
    """
    for codes, make_error in _ERRORS:
        if code in codes:
            return make_error(path)
    if code in _FORBIDDEN:
        return access_denied(path, writing=writing)
    if code in CREDENTIALS or code in CLOCK:
        return _own_fault(code, date)
    if code in ILLEGAL:
        return IllegalPathError(
            f"The path '{path}' cannot be an object at this store ({code}): give it another name"
        )
    if code.isdigit() and code != _BAD_REQUEST:
        # S3 names a code for what it refuses, but in a HEAD: this is an answer of a proxy before it.
        return unavailable(path, f"HTTP {code}")
    return IllegalPathError(f"The object store refuses '{path}' ({code}): give it another name")
