"""The translation of every exception into an HTTP response (docs/reference/contract.md §1).

Codes, names and statuses of our own errors are the table ``cts_core.errors.ErrorKind``. All else that a response to
an error says is decided here: headers, body, what a caller may read of it, and how it is logged.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from typing import Self

from tornado.web import HTTPError

from cts_core.clock import utc_now
from cts_core.errors import (
    BucketNotFoundError,
    CTSError,
    MethodNotAllowedError,
    NoLogsError,
    NoSuchImageError,
    PathNotFoundError,
    RequestValidationError,
    StorageFullError,
    TooManyRequestsError,
    UnavailableError,
)
from cts_core.model.service import ErrorDetail

_LOOKS = ("GET", "HEAD")
_NOTHING_THERE = (BucketNotFoundError, NoLogsError, PathNotFoundError)
UNEXPECTED = "An unexpected error occurred"


class NotRunningError(UnavailableError):
    """CTS is not running; its message is shown to every caller, since no caller can be identified."""


@dataclass(frozen=True)
class ErrorResponse:
    """The response to an exception, or to a bare status where tornado gives no exception."""

    error: BaseException | None
    status: int

    @classmethod
    def of(
        cls, error: BaseException | None, default: int = HTTPStatus.INTERNAL_SERVER_ERROR
    ) -> Self:
        """Return the response to an exception; ``default`` is the status of one that is neither ours nor tornado's."""
        if isinstance(error, CTSError):
            return cls(error, error.kind.status)
        return cls(error, error.status_code if isinstance(error, HTTPError) else default)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with this error."""
        if isinstance(self.error, MethodNotAllowedError):
            return {"Allow": ", ".join(self.error.allowed)}
        if isinstance(self.error, TooManyRequestsError):
            return {"Retry-After": str(self.error.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        return {}

    @property
    def is_server_error(self) -> bool:
        """Whether the service is at fault, and not the request."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def is_unexpected(self) -> bool:
        """Whether the error is a defect, so that its traceback belongs into the log."""
        return self.is_server_error and not isinstance(self.error, CTSError)

    def log_level(self, method: str | None) -> int:
        """Return the level at which the error of a request is logged."""
        if self.is_unexpected or isinstance(self.error, StorageFullError):
            return logging.ERROR
        if self.is_server_error:
            return logging.WARNING
        # Whoever follows a log, or looks into a new folder, is answered so again and again.
        is_nothing_yet = method in _LOOKS and isinstance(self.error, _NOTHING_THERE)
        return logging.DEBUG if is_nothing_yet else logging.INFO

    def body(self, *, request_id: str, to_admin: bool) -> bytes:
        """Return the JSON body; only admins read what went wrong inside the service."""
        detail = ErrorDetail(
            httpcode=self.status,
            httpstatus=responses.get(self.status, "Unknown"),
            time=utc_now(),
            message=self._message(to_admin=to_admin),
            request_id=request_id,
        )
        if isinstance(self.error, CTSError):
            kind = self.error.kind
            detail.appcode, detail.apperror = kind.appcode, kind.apperror
        content = detail.to_json()
        if isinstance(self.error, RequestValidationError):
            # Added after to_json, which leaves nulls out: here they mean something.
            content["request_validation_detail"] = self.error.details
        if isinstance(self.error, NoSuchImageError) and self.error.help:
            content["image_help"] = self.error.help
        return json.dumps({"error": content}).encode()

    def _message(self, *, to_admin: bool) -> str:
        if self.is_server_error:
            is_visible = to_admin or isinstance(self.error, NotRunningError | StorageFullError)
            return str(self.error) if is_visible and self.error and str(self.error) else UNEXPECTED
        if isinstance(self.error, HTTPError):
            return (
                self.error.reason
                or self.error.get_message()
                or responses.get(self.status, "Unknown")
            )
        return str(self.error)
