"""Identity by Jupyter: every user whom Jupyter authenticates is the owner of an embedded CTS.

This does not import Jupyter: the server extension passes the user that Jupyter has authenticated.
"""

from __future__ import annotations

import hmac

from typing_extensions import override

from cts_core.errors import InvalidTokenError
from cts_core.identity.identity import Credentials, Identity, Role, User, bearer_token

OWNER_ROLES = frozenset({Role.ADMIN, Role.STAFF, Role.NERSC})
"""No service assigns roles here, and the owner may use every site."""


class JupyterIdentity(Identity):
    """One owner, whatever random name Jupyter gives to the user of a token; other users of a hub keep their names.

    ``kernel_token`` is valid for ``/cts`` alone; the extension passes it to kernels by a file.
    """

    single_user = True
    uses_host_login = True

    def __init__(self, owner: str, kernel_token: str, *, hub_user: str | None = None) -> None:
        """On a hub, ``hub_user`` is the owner's name there; Jupyter's user names are then those of real users."""
        self._owner = User(owner, OWNER_ROLES)
        self._hub_user = hub_user
        self._kernel_token = kernel_token.encode()

    @override
    async def open(self) -> None:
        pass

    @override
    async def identify(self, credentials: Credentials) -> User:
        if credentials.host_user is not None:
            if self._hub_user in (None, credentials.host_user):
                return self._owner
            return User(credentials.host_user, OWNER_ROLES)
        token = bearer_token(credentials.authorization)
        if hmac.compare_digest(token.encode(), self._kernel_token):
            return self._owner
        raise InvalidTokenError

    @override
    async def check_user(self, name: str, credentials: Credentials) -> None:
        pass  # Jupyter has no list of users: every name is accepted

    @override
    async def close(self) -> None:
        pass
