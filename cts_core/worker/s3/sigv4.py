"""Signs requests to S3 by their headers: AWS Signature Version 4, whose rules its manual gives.

Bodies are not part of the signature. A checksum of the body is, as the header that the server checks it by.
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
    """An object path as it stands in a URL, and in what is signed."""
    return quote(path, safe="/")


def query_string(parameters: Mapping[str, str]) -> str:
    """Parameters as they stand in a URL, and in what is signed."""
    return "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in sorted(parameters.items())
    )


@dataclass(frozen=True)
class _Daily:
    """What is good for a day."""

    day: str
    scope: str
    key: bytes = field(repr=False)


class Signer:
    """Signs with one pair of keys for one region. For many threads."""

    def __init__(self, access_key: str, secret: str, region: str) -> None:
        self._access_key = access_key
        self._secret = secret.encode()
        self._region = region
        self._latest = self._daily("")

    def sign(
        self, method: str, host: str, path: str, parameters: str, headers: Mapping[str, str]
    ) -> Dict[str, str]:
        """``headers``, whose names are in lower case, and those that sign them.

        ``path`` and ``parameters`` are quoted.
        """
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        daily = self._latest
        if now[:8] != daily.day:
            # As a whole: other threads sign meanwhile.
            daily = self._latest = self._daily(now[:8])
        signed = {
            **headers,
            "host": host,
            "x-amz-content-sha256": _UNSIGNED,
            "x-amz-date": now,
        }
        names = sorted(signed)
        named = ";".join(names)
        canonical = "\n".join(
            [
                method,
                path,
                parameters,
                *[f"{name}:{signed[name]}" for name in names],
                "",
                named,
                _UNSIGNED,
            ]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{now}\n{daily.scope}\n{digest}"
        signature = hmac.new(daily.key, text.encode(), hashlib.sha256).hexdigest()
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={self._access_key}/{daily.scope}, "
            f"SignedHeaders={named}, Signature={signature}"
        )
        return signed

    def _daily(self, day: str) -> _Daily:
        key = b"AWS4" + self._secret
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return _Daily(day, f"{day}/{self._region}/s3/aws4_request", key)
