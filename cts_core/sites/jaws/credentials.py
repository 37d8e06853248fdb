"""The credentials for NERSC: a client's id and key in a file, and the tokens that they are exchanged for.

NERSC's clients live for days and are renewed by hand: the file is looked at again and again, and a changed one is taken once it has been
checked. Neither key nor token is logged, stored or shown.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from cts_core.backoff import Backoff
from cts_core.clock import utc_now, utc_text
from cts_core.concurrency import run_in_pool
from cts_core.errors import ConfigError, UnavailableError
from cts_core.http_client import HttpClient, NoResponseError
from cts_core.sites.jaws.pace import Pace

_OK = 200
_ASSERTION_SECONDS = 60
"""How long a signed request for a token is valid."""
_EARLY_SECONDS = 60.0
"""How long before its end a token is not used any more, so that none ends in the middle of a call."""
RETRY = Backoff(first=5.0, longest=60.0)
"""Before the next request for a token, after failures in a row."""
_REFUSED = (400, 401, 403)
"""Statuses by which NERSC refuses a client; others say nothing of it."""
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
    """Exchanges a key for tokens; all calls share one while it is valid, and all wait for the one request for the next."""

    def __init__(
        self,
        key: Key,
        http: HttpClient,
        token_url: str,
        pace: Pace,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.key = key
        self.refusal: str | None = None
        """Why NERSC does not take the client, as far as is known; None while it takes it."""
        self._http = http
        self._token_url = token_url
        self._pace = pace
        self._clock = clock
        self._private: RSAPrivateKey | None = None
        self._fetching = asyncio.Lock()
        self._token: SecretStr | None = None
        self._renew_at = 0.0
        self._is_proven = False
        """Whether a call was answered with the present token."""
        self._failures = 0
        self._failure = ""
        self._retry_at = float("-inf")

    async def token(self) -> SecretStr:
        """Return a valid token. Raises UnavailableError, also if NERSC refuses the key.

        A failure counts for all calls, for some seconds: NERSC is not asked again by each of them.
        """
        async with self._fetching:
            if self._token is None or self._clock() >= self._renew_at:
                if self._clock() < self._retry_at:
                    raise UnavailableError(self._failure)
                try:
                    self._token, seconds = await self._fetch()
                except UnavailableError as e:
                    self._note_failure(str(e))
                    raise
                self._renew_at = self._clock() + seconds - min(_EARLY_SECONDS, seconds / 2)
                self._is_proven = False
            return self._token

    def accept(self, token: SecretStr) -> None:
        """Note that NERSC has taken a token."""
        if token == self._token and not self._is_proven:
            self._is_proven = True
            self.refusal, self._failures = None, 0

    def refuse(self, token: SecretStr) -> None:
        """Have the next call fetch another token, since NERSC has refused this one; of many calls that it refused the first counts."""
        if token != self._token:
            return
        self._token = None
        if not self._is_proven:
            # It may end what was valid, as when it restarts. But one that never was says something of the client.
            self.refusal = (
                f"NERSC refuses the tokens that it gives to its client {self.key.client_id}"
            )
            self._note_failure(self.refusal)

    def _note_failure(self, reason: str) -> None:
        self._failures += 1
        self._failure = reason
        self._retry_at = self._clock() + RETRY.delay(self._failures)

    async def _fetch(self) -> tuple[SecretStr, float]:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": await run_in_pool(self._assertion),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        await self._pace.turn()
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
        if status == _OK and isinstance(token, str):
            return SecretStr(token), seconds
        reason = f"NERSC gives no token for its client {self.key.client_id} (status {status})"
        if status not in _REFUSED:
            raise UnavailableError(reason)
        self.refusal = (
            f"{reason}: the client may have expired, or be bound to other addresses (jaws.sfapi_cred_path); or this server's "
            f"clock is wrong: it says {utc_text(utc_now())}"
        )
        raise UnavailableError(self.refusal)

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
            if self._private is None:
                self._private = _load(self.key)
            return jwt.encode(claims, self._private, algorithm=_ALGORITHM)
        except Exception:  # noqa: BLE001 - whatever is wrong with a key: what says it may quote the key
            raise UnavailableError(
                "The key for NERSC is none in PEM for RSA (jaws.sfapi_cred_path): put the client's own key there"
            ) from None


def _load(key: Key) -> RSAPrivateKey:
    # The check of a key computes for up to a second, and holds the event loop even from a thread. Operators put keys there, and
    # NERSC refuses what a wrong one signs.
    pem = key.pem.get_secret_value().encode()
    private = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, RSAPrivateKey):
        raise TypeError("the key is for something else")
    return private
