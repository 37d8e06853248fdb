"""CORS: which pages of other origins may call the API with the caller's credentials."""

from __future__ import annotations

from collections.abc import Collection, Mapping

_METHODS = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"
_EXPOSED = "X-Request-ID, ETag, Content-Disposition, x-amz-checksum-crc64nvme, X-CTS-Log-Size, X-CTS-Log-Ended"
_PREFLIGHT_SECONDS = 600


def is_preflight(method: str | None, headers: Mapping[str, str]) -> bool:
    """Return whether the request is a CORS preflight, which never carries a token."""
    return (
        method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers
    )


def cors_headers(headers: Mapping[str, str], origins: Collection[str]) -> dict[str, str]:
    """Return the CORS headers of every response, errors included."""
    if not origins:
        return {}
    origin = headers.get("Origin")
    if origin is None or origin not in origins:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": _EXPOSED,
    }


def preflight_headers(headers: Mapping[str, str], origins: Collection[str]) -> dict[str, str]:
    """Return the further headers of a response to a preflight; none for an origin that is not configured."""
    if headers["Origin"] not in origins:
        return {}
    return {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": headers.get("Access-Control-Request-Headers", ""),
        "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
    }
