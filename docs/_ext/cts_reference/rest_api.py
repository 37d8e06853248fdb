"""The REST API, from the OpenAPI description of a route table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cts_jupyter.server.http.openapi import describe
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes import refdata_service
from cts_jupyter.server.routes.table import ROUTES
from cts_reference.json_schema import type_name
from cts_reference.markdown import blocks, code, escape, table

_SUCCESS = "Success"


def describe_service() -> str:
    """Return the routes of CTS by tag, then the models of their bodies."""
    return _describe(ROUTES, "rest")


def describe_refdata_service() -> str:
    """Return the routes of the service that stages reference data, then their models."""
    return _describe(refdata_service.ROUTES, "refdata-rest")


def _describe(routes: tuple[Route, ...], prefix: str) -> str:
    page = _Page(routes, prefix)
    return blocks(*page.routes(), "## Models", *page.models())


class _Page:
    """The page of one description; ``prefix`` begins its labels."""

    def __init__(self, routes: tuple[Route, ...], prefix: str) -> None:
        self._api: Mapping[str, Any] = describe(routes)
        self._access = {(route.method, route.path): route.access for route in routes}
        self._prefix = prefix
        self._schemas: Mapping[str, Any] = self._api["components"]["schemas"]

    def routes(self) -> Iterator[str]:
        """Yield a section for each tag, with all of its routes."""
        tags: dict[str, list[str]] = {}
        for path, methods in self._api["paths"].items():
            for method, operation in methods.items():
                section = self._route(method.upper(), path, operation)
                tags.setdefault(operation["tags"][0], []).append(section)
        for tag, sections in tags.items():
            yield f"({self._prefix}-{tag})=\n## {tag.capitalize()}"
            yield from sections

    def models(self) -> Iterator[str]:
        """Yield each model with its fields."""
        for name, schema in sorted(self._schemas.items()):
            yield blocks(
                f"({self._label(name)})=\n### {name}",
                escape(schema.get("description", "")),
                self._fields(schema) or f"Type: {type_name(schema, self._link)}",
            )

    def _label(self, model: str) -> str:
        return f"{self._prefix}-model-{model.lower()}"

    def _link(self, model: str) -> str:
        return f"[{escape(model)}](#{self._label(model)})"

    def _route(self, method: str, path: str, operation: Mapping[str, Any]) -> str:
        label = f"{self._prefix}-{operation['operationId']}"
        return blocks(
            f"({label})=\n### `{method} {path}`",
            _sentence(operation["summary"]),
            f"For {_describe_access(self._access[method, path])}.",
            self._parameters(operation["parameters"]),
            self._body(operation.get("requestBody")),
            self._responses(operation["responses"]),
        )

    def _parameters(self, parameters: list[Mapping[str, Any]]) -> str:
        if not parameters:
            return ""
        return table(
            ["parameter", "in", "type", "default"],
            (
                [
                    code(parameter["name"]),
                    parameter["in"],
                    type_name(parameter["schema"], self._link),
                    "required" if parameter["required"] else _default(parameter["schema"]),
                ]
                for parameter in parameters
            ),
        )

    def _body(self, body: Mapping[str, Any] | None) -> str:
        if body is None:
            return ""
        optional = "" if body["required"] else ", which may be left out"
        return f"Body: {self._content(body['content'])}{optional}."

    def _responses(self, responses: Mapping[str, Any]) -> str:
        lines = []
        for status, response in responses.items():
            content = response.get("content")
            if status in ("4XX", "5XX"):
                continue
            what = self._content(content) if content else "nothing"
            about = (
                ""
                if response["description"] == _SUCCESS
                else f" ({response['description'][:1].lower()}{response['description'][1:]})"
            )
            lines.append(f"{status} with {what}{about}")
        return f"Answers {'; '.join(lines)}."

    def _content(self, content: Mapping[str, Any]) -> str:
        return " or ".join(
            type_name(part["schema"], self._link)
            + ("" if media == "application/json" else f" as {code(media)}")
            for media, part in content.items()
        )

    def _fields(self, schema: Mapping[str, Any]) -> str:
        required = schema.get("required", ())
        rows = [
            [
                code(name),
                type_name(field, self._link),
                "required" if name in required else _default(field),
                escape(field.get("description", "")),
            ]
            for name, field in schema.get("properties", {}).items()
        ]
        if not rows:
            return ""
        has_meanings = any(row[-1] for row in rows)
        header = ["field", "type", "default", "meaning"]
        width = len(header) if has_meanings else len(header) - 1
        return table(header[:width], (row[:width] for row in rows))


def _describe_access(access: Access) -> str:
    if not access.roles:
        return "anyone" if access is Access.ANYONE else "any user"
    roles = " or ".join(code(name) for name in sorted(role.value for role in access.roles))
    also = ", and the worker of the container" if access is Access.WORKER else ""
    return f"users with the role {roles}{also}"


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return (
        "optional"
        if default is None
        else code(str(default).lower() if isinstance(default, bool) else str(default))
    )


def _sentence(text: str) -> str:
    return escape(text) + "."
