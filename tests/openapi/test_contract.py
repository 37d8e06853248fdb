"""Our OpenAPI is compatible with the contract's, path by path and field by field."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cts_jupyter.server.http.openapi import describe, describe_at
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.paths import VECTORS
from tests.openapi.comparison import BOUNDS, Comparison, Json

CONTRACT = json.loads((VECTORS / "contract_openapi.json").read_text())
OPERATIONS = [
    pytest.param(method, path, id=f"{method} {path}")
    for path, methods in CONTRACT["paths"].items()
    for method in methods
]
MUTATIONS = 100
"""The number of mutations that are tried; always the same ones."""


@pytest.fixture(scope="module")
def ours() -> Json:
    return describe(ROUTES)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_operation(ours: Json, method: str, path: str) -> None:
    comparison = Comparison(CONTRACT, ours)
    comparison.operation(method, path)
    assert comparison.faults == []


def _schemas(schema: Json, at: str, use: str) -> Iterator[tuple[str, Json, str]]:
    """Iterate over a schema and the schemas in it, without following references."""
    yield at, schema, use
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(keyword), dict):
            yield from _schemas(schema[keyword], f"{at}/{keyword}", use)
    for keyword in ("properties", "patternProperties"):
        for name, inner in schema.get(keyword, {}).items():
            yield from _schemas(inner, f"{at}/{name}", use)
    for number, inner in enumerate(schema.get("anyOf", ())):
        yield from _schemas(inner, f"{at}/{number}", use)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _referenced(document: Json, start: Any) -> set[str]:
    """Return the names of all schemas that something refers to, directly or not."""
    found, ahead = set(), set(_references(start))
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead |= set(_references(document["components"]["schemas"][name]))
    return found


Mutation = tuple[str, Callable[[], None]]


def _set(schema: Json, keyword: str, value: Any) -> Callable[[], None]:
    return lambda: schema.update({keyword: value})


def _of_schema(at: str, schema: Json, use: str) -> Iterator[Mutation]:
    """Iterate over changes of the contract's schema that ours is not compatible with."""
    for keyword, value in schema.items():
        for number, changed in enumerate(_changed(schema, keyword, value, use)):
            yield f"{at}: {keyword} {number}", _set(schema, keyword, changed)


def _changed(schema: Json, keyword: str, value: Any, use: str) -> Iterator[Any]:
    if keyword in BOUNDS:
        yield f"{value}x" if isinstance(value, str) else value + 1
    elif keyword == "enum":
        yield [*value, "made-up"]
        if use == "answer" and len(value) > 1:
            yield value[1:]
    elif keyword == "anyOf":
        yield [*value, {"type": "made-up"}]
    elif keyword == "type" or (keyword == "default" and value is not None):
        yield "made-up"
    elif keyword == "properties":
        yield {**value, "made_up": {"type": "string"}}
        if use == "answer" and schema.get("additionalProperties") is False:
            yield dict(list(value.items())[1:])
    elif keyword == "required":
        yield [*value, "made_up"] if use == "answer" else value[1:]


def mutations(contract: Json) -> Iterator[Mutation]:
    """Iterate over all changes of the contract that a comparison must report."""
    operations = [o for methods in contract["paths"].values() for o in methods.values()]
    requests = _referenced(
        contract, [[o.get("parameters"), o.get("requestBody")] for o in operations]
    )
    answers = _referenced(
        contract, [r for o in operations for s, r in o["responses"].items() if s.isdecimal()]
    )
    for name, schema in contract["components"]["schemas"].items():
        use = "answer" if name in answers else "request" if name in requests else "error"
        for at, inner, _ in _schemas(schema, name, use):
            if use != "error" or "required" not in inner:
                yield from _of_schema(at, inner, use)
    for path, methods in contract["paths"].items():
        for method, operation in methods.items():
            yield from _of_operation(f"{method} {path}", operation)
    yield "a path", _set(contract["paths"], "/made-up", {"get": {"responses": {}}})


def _of_operation(where: str, operation: Json) -> Iterator[Mutation]:
    for parameter in operation.get("parameters", ()):
        at = f"{where}?{parameter['name']}"
        yield f"{at}: name", _set(parameter, "name", "made-up")
        yield f"{at}: place", _set(parameter, "in", "cookie")
        yield f"{at}: required", _set(parameter, "required", not parameter["required"])
        for inner_at, inner, _ in _schemas(parameter["schema"], at, "request"):
            yield from _of_schema(inner_at, inner, "request")
    if "requestBody" in operation:
        body = operation["requestBody"]
        yield f"{where}: body", _set(body, "required", not body.get("required", False))
        yield f"{where}: media", _set(body["content"], "text/made-up", {"schema": {}})
    responses = operation["responses"]
    yield f"{where}: a status", _set(responses, "299", {})
    for status, answer in responses.items():
        if "content" in answer:
            yield (
                f"{where} {status}: media",
                _set(answer["content"], "text/made-up", {"schema": {}}),
            )
    security = [] if operation.get("security") else [{"KBaseHTTPBearer": []}]
    yield f"{where}: security", _set(operation, "security", security)


def _has_fault(comparison: Comparison) -> bool:
    """Return whether there is any fault; stop at the first."""
    for path, methods in comparison.theirs["paths"].items():
        for method in methods:
            comparison.operation(method, path)
            if comparison.faults:
                return True
    return False


@pytest.mark.slow
def test_every_difference_is_reported(ours: Json) -> None:
    """The comparison reports every change of the contract."""
    count = len(list(mutations(copy.deepcopy(CONTRACT))))
    assert count > 1000
    overlooked = []
    for number in random.Random(1).sample(range(count), MUTATIONS):
        contract = copy.deepcopy(CONTRACT)
        where, mutate = list(mutations(contract))[number]
        mutate()
        if not _has_fault(Comparison(contract, ours)):
            overlooked.append(where)
    assert overlooked == []


def test_differences_without_a_rule_are_reported(ours: Json) -> None:
    contract = copy.deepcopy(CONTRACT)
    contract["components"]["schemas"]["Root"]["properties"]["version"]["contentEncoding"] = "base64"
    with pytest.raises(LookupError, match="contentEncoding"):
        Comparison(contract, ours).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["paths"]["/jobs"]["get"]["parameters"][0].update(required=True), "required"),
        (lambda d: d["paths"]["/whoami"]["get"]["parameters"].append(NEEDED), "is not needed"),
        (lambda d: d["paths"]["/sites"]["get"].update(requestBody=NEEDED), "no body is needed"),
        (lambda d: d["paths"]["/whoami"]["get"].pop("security"), "security"),
        (lambda d: d["components"]["securitySchemes"]["token"].update(scheme="basic"), "security"),
        (lambda d: d["components"]["schemas"]["Cluster"]["enum"].append("moon"), "unknown to"),
        (
            lambda d: d["components"]["schemas"]["JobInput"]["properties"].update(labels={}),
            "clients take no",
        ),
    ],
)
def test_additions_must_be_compatible(
    ours: Json, change: Callable[[Json], Any], message: str
) -> None:
    changed = copy.deepcopy(ours)
    change(changed)
    assert [fault for fault in Comparison(CONTRACT, changed).all() if message in fault]


NEEDED = {"in": "query", "name": "made-up", "required": True, "schema": {"type": "string"}}


def test_it_names_the_url_by_which_users_know_the_service(ours: Json) -> None:
    assert describe_at(ROUTES, "") is describe(ROUTES)
    described = describe_at(ROUTES, "https://example.org/apis/cts")
    assert described == {**ours, "servers": [{"url": "https://example.org/apis/cts"}]}
