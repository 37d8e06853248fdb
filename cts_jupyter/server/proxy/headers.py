"""The headers that are forwarded in each direction; cookies, Jupyter's tokens and hop-by-hop headers are not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tornado.httputil import HTTPHeaders

_REQUEST = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "content-encoding",
        "content-type",
        "idempotency-key",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "last-event-id",
        "prefer",
        "range",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-request-id",
    }
)
_RESPONSE = frozenset(
    {
        "accept-ranges",
        "allow",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-range",
        "content-type",
        # The job card compares the service's clock with the browser's by it.
        "date",
        "etag",
        "expires",
        "last-modified",
        "preference-applied",
        "retry-after",
        "x-accel-buffering",
        "x-cts-log-ended",
        "x-cts-log-size",
        "x-request-id",
    }
)
_CHECKSUM_PREFIX = "x-amz-checksum-"
_PRINTABLE = re.compile(r"[\t -~\x80-\xff]*")


def request_headers(headers: HTTPHeaders) -> Iterator[tuple[str, str]]:
    """Iterate over the headers of a request that are forwarded to the upstream."""
    hop_by_hop = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    for name, value in headers.get_all():
        if _is_forwarded(name, value, _REQUEST) and name.lower() not in hop_by_hop:
            yield name, value


def response_headers(headers: HTTPHeaders) -> Iterator[tuple[str, str]]:
    """Iterate over the headers of a response that are forwarded to the client."""
    for name, value in headers.get_all():
        if _is_forwarded(name, value, _RESPONSE):
            yield name, value


def _is_forwarded(name: str, value: str, allowed: frozenset[str]) -> bool:
    lower = name.lower()
    return (lower in allowed or lower.startswith(_CHECKSUM_PREFIX)) and bool(
        _PRINTABLE.fullmatch(value)
    )
