"""What the answers of S3 mean for one object of a worker."""

from __future__ import annotations

import pytest

from cts_core.worker.http.client import ResponseError, TransientError
from cts_core.worker.s3.errors import ObjectRefusedError, S3Error, to_error


def _error(status: int, code: str = "", message: str = "") -> Exception:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return to_error(ResponseError(status, text, "Sun, 29 Nov 2020 12:00:00 GMT"), "data/a", "GET")


@pytest.mark.parametrize(
    ("status", "code", "message", "text"),
    [
        (403, "RequestTimeTooSkewed", "", "ahead of that of the object store"),
        (403, "RequestExpired", "", "ahead of that of the object store"),
        (403, "AccessDenied", "Request has expired", "the clock of one of the two is off"),
        (403, "AccessDenied", "Request is not valid yet", "the clock of one of the two is off"),
        (403, "InvalidObjectState", "", "is in an archive storage class"),
        (507, "", "", "There is no space left at the object store for 'data/a'"),
        (507, "SomethingElse", "", "There is no space left at the object store for 'data/a'"),
        (500, "XMinioStorageFull", "", "There is no space left at the object store for 'data/a'"),
    ],
)
def test_what_no_retry_mends_is_said_at_once(
    status: int, code: str, message: str, text: str
) -> None:
    error = _error(status, code, message)
    assert type(error) is S3Error
    assert text in str(error)


def test_what_a_retry_may_mend() -> None:
    assert isinstance(_error(503, "SlowDown"), TransientError)
    assert isinstance(_error(500), TransientError)


def test_denied_access_is_the_objects() -> None:
    assert isinstance(_error(403, "AccessDenied", "Access Denied."), ObjectRefusedError)
