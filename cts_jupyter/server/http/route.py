"""Routes and how a request is matched with one, or gets a 404 or 405."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote

from pydantic import BaseModel

from cts_core.errors import CTSError, MethodNotAllowedError, NotFoundError
from cts_core.identity.identity import Role
from cts_core.json_pieces import Written
from cts_jupyter.server.http.call import Stream, Upload

JSON = "application/json"
EVENTS = "text/event-stream"
EVENT_KINDS = ("begin", "transition", "progress", "checksum", "ping", "end")
"""The names of the events of a stream."""
_PLACEHOLDER = re.compile(r"\{(\w+)(:path)?\}")


class Access(Enum):
    """Who may use a route: anyone, any user, or users who have one of its ``roles``."""

    ANYONE = "anyone"
    USER = "user"
    ADMIN = "admin"
    EXECUTOR = "executor"
    ADMIN_OR_EXECUTOR = "admin or executor"
    REFDATA_SERVICE = "refdata service"
    CTS = "CTS itself"
    ADMIN_OR_CTS = "admin or CTS itself"
    MONITOR = "admin or monitor"
    WORKER = "worker"
    """An executor, or the holder of the token of the container in the path."""

    @property
    def roles(self) -> frozenset[Role]:
        """Roles of which the caller needs one; empty if none is needed."""
        return _ROLES.get(self, frozenset())


_ROLES = {
    Access.ADMIN: frozenset({Role.ADMIN}),
    Access.EXECUTOR: frozenset({Role.EXECUTOR}),
    Access.WORKER: frozenset({Role.EXECUTOR}),
    Access.ADMIN_OR_EXECUTOR: frozenset({Role.ADMIN, Role.EXECUTOR}),
    Access.REFDATA_SERVICE: frozenset({Role.REFDATA_SERVICE}),
    Access.CTS: frozenset({Role.CTS}),
    Access.ADMIN_OR_CTS: frozenset({Role.ADMIN, Role.CTS}),
    Access.MONITOR: frozenset({Role.ADMIN, Role.MONITOR}),
}


@dataclass(frozen=True)
class Route:
    """One method of one path.

    ``handler(call, path=…, query=…, body=…)`` declares by its annotations the models of its arguments and of its
    response: a model, or the same ``Written``, a JSON object, a Stream, or None for an empty response. Its name is the operationId of the
    OpenAPI description. ``{name:path}`` in the template matches slashes, too.
    """

    method: str
    template: str
    handler: Callable[..., Coroutine[Any, Any, Any]]
    access: Access
    summary: str
    media: str = JSON
    """The content type of a streamed response."""
    nulls: bool = False
    """Whether fields that are not set are sent as null instead of being left out."""
    headers: tuple[str, ...] = ()
    """Request headers that the handler reads, for the OpenAPI description."""
    answer_headers: tuple[str, ...] = ()
    """Response headers that the handler sets, for the OpenAPI description."""
    needs_engine: bool = True
    """Whether requests wait until the application runs, and get 503 if it does not."""
    reads_token: bool = False
    """Whether a route that anyone may use shows more to some users, so that a token is read if there is one."""
    answers: Mapping[str, type[BaseModel]] = field(default_factory=dict, hash=False)
    """Models of other responses, by the parameter of the query that asks for them."""
    status_of: Callable[[Any], HTTPStatus] | None = None
    """Returns the status of a response, where the status depends on the response's content."""

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.handler)

    @functools.cached_property
    def path_model(self) -> type[BaseModel] | None:
        """The model of the template's placeholders."""
        return self._hints.get("path")

    @functools.cached_property
    def query_model(self) -> type[BaseModel] | None:
        """The model of the query; parameters that it does not have are ignored."""
        return self._hints.get("query")

    @functools.cached_property
    def body_model(self) -> type[BaseModel] | None:
        """The model of a JSON body."""
        hint = _without_none(self._hints.get("body"))
        return None if hint is Upload else hint

    @property
    def body_required(self) -> bool:
        """Whether a JSON body is required."""
        hint = self._hints.get("body")
        return hint is _without_none(hint)

    @functools.cached_property
    def takes_upload(self) -> bool:
        """Whether the handler reads the body as a stream."""
        return self._hints.get("body") is Upload

    @property
    def response_model(self) -> type[BaseModel] | None:
        """The model of a JSON response that no parameter asks otherwise; None for any other response."""
        hint = self._hints["return"]
        if isinstance(hint, UnionType):
            (hint,) = set(get_args(hint)) - set(self.answers.values())
        if get_origin(hint) is Written:
            (hint,) = get_args(hint)
        return hint if isinstance(hint, type) and issubclass(hint, BaseModel) else None

    @property
    def streams(self) -> bool:
        """Whether the response is a stream."""
        return self._hints["return"] is Stream

    @property
    def status(self) -> int:
        """The HTTP status of success."""
        return 204 if self._hints["return"] is NoneType else 200

    @functools.cached_property
    def path(self) -> str:
        """The template in the syntax of OpenAPI."""
        return _PLACEHOLDER.sub(r"{\1}", self.template)

    @functools.cached_property
    def _is_literal(self) -> bool:
        return "{" not in self.template

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        literals = _PLACEHOLDER.split(self.template)
        pieces = [
            f"{re.escape(literal)}" + (f"(?P<{name}>{'.+' if spans else '[^/]+'})" if name else "")
            for literal, name, spans in zip(
                literals[::3], [*literals[1::3], None], [*literals[2::3], None], strict=True
            )
        ]
        return re.compile("".join(pieces), re.DOTALL)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the texts of the placeholders in a normalized path; None if the path does not match."""
        if self._is_literal:
            return {} if path == self.template else None
        match = self._pattern.fullmatch(path)
        return match.groupdict() if match else None


def _without_none(hint: Any) -> Any:  # noqa: ANN401 - annotations have no common type
    if get_origin(hint) in (Union, UnionType):
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def normalize_path(raw: str) -> str | None:
    """Return a URL's path below the root, decoded, with single slashes and none at the end.

    None for a path that is not UTF-8. Clients join URLs carelessly: ``//whoami``, ``/jobs/`` (docs/reference/contract.md §1).
    """
    try:
        path = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return None
    return "/" + "/".join(segment for segment in path.split("/") if segment)


def find_route(
    routes: Sequence[Route], method: str, raw_path: str
) -> tuple[Route, dict[str, str]] | CTSError:
    """Return the route and the texts of its placeholders, or the error to respond with.

    The error is returned and not raised because the caller's token is checked first.
    """
    path = normalize_path(raw_path)
    if path is None:
        return NotFoundError()
    allowed = set()
    is_literal = False
    for route in routes:
        texts = route.match(path)
        # A template without placeholders takes precedence over one with them, as in OpenAPI.
        if texts is None or (is_literal and texts):
            continue
        if route.method == method:
            return route, texts
        is_literal = is_literal or not texts
        allowed.add(route.method)
    return MethodNotAllowedError(sorted(allowed)) if allowed else NotFoundError()
