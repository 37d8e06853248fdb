"""Whose a request is: by the login of the hosting Jupyter server, or by its Authorization header alone."""

from __future__ import annotations

import inspect
import re
from http import HTTPStatus
from typing import Any, cast

from jupyter_server.base.handlers import JupyterHandler
from tornado.web import HTTPError, RequestHandler

from cts_core.errors import InvalidTokenError, NoTokenError, UnauthorizedError, UnavailableError
from cts_core.identity.identity import Credentials, Identity, User
from cts_jupyter.server.http.route import Access

RESOURCE = "cts"
"""What Jupyter's authorizers know the API as."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN = re.compile(r"(token|bearer)\b", re.IGNORECASE)


def check_roles(user: User | None, access: Access) -> None:
    """Raise UnauthorizedError for who lacks the role that a route needs."""
    if access.roles and not (user and access.roles & user.roles):
        name = user.name if user else "anonymous"
        roles = " or ".join(sorted(role.value for role in access.roles))
        raise UnauthorizedError(f"User {name} is not a {roles}")


def find_access(handler: RequestHandler, identity: Identity) -> BearerAccess | JupyterAccess:
    """How the callers of this identity are told apart."""
    return JupyterAccess(handler) if identity.uses_host_login else BearerAccess(handler)


class BearerAccess:
    """The Authorization header alone: what Jupyter makes of a request neither lets it in nor keeps it out.

    A browser sends no such header by itself. So no other page can act for anybody, under whatever name it
    reaches this server: no XSRF token is needed, and any Host will do.
    """

    checks_every_token = True
    """Whether a bad token is refused also where none is needed, as the deployed service does."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    def check_host(self) -> None:
        """Any will do."""

    async def identify(self, identity: Identity, *, required: bool) -> User | None:
        """The caller. A token that is no good is refused even where none is ``required``.

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
    """Jupyter's checks for a handler that is not Jupyter's."""

    checks_every_token = False

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._provider = handler.settings["identity_provider"]

    def check_host(self) -> None:
        """Refuse a Host that is not this machine's unless Jupyter allows it: DNS rebinding."""
        if not JupyterHandler.check_host(cast("Any", self._handler)):
            raise UnauthorizedError(
                "The Host of this request is not this machine's; set ServerApp.allow_remote_access to "
                "serve CTS under other names"
            )

    async def identify(self, identity: Identity, *, required: bool) -> User | None:
        """The caller. A token that is no good is refused even where none is ``required``.

        Raises the errors of Identity, and UnauthorizedError where Jupyter's authorizer forbids it, and for a
        request that changes something on the strength of a cookie but lacks the XSRF token.
        """
        authorization = self._handler.request.headers.get("Authorization")
        host_user = await self._host_user()
        by_token = host_user is not None and self._provider.is_token_authenticated(self._handler)
        if not by_token and authorization is not None and _TOKEN.match(authorization):
            # A token that somebody sends on purpose counts, whatever cookie their browser adds.
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

    async def _host_user(self) -> Any:  # noqa: ANN401 - whatever the provider knows of a user
        try:
            found = self._provider.get_user(self._handler)
            return await found if inspect.isawaitable(found) else found
        except HTTPError as e:
            if e.status_code != HTTPStatus.BAD_REQUEST:
                raise
            # A token in the query that is no text. Tornado's message would repeat it.
            raise InvalidTokenError from None

    async def _authorize(self, host_user: Any) -> None:  # noqa: ANN401 - the provider's
        """Let Jupyter's authorizer have its say about whom Jupyter has let in."""
        handler = self._handler
        action = "read" if handler.request.method in _SAFE_METHODS else "write"
        answer = handler.settings["authorizer"].is_authorized(handler, host_user, action, RESOURCE)
        if not (await answer if inspect.isawaitable(answer) else answer):
            raise UnauthorizedError(f"This Jupyter server does not let you {action} its {RESOURCE}")

    def _check_xsrf(self) -> None:
        handler = self._handler
        if handler.request.method in _SAFE_METHODS or handler.settings.get("disable_check_xsrf"):
            return
        try:
            # Not our handler's own, which does nothing.
            RequestHandler.check_xsrf_cookie(handler)
        except HTTPError as e:
            raise UnauthorizedError(
                "This request is authenticated by a cookie and changes something, so it needs Jupyter's XSRF "
                "token: send the value of the cookie _xsrf in the header X-XSRFToken, or use a token"
            ) from e
