"""The OpenAPI 3.1 description of a route table."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from cts_core.model.base import PUBLISHED_NAMES
from cts_core.model.service import SERVICE_NAME, ErrorEnvelope
from cts_core.version import VERSION
from cts_jupyter.server.http.route import EVENT_KINDS, EVENTS, JSON, Access, Route

_EVENT = {
    "type": "object",
    "title": "Event",
    "description": "One of many; a ping comes when there was no other for 15 seconds.",
    "properties": {
        "event": {"enum": [*EVENT_KINDS]},
        "id": {"type": "string", "format": "date-time"},
        "data": {"type": "string", "contentMediaType": JSON},
        "retry": {"type": "integer", "description": "Milliseconds"},
    },
    "required": ["event", "data"],
}
_TOKEN = "token"  # noqa: S105 - the name of a security scheme
_REF = "#/components/schemas/{model}"


@functools.cache
def describe(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the OpenAPI description of these routes as a JSON object."""
    schemas, definitions = models_json_schema(list(_models(routes)), ref_template=_REF)
    components: dict[str, Any] = definitions["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    tags = _tags(routes)
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, schemas, components
        ) | {"tags": [tags[route.path]]}
    for model in {m for route in routes for m in (route.path_model, route.query_model) if m}:
        # Their fields are parameters, each described where it is used.
        del components[_name(schemas[model, "validation"])]
    description: dict[str, Any] = _with_published_names(
        {
            "openapi": "3.1.0",
            "info": {"title": SERVICE_NAME, "version": VERSION},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {_TOKEN: {"type": "http", "scheme": "bearer"}},
            },
        }
    )
    return description


def _with_published_names(node: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Return the description with the names that models have in the contract."""
    if isinstance(node, list):
        return [_with_published_names(item) for item in node]
    if isinstance(node, dict):
        return {
            PUBLISHED_NAMES.get(key, key): _with_published_names(value)
            for key, value in node.items()
        }
    if isinstance(node, str):
        folder, slash, name = node.rpartition("/")
        return f"{folder}{slash}{PUBLISHED_NAMES.get(name, name)}"
    return node


def describe_at(
    routes: tuple[Route, ...], url: str, *, title: str = SERVICE_NAME
) -> dict[str, Any]:
    """Return the description of a service with its title and its URL; an empty URL is left out."""
    described = describe(routes)
    if title != SERVICE_NAME:
        described = {**described, "info": {**described["info"], "title": title}}
    return {**described, "servers": [{"url": url}]} if url else described


def _tags(routes: tuple[Route, ...]) -> dict[str, str]:
    """Return the tag of each path: its first segment if other paths have the same, else ``service``."""
    names = {route.path: route.path.split("/")[1] for route in routes}
    shared = Counter(names.values())
    return {path: name if shared[name] > 1 else "service" for path, name in names.items()}


def _models(
    routes: tuple[Route, ...],
) -> Iterator[tuple[type[BaseModel], JsonSchemaMode]]:
    yield ErrorEnvelope, "serialization"
    for route in routes:
        for model in (route.path_model, route.query_model, route.body_model):
            if model:
                yield model, "validation"
        if route.response_model:
            yield route.response_model, "serialization"
        for model in route.answers.values():
            yield model, "serialization"


_Schemas = Mapping[Any, dict[str, Any]]
"""References to components by (model, mode)."""


def _operation(route: Route, schemas: _Schemas, components: dict[str, Any]) -> dict[str, Any]:
    error = _content(schemas[ErrorEnvelope, "serialization"], JSON)
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": [
            *_parameters("path", route.path_model, schemas, components),
            *_parameters("query", route.query_model, schemas, components),
            *(
                {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
                for name in route.headers
            ),
        ],
        "responses": {
            str(route.status): {
                "description": "Success",
                **_headers(route),
                **_response(route, schemas),
            },
            "4XX": {"description": "The request is at fault", **error},
            "5XX": {"description": "The service is at fault", **error},
        },
    }
    if route.status_of is not None:
        # The status repeats what the content says, or an error says why there is no content.
        refs = [schemas[m, "serialization"] for m in (route.response_model, ErrorEnvelope) if m]
        operation["responses"]["503"] = {
            "description": "The service cannot be used now",
            **_content({"anyOf": refs}, JSON),
        }
    if route.takes_upload:
        binary = {"type": "string", "format": "binary"}
        operation["requestBody"] = {"required": True, **_content(binary, "*/*")}
    elif route.body_model:
        schema = schemas[route.body_model, "validation"]
        operation["requestBody"] = {
            "required": route.body_required,
            **_content(
                schema if route.body_required else {"anyOf": [schema, {"type": "null"}]}, JSON
            ),
        }
    if route.access is not Access.ANYONE:
        operation["security"] = [{_TOKEN: []}]
    if route.access.roles:
        operation["x-roles"] = sorted(role.value for role in route.access.roles)
    return operation


def _headers(route: Route) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    return {"headers": dict.fromkeys(route.answer_headers, text)} if route.answer_headers else {}


def _response(route: Route, schemas: _Schemas) -> dict[str, Any]:
    if route.streams:
        return _content(_streamed(route.media), route.media)
    if route.response_model:
        schema = schemas[route.response_model, "serialization"]
        others = [
            {**schemas[model, "serialization"], "x-parameter": name}
            for name, model in route.answers.items()
        ]
        return _content({"anyOf": [schema, *others]} if others else schema, JSON)
    return _content({"type": "object"}, JSON) if route.status == HTTPStatus.OK else {}


def _streamed(media: str) -> dict[str, Any]:
    if media == EVENTS:
        return _EVENT
    return {"type": "object" if media.endswith("json") else "string"}


def _content(schema: dict[str, Any], media: str) -> dict[str, Any]:
    return {"content": {media: {"schema": schema}}}


def _parameters(
    place: str, model: type[BaseModel] | None, schemas: _Schemas, components: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    if model is None:
        return
    schema = components[_name(schemas[model, "validation"])]
    for field, description in schema["properties"].items():
        yield {
            "name": field,
            "in": place,
            "required": field in schema.get("required", ()),
            "schema": description,
        }


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"].rpartition("/")[2])
