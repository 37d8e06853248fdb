"""Idempotency keys of clients: the same key and request of a user give what the first one made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cts_core.errors import IllegalParameterError
from cts_core.model.record import Idempotency
from cts_core.records.store import KeyHolder

MAX_KEY = 255


def idempotency_of(key: str | None, body: Callable[[], str]) -> Idempotency | None:
    """Return a client's idempotency key with the hash of its request. Raises IllegalParameterError."""
    if key is None:
        return None
    if not (0 < len(key) <= MAX_KEY and key.isprintable()):
        raise IllegalParameterError(f"An Idempotency-Key is 1 to {MAX_KEY} printable characters")
    return Idempotency(key, hashlib.sha256(body().encode()).hexdigest())


def id_of_same(holder: KeyHolder, requested: Idempotency, what: str) -> str:
    """Return the id of ``what`` was made with a key. Raises IllegalParameterError if another request made it."""
    if holder.body_hash != requested.body_hash:
        raise IllegalParameterError(
            f"The Idempotency-Key '{requested.key}' was used for another request ({what} {holder.id}): "
            "use a new key for a new one"
        )
    return holder.id
