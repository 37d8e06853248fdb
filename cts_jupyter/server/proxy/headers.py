"""The headers that pass, each way. All others stay here: cookies, tokens of Jupyter's, what concerns one connection."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tornado.httputil import HTTPHeaders

_ASKED = frozenset(
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
        "range",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-request-id",
    }
)
_ANSWERED = frozenset(
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
        # Cards tell the service's clock from the browser's by it.
        "date",
        "etag",
        "expires",
        "last-modified",
        "retry-after",
        "x-accel-buffering",
        "x-request-id",
    }
)
_CHECKSUMS = "x-amz-checksum-"
_PLAIN = re.compile(r"[\t -~\x80-\xff]*")


def asked_headers(headers: HTTPHeaders) -> Iterator[tuple[str, str]]:
    """Of a request's headers, those for the service."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    for name, value in headers.get_all():
        if _passes(name, value, _ASKED) and name.lower() not in named:
            yield name, value


def answered_headers(headers: HTTPHeaders) -> Iterator[tuple[str, str]]:
    """Of an answer's headers, those for the client."""
    for name, value in headers.get_all():
        if _passes(name, value, _ANSWERED):
            yield name, value


def _passes(name: str, value: str, known: frozenset[str]) -> bool:
    lower = name.lower()
    return (lower in known or lower.startswith(_CHECKSUMS)) and bool(_PLAIN.fullmatch(value))
