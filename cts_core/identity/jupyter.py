"""Identity as Jupyter knows it: whoever Jupyter lets in is the owner of an embedded CTS.

No import of Jupyter: the server extension hands over what Jupyter made of the request.
"""

from __future__ import annotations

import hmac

from cts_core.errors import InvalidTokenError
from cts_core.identity.identity import Credentials, Role, User, bearer_token

OWNER_ROLES = frozenset({Role.ADMIN, Role.STAFF, Role.NERSC})
"""Where nobody gives roles, the owner may use every site."""


class JupyterIdentity:
    """One owner, whatever random name Jupyter gives a token's user; a hub's users keep their names.

    ``kernel_token`` opens ``/cts`` alone; the extension hands it to kernels by a file.
    """

    single_user = True
    uses_host_login = True

    def __init__(self, owner: str, kernel_token: str, *, hub_names: bool = False) -> None:
        """``hub_names``: Jupyter's identity comes from a hub, so its names are people's own."""
        self._owner = User(owner, OWNER_ROLES)
        self._hub_names = hub_names
        self._kernel_token = kernel_token.encode()

    async def open(self) -> None:
        """Nothing to get ready."""

    async def identify(self, credentials: Credentials) -> User:
        """The owner, for the kernel token or for a request that Jupyter has authenticated."""
        if credentials.host_user is not None:
            if self._hub_names:
                return User(credentials.host_user, OWNER_ROLES)
            return self._owner
        token = bearer_token(credentials.authorization)
        if hmac.compare_digest(token.encode(), self._kernel_token):
            return self._owner
        raise InvalidTokenError

    async def check_user(self, name: str, credentials: Credentials) -> None:
        """Jupyter keeps no list of users, so that any name may be one's."""

    async def close(self) -> None:
        """Nothing to release."""
