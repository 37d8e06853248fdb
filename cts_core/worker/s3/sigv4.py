"""Signs requests to S3 by their headers: AWS Signature Version 4.

The rules are those of the AWS manual, "Signature Version 4 signing process". The payload is not part of the signature; a
checksum of it is, as the header that the server verifies it by.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import Dict, Mapping
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"


def quote_path(path: str) -> str:
    """Return an object path as it is encoded in a URL and in the canonical request."""
    return quote(path, safe="/")


def query_string(parameters: Mapping[str, str]) -> str:
    """Return parameters as they are encoded in a URL and in the canonical request."""
    return "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in sorted(parameters.items())
    )


@dataclass(frozen=True)
class _DailyKey:
    """A signing key and its scope, valid for one day."""

    day: str
    scope: str
    key: bytes = field(repr=False)


class Signer:
    """Signs with one pair of keys for one region. Thread-safe."""

    def __init__(self, access_key: str, secret: str, region: str) -> None:
        self._access_key = access_key
        self._secret = secret.encode()
        self._region = region
        self._daily_key = self._make_daily_key("")

    def sign(
        self, method: str, host: str, path: str, parameters: str, headers: Mapping[str, str]
    ) -> Dict[str, str]:
        """Return ``headers``, whose names are in lower case, with the headers that sign them.

        ``path`` and ``parameters`` are encoded.
        """
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        daily_key = self._daily_key
        if now[:8] != daily_key.day:
            # Replaced as a whole: other threads sign at the same time.
            daily_key = self._daily_key = self._make_daily_key(now[:8])
        signed = {
            **headers,
            "host": host,
            "x-amz-content-sha256": _UNSIGNED,
            "x-amz-date": now,
        }
        names = sorted(signed)
        signed_headers = ";".join(names)
        canonical = "\n".join(
            [
                method,
                path,
                parameters,
                *[f"{name}:{signed[name]}" for name in names],
                "",
                signed_headers,
                _UNSIGNED,
            ]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{now}\n{daily_key.scope}\n{digest}"
        signature = hmac.new(daily_key.key, text.encode(), hashlib.sha256).hexdigest()
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={self._access_key}/{daily_key.scope}, "
            f"SignedHeaders={signed_headers}, Signature={signature}"
        )
        return signed

    def _make_daily_key(self, day: str) -> _DailyKey:
        key = b"AWS4" + self._secret
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return _DailyKey(day, f"{day}/{self._region}/s3/aws4_request", key)
