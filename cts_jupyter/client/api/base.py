"""The base class of endpoints, and functions that they share."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from cts_jupyter.client.transport import CTSConnectionError, CTSRequestError, Transport

KEY_HEADER = "Idempotency-Key"


class Endpoints:
    """A group of endpoints.

    Every method raises CTSRequestError when the service refuses, CTSConnectionError when it cannot be reached.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
        return self._transport.json("GET", path, params=query)

    def _put(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        self._transport.json("PUT", path, json=body)

    def _delete(self, path: str) -> None:
        self._transport.json("DELETE", path)

    def supports(
        self, method: str, path: str, parameter: str | None = None, *, several: bool = False
    ) -> bool:
        """Return whether the service's OpenAPI description has this path, with this parameter, which may be ``several``.

        Services ignore parameters that they do not have, and may match an unknown path to another route.
        """
        try:
            parameters = self._description["paths"][path][method.lower()].get("parameters", ())
            schemas = {entry["name"]: entry.get("schema", {}) for entry in parameters}
            schema = schemas.get(parameter, {})
            kinds = [option.get("type") for option in schema.get("anyOf", [schema])]
        except (LookupError, TypeError, AttributeError):
            return False
        return parameter is None or (parameter in schemas and (not several or "array" in kinds))

    @functools.cached_property
    def _description(self) -> Any:  # noqa: ANN401 - JSON
        try:
            return self._get("openapi.json")
        except CTSRequestError as e:
            # A service that is away for now may well have one.
            if e.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            return {}


def quote_path(text: str) -> str:
    """Quote a text for use in a URL's path."""
    return quote(text, safe="/:@")


def drop_none(**values: object) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def as_json(body: Mapping[str, Any] | BaseModel) -> Any:  # noqa: ANN401 - JSON
    """Return a body as JSON, without defaults: a deployed service refuses fields that it does not have."""
    if isinstance(body, BaseModel):
        return body.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return dict(body)


def unknown_outcome(error: CTSConnectionError) -> CTSConnectionError:
    """Return the error, or one that advises to check for the job where the request may have arrived."""
    if not error.may_have_arrived:
        return error
    return CTSConnectionError(
        f"{error}. Whether the job was stored before that is not known: look at your jobs before you submit it again",
        may_have_arrived=True,
    )
