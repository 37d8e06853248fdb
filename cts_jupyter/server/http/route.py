"""The route table: handlers, OpenAPI and the answers 404 and 405 all come from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote

from pydantic import BaseModel

from cts_core.errors import CTSError, MethodNotAllowedError, NotFoundError
from cts_core.identity.identity import Role
from cts_jupyter.server.http.call import Stream, Upload

JSON = "application/json"
EVENTS = "text/event-stream"
_PLACEHOLDER = re.compile(r"\{(\w+)(:path)?\}")


class Access(Enum):
    """Who may use a route: anyone, any user, or who holds one of its ``roles``."""

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
    """An executor, or who has the token of the container that is asked for."""

    @property
    def roles(self) -> frozenset[Role]:
        """Of which the caller needs one; empty: none is needed."""
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

    ``handler(call, path=…, query=…, body=…)`` names in its annotations the models of what it takes and what
    it answers: a model, a JSON object, a Stream, or None for an empty answer. ``{name:path}`` in the
    template spans slashes.
    """

    method: str
    template: str
    handler: Callable[..., Coroutine[Any, Any, Any]]
    access: Access
    summary: str
    media: str = JSON
    """The content type of a streamed answer."""
    nulls: bool = False
    """Whether fields that are not set are sent as null instead of being left out."""
    headers: tuple[str, ...] = ()
    """Request headers that mean something here, for the description."""
    needs_engine: bool = True
    """Whether it is answered only while the engine runs."""
    tells_more: bool = False
    """Whether a route that anyone may use tells some more than others, so that a token is looked at."""
    status_of: Callable[[Any], HTTPStatus] | None = None
    """The status of an answer, where it depends on what the answer says."""

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.handler)

    @property
    def path_model(self) -> type[BaseModel] | None:
        """The placeholders of the template."""
        return self._hints.get("path")

    @property
    def query_model(self) -> type[BaseModel] | None:
        """The query's parameters; others are ignored."""
        return self._hints.get("query")

    @property
    def body_model(self) -> type[BaseModel] | None:
        """The model of a JSON body."""
        hint = _without_none(self._hints.get("body"))
        return None if hint is Upload else hint

    @property
    def body_required(self) -> bool:
        """Whether a JSON body must be there."""
        hint = self._hints.get("body")
        return hint is _without_none(hint)

    @property
    def takes_upload(self) -> bool:
        """Whether the handler reads the body as it arrives."""
        return self._hints.get("body") is Upload

    @property
    def answer_model(self) -> type[BaseModel] | None:
        """The model of a JSON answer; None for anything else."""
        hint = self._hints["return"]
        return hint if isinstance(hint, type) and issubclass(hint, BaseModel) else None

    @property
    def streams(self) -> bool:
        """Whether the answer is sent piece by piece."""
        return self._hints["return"] is Stream

    @property
    def status(self) -> int:
        """The HTTP status of success."""
        return 204 if self._hints["return"] is NoneType else 200

    @property
    def path(self) -> str:
        """The template as OpenAPI writes it."""
        return _PLACEHOLDER.sub(r"{\1}", self.template)

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
        """The placeholders' texts in a normal path; None for another path."""
        found = self._pattern.fullmatch(path)
        return found.groupdict() if found else None


def _without_none(hint: Any) -> Any:  # noqa: ANN401 - annotations have no common type
    if get_origin(hint) in (Union, UnionType):
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def normal_path(raw: str) -> str | None:
    """A URL's path below the root, decoded, with single slashes between and none at the end.

    None for one that is not UTF-8. Clients join URLs carelessly: ``//whoami``, ``/jobs/`` (contract, §1).
    """
    try:
        path = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return None
    return "/" + "/".join(segment for segment in path.split("/") if segment)


def find_route(
    routes: Sequence[Route], method: str, raw_path: str
) -> tuple[Route, dict[str, str]] | CTSError:
    """The route and its placeholders' texts, or the error that answers the request.

    The error is an answer because the caller's token is checked before it is raised.
    """
    path = normal_path(raw_path)
    if path is None:
        return NotFoundError()
    allowed = set()
    is_literal = False
    for route in routes:
        texts = route.match(path)
        # A path that a template names as it is stands for nothing else, as OpenAPI has it.
        if texts is None or (is_literal and texts):
            continue
        if route.method == method:
            return route, texts
        is_literal = is_literal or not texts
        allowed.add(route.method)
    return MethodNotAllowedError(sorted(allowed)) if allowed else NotFoundError()
