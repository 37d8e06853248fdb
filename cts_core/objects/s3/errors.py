"""What an S3 server, or the way to it, has to say, as errors of ours."""

from __future__ import annotations

import functools
from collections.abc import Callable

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
    BucketNotFoundError,
    ChecksumMismatchError,
    CTSError,
    IllegalPathError,
    PathInaccessibleError,
    PathNotFoundError,
    ResourceUnavailableError,
    UnavailableError,
)

_NO_KEY = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
_NO_BUCKET = {"NoSuchBucket"}
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "InvalidObjectState", "MethodNotAllowed", "403"}
CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AccountProblem",
    "NotSignedUp",
    "XAdminUserNotFound",  # versitygw's
}
CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
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
_FULL = {
    "XMinioStorageFull",
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "InsufficientStorage",
}
_PASSING = {
    "SlowDown",
    "RequestTimeout",
    "ServiceUnavailable",
    "InternalError",
    "OperationAborted",
    "ConditionalRequestConflict",
    "TooManyRequests",
}
_SERVER_ERROR, _TOO_MANY = 500, 429


class PassingError(Exception):
    """It may well work at the next try; the text says what happened."""


class ConditionError(Exception):
    """The object is not, or is no more, what the request was made on the condition of."""

    def __init__(self, *, tries: int = 1) -> None:
        super().__init__()
        self.tries = tries
        """Requests made; after more than one, an earlier one may have done it."""


class PastEndError(Exception):
    """The object ends before the part that was asked for."""


class NoUploadError(Exception):
    """The multipart upload is not there any more: completed, or aborted."""


_OWN: dict[str, type[Exception]] = {
    "PreconditionFailed": ConditionError,
    "412": ConditionError,
    "NoSuchUpload": NoUploadError,
    "InvalidRange": PastEndError,
    "416": PastEndError,
}


def unavailable(path: str, why: object) -> UnavailableError:
    """The store is away."""
    return UnavailableError(
        f"The object store cannot be used for '{path}' now ({why}): try again in a while"
    )


def denied(path: str, *, writing: bool) -> PathInaccessibleError:
    """The store forbids it, in the words that clients compare."""
    access = "Write" if writing else "Read"
    return PathInaccessibleError(f"{access} access denied to path '{path}' on the s3 system")


def not_found(path: str, *, bucket: bool = False) -> PathNotFoundError | BucketNotFoundError:
    """There is no such object or bucket, in the words that clients compare."""
    kind = BucketNotFoundError if bucket else PathNotFoundError
    return kind(f"The path '{path}' was not found on the s3 system")


def code_of(error: ClientError) -> str:
    """S3's own name for an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(error: Exception, path: str, *, writing: bool = False) -> Exception:
    """The error to raise: a CTSError, or one of this module's for its callers to decide about."""
    if isinstance(error, ClientError):
        return _refusal(error, path, writing=writing)
    if isinstance(error, ParamValidationError):
        return IllegalPathError(f"The path '{path}' cannot be an S3 path: {error}")
    if isinstance(error, SSLError | ReadTimeoutError | ConnectTimeoutError):
        # It stayed silent for as long as it may; a certificate will be no better at the next try.
        return unavailable(path, _reason(error))
    return PassingError(_reason(error))


def _reason(error: Exception) -> str:
    # Without the text of the library, which names URLs.
    return type(error).__name__ if isinstance(error, BotoCoreError) else str(error) or repr(error)


def _refusal(error: ClientError, path: str, *, writing: bool) -> Exception:
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _OWN:
        return _OWN[code]()
    passes = code in _PASSING or status >= _SERVER_ERROR or status == _TOO_MANY
    if passes and code not in _FULL:
        return PassingError(code or f"HTTP {status}")
    return refused(code, path, writing=writing)


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
    return ResourceUnavailableError(
        f"There is no space left at the object store for '{path}': free some, then try again"
    )


_MEANINGS: tuple[tuple[set[str], Callable[[str], CTSError]], ...] = (
    (_NO_KEY, not_found),
    (_NO_BUCKET, functools.partial(not_found, bucket=True)),
    (REGION, _other_region),
    (_DAMAGED, _damaged),
    (_FULL, _full),
)


def refused(code: str, path: str, *, writing: bool = False) -> CTSError:
    """What a code of S3 means for one path, finally."""
    for codes, meaning in _MEANINGS:
        if code in codes:
            return meaning(path)
    if code in _FORBIDDEN:
        return denied(path, writing=writing)
    if code in CREDENTIALS or code in CLOCK:
        return UnavailableError(
            f"The object store does not accept this service's own credentials ({code}): ask an administrator"
        )
    if code in ILLEGAL:
        return IllegalPathError(
            f"The path '{path}' cannot be an object at this store ({code}): give it another name"
        )
    return unavailable(path, code)
