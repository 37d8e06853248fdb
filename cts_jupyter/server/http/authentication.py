"""Authentication of requests: by the Jupyter server's login, by the Authorization header alone, or by the monitor's token."""

from __future__ import annotations

import contextlib
import hmac
import inspect
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from jupyter_server.base.handlers import JupyterHandler
from pydantic import SecretStr
from tornado.web import HTTPError, RequestHandler

from cts_core.errors import (
    InvalidAuthHeaderError,
    InvalidTokenError,
    NoTokenError,
    UnauthorizedError,
    UnavailableError,
)
from cts_core.identity.identity import Credentials, Identity, Role, User
from cts_jupyter.server.http.route import Access

RESOURCE = "cts"
"""The API's name in the rules of Jupyter's authorizers."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_MONITOR = User("monitor", frozenset({Role.MONITOR}))
_BEARER = re.compile(r"bearer\b", re.IGNORECASE)


def check_roles(user: User | None, access: Access) -> None:
    """Raise UnauthorizedError if the user lacks the role that a route needs."""
    if access.roles and not (user and access.roles & user.roles):
        name = user.name if user else "anonymous"
        roles = " or ".join(sorted(role.value for role in access.roles))
        raise UnauthorizedError(f"User {name} is not a {roles}")


def identify_monitor(headers: Mapping[str, str], token: SecretStr) -> User | None:
    """Return the monitor if a request carries the configured ``metrics_token``, else None."""
    secret = token.get_secret_value()
    authorization = headers.get("Authorization", "")
    is_monitor = bool(secret) and hmac.compare_digest(
        authorization.encode(), f"Bearer {secret}".encode()
    )
    return _MONITOR if is_monitor else None


def access_for(handler: RequestHandler, identity: Identity) -> BearerAccess | JupyterAccess:
    """Return the way in which callers of this identity are authenticated."""
    return JupyterAccess(handler) if identity.uses_host_login else BearerAccess(handler)


class BearerAccess:
    """Authentication by the Authorization header alone; Jupyter's own login is ignored.

    A browser never sends this header by itself. So a page of another origin cannot act for a user, whatever
    host name it reaches this server by: no XSRF token is needed, and every Host is accepted.
    """

    checks_every_token = True
    """Whether a bad token is refused also where none is needed, as the deployed service does."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    def check_host(self) -> None:
        """Accept every Host."""

    async def identify(self, identity: Identity, *, required: bool) -> User | None:
        """Return the caller; refuse an invalid token even where none is ``required``.

        Raises the errors of Identity.
        """
        authorization = self._handler.request.headers.get("Authorization")
        try:
            return await identity.identify(Credentials(authorization))
        except (NoTokenError, UnavailableError):
            if required:
                raise
            return None


class JupyterAccess:
    """Authentication by the Jupyter server's login, with the checks that Jupyter's own handlers make."""

    checks_every_token = False

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._provider = handler.settings["identity_provider"]

    def check_host(self) -> None:
        """Refuse a Host that is not this machine's unless Jupyter allows it, against DNS rebinding."""
        if not JupyterHandler.check_host(cast("Any", self._handler)):
            raise UnauthorizedError(
                "The Host of this request is not this machine's; set ServerApp.allow_remote_access to "
                "serve CTS under other names"
            )

    async def identify(self, identity: Identity, *, required: bool) -> User | None:
        """Return the caller; refuse an invalid token even where none is ``required``.

        Raises the errors of Identity, and UnauthorizedError where Jupyter's authorizer forbids the request, or
        where a cookie alone authenticates a request that changes something and the XSRF token is missing.
        """
        authorization = self._handler.request.headers.get("Authorization")
        if authorization is not None:
            # A token of our own is valid whatever Jupyter says: its hub, which may be away, is not asked.
            with contextlib.suppress(InvalidAuthHeaderError, InvalidTokenError):
                return await identity.identify(Credentials(authorization))
        host_user = await self._host_user()
        by_token = host_user is not None and self._provider.is_token_authenticated(self._handler)
        if not by_token and authorization is not None and _BEARER.match(authorization):
            # A client sends it on purpose, so it takes precedence over a cookie. A page of Jupyter sends the scheme "token"
            # with what was valid when it was loaded, and goes on by the cookie of a later login.
            host_user = None
        if host_user is not None:
            await self._authorize(host_user)
        name = host_user.username if host_user is not None else None
        try:
            user = await identity.identify(Credentials(authorization, name))
        except NoTokenError:
            if required:
                raise
            return None
        if host_user is not None and not by_token:
            self._check_xsrf()
        return user

    async def _host_user(self) -> Any:  # noqa: ANN401 - each provider has its own class of users
        try:
            user = self._provider.get_user(self._handler)
            return await user if inspect.isawaitable(user) else user
        except HTTPError as e:
            if e.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                # A hub, which knows its users, cannot be asked now.
                raise UnavailableError(
                    "Jupyter cannot find out now who sent this request: the server's log says why"
                ) from e
            if e.status_code != HTTPStatus.BAD_REQUEST:
                raise
            # The token in the query is not UTF-8; tornado's message would repeat it.
            raise InvalidTokenError from None

    async def _authorize(self, host_user: Any) -> None:  # noqa: ANN401 - as above
        """Ask Jupyter's authorizer about a user whom Jupyter has authenticated."""
        handler = self._handler
        action = "read" if handler.request.method in _SAFE_METHODS else "write"
        allowed = handler.settings["authorizer"].is_authorized(handler, host_user, action, RESOURCE)
        if not (await allowed if inspect.isawaitable(allowed) else allowed):
            raise UnauthorizedError(f"This Jupyter server does not let you {action} its {RESOURCE}")

    def _check_xsrf(self) -> None:
        handler = self._handler
        if handler.request.method in _SAFE_METHODS or handler.settings.get("disable_check_xsrf"):
            return
        try:
            # Our handler overrides this method to check nothing.
            RequestHandler.check_xsrf_cookie(handler)
        except HTTPError as e:
            raise UnauthorizedError(
                "This request is authenticated by a cookie and changes something, so it needs Jupyter's XSRF "
                "token: send the value of the cookie _xsrf in the header X-XSRFToken, or use a token"
            ) from e
