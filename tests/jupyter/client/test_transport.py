"""Which errors end a wait, and which the service may get over."""

from __future__ import annotations

import pytest

from cts_jupyter.client.transport import (
    CTSClientError,
    CTSConnectionError,
    CTSRequestError,
    ForeignResponseError,
    is_away,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CTSConnectionError("cut"), True),
        (CTSRequestError("starting", status=503), True),
        (CTSRequestError("no such job", status=404), False),
        (CTSRequestError("no such job", status=403), False),
        # JupyterHub's, while a user's server does not run.
        (ForeignResponseError("302 Found", status=302), True),
        (ForeignResponseError("424 Failed Dependency", status=424), True),
        (ForeignResponseError("502 Bad Gateway", status=502), True),
        (ForeignResponseError("401 Unauthorized", status=401), False),
        (ForeignResponseError("403 Forbidden", status=403), False),
        (CTSClientError("the bytes differ"), False),
    ],
)
def test_service_that_is_away_may_come_back(error: CTSClientError, expected: bool) -> None:  # noqa: FBT001 - a case's
    assert is_away(error) is expected
