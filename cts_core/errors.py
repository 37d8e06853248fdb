"""The exceptions of CTS, and the one table from an error to (appcode, apperror, HTTP status).

The numbers and names are those of the deployed service (docs/reference/contract.md §1); clients branch on them.
Every error has a message for the user who caused it: what is wrong and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar


class ErrorKind(Enum):
    """The kind of an error, as ``(appcode, apperror, HTTP status)``."""

    AUTHENTICATION_FAILED = (10000, "Authentication failed", 401)
    NO_TOKEN = (10010, "No authentication token", 401)
    INVALID_TOKEN = (10020, "Invalid token", 401)
    INVALID_AUTH_HEADER = (10030, "Invalid authentication header", 401)
    INVALID_USER = (10040, "Invalid user name", 400)
    UNAUTHORIZED = (20000, "Unauthorized", 403)
    PATH_INACCESSIBLE = (20010, "S3 path inaccessible", 403)
    BUCKET_INACCESSIBLE = (20020, "S3 bucket inaccessible", 403)
    MISSING_PARAMETER = (30000, "Missing input parameter", 400)
    ILLEGAL_PARAMETER = (30001, "Illegal input parameter", 400)
    REQUEST_VALIDATION = (30010, "Request validation failed", 400)
    ILLEGAL_PATH = (30020, "Illegal S3 path", 400)
    CHECKSUM_MISMATCH = (30030, "Checksum mismatch", 400)
    IMAGE_NAME = (30040, "Image name parse error", 400)
    IMAGE_FETCH = (30050, "Image fetch error", 400)
    NO_ENTRYPOINT = (30060, "Image has no entrypoint", 400)
    CLIENT_LIFETIME = (30200, "Client lifetime too short", 400)
    JOB_STATE = (30300, "Invalid job state", 400)
    REFDATA_STATE = (30400, "Invalid reference data state", 400)
    NOT_FOUND = (40000, "Not Found", 404)
    PATH_NOT_FOUND = (40010, "S3 path not found", 404)
    BUCKET_NOT_FOUND = (40020, "S3 bucket not found", 404)
    NO_SUCH_IMAGE = (40030, "No such image", 404)
    NO_SUCH_JOB = (40040, "No such job", 404)
    NO_SUCH_CONTAINER = (40050, "No such sub job", 404)
    NO_SUCH_REFDATA = (40060, "No such reference data", 404)
    NO_LOGS = (40070, "No logs available", 404)
    NO_SUCH_CHECKSUMS = (40080, "No such checksum request", 404)
    IMAGE_TAG_EXISTS = (50000, "Image tag exists", 400)
    IMAGE_DIGEST_EXISTS = (50010, "Image digest exists", 400)
    REFDATA_EXISTS = (50100, "Refdata already exists", 400)
    RESOURCE_UNAVAILABLE = (60000, "Resource unavailable", 400)
    SITE_INACTIVE = (60010, "Job flow inactive", 400)
    SITE_UNAVAILABLE = (60020, "Job flow unavailable", 400)
    UNSUPPORTED = (100000, "Unsupported operation", 400)
    METHOD_NOT_ALLOWED = (None, None, 405)
    BODY_TIMEOUT = (None, None, 408)
    PAYLOAD_TOO_LARGE = (None, None, 413)
    TOO_MANY_REQUESTS = (None, None, 429)
    UNAVAILABLE = (None, None, 503)
    STORAGE_FULL = (None, None, 507)

    def __init__(self, appcode: int | None, apperror: str | None, status: int) -> None:
        self.appcode = appcode
        """The stable number that clients branch on; None if the HTTP status is enough."""
        self.apperror = apperror
        """The stable name that belongs to the number."""
        self.status = status
        """The HTTP status."""


class CTSError(Exception):
    """Anything that CTS refuses or cannot do; ``kind`` determines the HTTP response."""

    kind: ClassVar[ErrorKind]
    dependency: str | None = None
    """The name of the port that raised it, such as ``objects``; None if none did."""

    @property
    def message(self) -> str:
        """The message for the user."""
        return str(self)


class AuthenticationError(CTSError):
    """The caller could not be identified."""

    kind = ErrorKind.AUTHENTICATION_FAILED


class NoTokenError(AuthenticationError):
    """The request has no token, but needs one."""

    kind = ErrorKind.NO_TOKEN


class InvalidTokenError(AuthenticationError):
    """The token is unknown or expired."""

    kind = ErrorKind.INVALID_TOKEN

    def __init__(self, message: str = "The authorization token is invalid") -> None:
        super().__init__(message)


class InvalidAuthHeaderError(AuthenticationError):
    """The Authorization header is not ``Bearer <token>``. The header is never echoed."""

    kind = ErrorKind.INVALID_AUTH_HEADER


class InvalidUserError(CTSError):
    """No user has this name, or the name is invalid."""

    kind = ErrorKind.INVALID_USER


class UnauthorizedError(CTSError):
    """The caller is identified, but lacks a role or does not own the resource."""

    kind = ErrorKind.UNAUTHORIZED


class PathInaccessibleError(CTSError):
    """The caller, or the service, may not use this object path."""

    kind = ErrorKind.PATH_INACCESSIBLE


class BucketInaccessibleError(CTSError):
    """The service cannot use this bucket as it is configured."""

    kind = ErrorKind.BUCKET_INACCESSIBLE


class MissingParameterError(CTSError):
    """A required parameter is missing."""

    kind = ErrorKind.MISSING_PARAMETER


class IllegalParameterError(CTSError):
    """A value is well formed but not acceptable, such as a job above a site's limits."""

    kind = ErrorKind.ILLEGAL_PARAMETER


class NoChecksumError(IllegalParameterError):
    """An object that is to be an input has no CRC64/NVME checksum."""


class RecordTooLargeError(IllegalParameterError):
    """The record of one job, or container, would be larger than the store allows."""


class FolderTakenError(IllegalParameterError):
    """Another job has an exclusive claim on this output folder."""

    def __init__(self, folder: str) -> None:
        super().__init__(f"The output folder {folder} is another job's alone: name another one")


class RequestValidationError(CTSError):
    """The request does not match its model; ``details`` holds pydantic's own list, as JSON values."""

    kind = ErrorKind.REQUEST_VALIDATION

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__("The request failed validation; see request_validation_detail")
        self.details = details


class IllegalPathError(CTSError, ValueError):
    """An object path breaks the rules of ``cts_core.object_paths``. A ValueError, too, so that models report it with their own."""

    kind = ErrorKind.ILLEGAL_PATH


class ChecksumMismatchError(CTSError):
    """Bytes, or a given checksum, differ from the checksum on record."""

    kind = ErrorKind.CHECKSUM_MISMATCH


class InputChangedError(ChecksumMismatchError):
    """An input is not the one that was expected: its checksum is another."""

    def __init__(self, path: str, expected: str, actual: str | None) -> None:
        # The transposed letters are the deployed service's: clients compare the sentence.
        super().__init__(
            f"The expected CRC64/NMVE checksum '{expected}' for the path '{path}' does not match the "
            f"actual checksum '{actual}'"
        )
        self.path = path
        self.expected = expected
        self.actual = actual


class ImageNameError(CTSError):
    """An image name cannot be parsed."""

    kind = ErrorKind.IMAGE_NAME


class ImageFetchError(CTSError):
    """The image's metadata could not be read from its registry."""

    kind = ErrorKind.IMAGE_FETCH


class NoEntrypointError(CTSError):
    """The image has no entrypoint."""

    kind = ErrorKind.NO_ENTRYPOINT


class RefdataStateError(CTSError):
    """Reference data is not in a state that allows this."""

    kind = ErrorKind.REFDATA_STATE


class JobStateError(CTSError):
    """The job is not in a state that allows this."""

    kind = ErrorKind.JOB_STATE


class NotFoundError(CTSError):
    """Nothing exists at this URL."""

    kind = ErrorKind.NOT_FOUND

    def __init__(self, message: str = "Not Found") -> None:
        super().__init__(message)


class MethodNotAllowedError(CTSError):
    """The URL exists, the method does not; ``allowed`` goes into the Allow header."""

    kind = ErrorKind.METHOD_NOT_ALLOWED

    def __init__(self, allowed: list[str]) -> None:
        super().__init__("Method Not Allowed")
        self.allowed = allowed


class BodyTimeoutError(CTSError):
    """The body of a request has come too slowly, or not at all."""

    kind = ErrorKind.BODY_TIMEOUT

    def __init__(self) -> None:
        super().__init__("The body of this request came too slowly and was given up: send it again")


class PayloadTooLargeError(CTSError):
    """The body of a request is larger than ``limit`` bytes."""

    kind = ErrorKind.PAYLOAD_TOO_LARGE

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body of this request may have at most {limit} bytes")


class PathNotFoundError(CTSError):
    """No object exists at this path."""

    kind = ErrorKind.PATH_NOT_FOUND


class BucketNotFoundError(CTSError):
    """The bucket does not exist."""

    kind = ErrorKind.BUCKET_NOT_FOUND


class NoSuchImageError(CTSError):
    """The image is not registered; ``help`` is sent besides the message, which clients compare."""

    kind = ErrorKind.NO_SUCH_IMAGE

    def __init__(self, message: str, help_: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.help = help_


class NoSuchJobError(CTSError):
    """The job does not exist, or has nothing left to cancel (deployed clients expect this error)."""

    kind = ErrorKind.NO_SUCH_JOB


class NoSuchContainerError(CTSError):
    """The job has no container with this number."""

    kind = ErrorKind.NO_SUCH_CONTAINER


class NoSuchRefdataError(CTSError):
    """The reference data is not registered."""

    kind = ErrorKind.NO_SUCH_REFDATA


class RefdataExistsError(CTSError):
    """Reference data of this file is registered already."""

    kind = ErrorKind.REFDATA_EXISTS


class NoLogsError(CTSError):
    """No byte of this log is stored."""

    kind = ErrorKind.NO_LOGS


class NoSuchChecksumsError(CTSError):
    """There is no such request for checksums, or none of this user's."""

    kind = ErrorKind.NO_SUCH_CHECKSUMS


class ImageTagExistsError(CTSError):
    """An image with this name and tag is registered already."""

    kind = ErrorKind.IMAGE_TAG_EXISTS


class ImageDigestExistsError(CTSError):
    """An image with this name and digest is registered already."""

    kind = ErrorKind.IMAGE_DIGEST_EXISTS


class ResourceUnavailableError(CTSError):
    """Something that the request needs is exhausted or unavailable, such as a site."""

    kind = ErrorKind.RESOURCE_UNAVAILABLE


class ClientLifetimeError(CTSError):
    """The client by which this service uses a site ends sooner than the caller needs it."""

    kind = ErrorKind.CLIENT_LIFETIME


class StorageFullError(ResourceUnavailableError):
    """There is no space left where something was to be stored; nothing was stored, and nothing else is affected."""

    kind = ErrorKind.STORAGE_FULL


class SiteInactiveError(CTSError):
    """An admin has deactivated the site."""

    kind = ErrorKind.SITE_INACTIVE


class SiteUnavailableError(CTSError):
    """The site is not configured, or cannot be reached."""

    kind = ErrorKind.SITE_UNAVAILABLE


class UnsupportedError(CTSError):
    """The operation is not supported by this configuration."""

    kind = ErrorKind.UNSUPPORTED


class TooManyRequestsError(CTSError):
    """A limit of the service is reached; ``retry_after`` is in seconds."""

    kind = ErrorKind.TOO_MANY_REQUESTS

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(CTSError):
    """A dependency of the service is down for now; nothing was lost, and the caller may retry."""

    kind = ErrorKind.UNAVAILABLE


class NewerRecordError(CTSError):
    """A record has content that only a newer version knows. The store itself is available."""

    kind = ErrorKind.UNAVAILABLE


class ConfigError(Exception):
    """The configuration is invalid; raised at start, names each invalid setting."""
