"""Identity as Jupyter knows it: whoever Jupyter lets in is the owner of an embedded CTS.

No import of Jupyter: the server extension hands over what Jupyter made of the request.
"""

from __future__ import annotations

import hmac
import re

from cts_core.errors import InvalidAuthHeaderError, InvalidTokenError, NoTokenError
from cts_core.identity.identity import Credentials, Role, User

OWNER_ROLES = frozenset({Role.ADMIN, Role.STAFF, Role.NERSC})
"""Where nobody gives roles, the owner may use every site."""
_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)


class JupyterIdentity:
    """One owner, whatever random name Jupyter gives a token's user; a hub's users keep their names.

    ``kernel_token`` opens ``/cts`` alone; the extension hands it to kernels by a file.
    """

    single_user = True

    def __init__(self, owner: str, kernel_token: str, *, hub_names: bool = False) -> None:
        """``hub_names``: Jupyter's identity comes from a hub, so its names are people's own."""
        self._owner = User(owner, OWNER_ROLES)
        self._hub_names = hub_names
        self._kernel_token = kernel_token.encode()

    async def identify(self, credentials: Credentials) -> User:
        """The owner, for the kernel token or for a request that Jupyter has authenticated."""
        if credentials.host_user is not None:
            if self._hub_names:
                return User(credentials.host_user, OWNER_ROLES)
            return self._owner
        if credentials.authorization is None:
            raise NoTokenError(
                "No token was given: send it as 'Authorization: Bearer <token>', or log in to Jupyter"
            )
        match = _BEARER.fullmatch(credentials.authorization)
        if not match:
            raise InvalidAuthHeaderError("The Authorization header must be 'Bearer <token>'")
        if hmac.compare_digest(match[1].encode(), self._kernel_token):
            return self._owner
        raise InvalidTokenError

    async def close(self) -> None:
        """Nothing to release."""
