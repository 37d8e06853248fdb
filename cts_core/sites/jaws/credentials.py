"""The credentials for NERSC: a client's id and key in a file, and the tokens that they are exchanged for.

NERSC's clients live for days and are renewed by hand: the file is looked at again and again, and a changed one is taken once it has been
checked. Neither key nor token is logged, stored or shown.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import jwt
from pydantic import SecretStr

from cts_core.clock import utc_now, utc_text
from cts_core.errors import ConfigError, UnavailableError
from cts_core.http_client import HttpClient, NoResponseError

log = logging.getLogger(__name__)

_OK = 200
_ASSERTION_SECONDS = 60
"""How long a signed request for a token is valid."""
_EARLY_SECONDS = 60.0
"""How long before its end a token is not used any more, so that none ends in the middle of a call."""
_MAX_KEY_BYTES = 20_000
_ALGORITHM = "RS256"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True)
class Key:
    """A client's id and its private key."""

    client_id: str
    pem: SecretStr


def read_key(path: Path) -> Key:
    """Return what a key file holds: the client's id in the first line, the key in PEM in the rest. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_KEY_BYTES).decode()
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or "it is no text"
        raise ConfigError(f"jaws.sfapi_cred_path: {path} cannot be read: {reason}") from None
    client_id, _, pem = text.strip().partition("\n")
    if not client_id.strip() or "-----BEGIN" not in pem:
        raise ConfigError(
            f"jaws.sfapi_cred_path: {path} has to have the client's id in its first line, and its key in PEM below it"
        )
    return Key(client_id.strip(), SecretStr(pem.strip() + "\n"))


class Credentials:
    """Exchanges a key for tokens, and keeps the last one while it is valid."""

    def __init__(
        self,
        key: Key,
        http: HttpClient,
        token_url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.key = key
        self._http = http
        self._token_url = token_url
        self._clock = clock
        self._token: SecretStr | None = None
        self._valid_until = 0.0

    async def token(self) -> SecretStr:
        """Return a valid token. Raises UnavailableError, also if NERSC refuses the key."""
        if self._token is None or self._clock() >= self._valid_until:
            self._token, seconds = await self._fetch()
            self._valid_until = self._clock() + seconds - _EARLY_SECONDS
        return self._token

    def forget_token(self) -> None:
        """Have the next call fetch another token, since this one was refused."""
        self._token = None

    async def _fetch(self) -> tuple[SecretStr, float]:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self._assertion(),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            status, body = await self._http.send(
                "POST", self._token_url, headers=headers, content=urlencode(form).encode()
            )
        except NoResponseError as e:
            raise UnavailableError(f"NERSC gives no token: {e}") from None
        try:
            answer = json.loads(body)
            token, seconds = answer["access_token"], float(answer["expires_in"])
        except (ValueError, KeyError, TypeError):
            token, seconds = None, 0.0
        if status != _OK or not isinstance(token, str):
            raise UnavailableError(
                f"NERSC gives no token for its client {self.key.client_id} (status {status}): the client may have "
                "expired, or be bound to other addresses (jaws.sfapi_cred_path); or this server's clock is wrong: it says "
                f"{utc_text(utc_now())}"
            )
        return SecretStr(token), seconds

    def _assertion(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.key.client_id,
            "sub": self.key.client_id,
            "aud": self._token_url,
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
            "jti": secrets.token_hex(16),
        }
        try:
            return jwt.encode(claims, self.key.pem.get_secret_value(), algorithm=_ALGORITHM)
        except (ValueError, TypeError, jwt.PyJWTError):
            # Their messages may quote the key.
            raise UnavailableError(
                "The key for NERSC is none in PEM for RSA (jaws.sfapi_cred_path): put the client's own key there"
            ) from None
