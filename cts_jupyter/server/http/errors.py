"""Every error as the contract writes it (facts, §1)."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.client import responses

from tornado.web import HTTPError

from cts_core.clock import utc_now
from cts_core.errors import (
    CTSError,
    MethodNotAllowedError,
    NoSuchImageError,
    RequestValidationError,
    TooManyRequestsError,
    UnavailableError,
)
from cts_core.model.service import ErrorDetail

UNEXPECTED = "An unexpected error occurred"


class NotRunningError(UnavailableError):
    """CTS has not started; everybody is told why, since nobody can be identified."""


class PayloadTooLargeError(HTTPError):
    """A body above the bound; ``limit`` in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, reason=f"The body of this request may have at most {limit} bytes")


def error_status(error: BaseException | None, fallback: int = 500) -> int:
    """The HTTP status that answers an error."""
    if isinstance(error, CTSError):
        return error.kind.status
    return error.status_code if isinstance(error, HTTPError) else fallback


def error_headers(error: BaseException | None) -> dict[str, str]:
    """Headers that go with an error."""
    if isinstance(error, MethodNotAllowedError):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, TooManyRequestsError):
        return {"Retry-After": str(error.retry_after)}
    if error_status(error) == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    return {}


def error_body(
    error: BaseException | None, *, status: int, request_id: str, to_admin: bool
) -> bytes:
    """The envelope. What went wrong inside is told to admins only."""
    detail = ErrorDetail(
        httpcode=status,
        httpstatus=responses.get(status, "Unknown"),
        time=utc_now(),
        message=_message(error, status, to_admin=to_admin),
        request_id=request_id,
    )
    if isinstance(error, CTSError):
        detail.appcode, detail.apperror = error.kind.appcode, error.kind.apperror
    content = detail.to_json()
    if isinstance(error, RequestValidationError):
        # Put in as it is: nulls in it mean something.
        content["request_validation_detail"] = error.details
    if isinstance(error, NoSuchImageError) and error.help:
        content["image_help"] = error.help
    return json.dumps({"error": content}).encode()


def _message(error: BaseException | None, status: int, *, to_admin: bool) -> str:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        told = to_admin or isinstance(error, NotRunningError)
        return str(error) if told and error is not None and str(error) else UNEXPECTED
    if isinstance(error, HTTPError):
        return error.reason or error.get_message() or responses.get(status, "Unknown")
    return str(error)
