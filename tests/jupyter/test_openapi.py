"""Our OpenAPI says all that the contract's says, path by path and field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cts_jupyter.api.openapi import describe, describe_at
from cts_jupyter.api.table import ROUTES

CONTRACT = json.loads((Path(__file__).parents[1] / "vectors" / "contract_openapi.json").read_text())
OPERATIONS = [
    pytest.param(method, path, id=f"{method} {path}")
    for path, methods in CONTRACT["paths"].items()
    for method in methods
]

Json = dict[str, Any]
BOUNDS = (
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "format",
)


@pytest.fixture(scope="module")
def ours() -> Json:
    return describe(ROUTES)


def resolve(document: Json, schema: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def options(document: Json, schema: Json) -> list[Json]:
    """The alternatives of a schema, without null."""
    schema = resolve(document, schema)
    found = schema.get("anyOf", [schema])
    return [
        deep
        for option in found
        for deep in (
            options(document, option)
            if "anyOf" in resolve(document, option)
            else [resolve(document, option)]
        )
        if deep.get("type") != "null"
    ]


class Comparison:
    """Collects what the contract says and we do not."""

    def __init__(self, ours: Json, *, of_answer: bool = False) -> None:
        """``of_answer``: clients rely on the fields that the contract requires; else, we may require no more."""
        self.ours = ours
        self.of_answer = of_answer
        self.faults: list[str] = []
        self.compared = 0
        self._under_way: set[tuple[int, int]] = set()

    def expect(self, holds: object, where: str, what: str) -> None:
        self.compared += 1
        if not holds:
            self.faults.append(f"{where}: {what}")

    def schema(self, theirs: Json, mine: Json, where: str) -> None:
        their_options, my_options = options(CONTRACT, theirs), options(self.ours, mine)
        if "default" in theirs and theirs["default"] is not None:
            self.expect(
                mine.get("default") == theirs["default"], where, f"default {theirs['default']!r}"
            )
        if len(their_options) == 1 == len(my_options):
            self.option(their_options[0], my_options[0], where)
            return
        for number, option in enumerate(their_options):
            attempts = []
            for candidate in my_options:
                trial = Comparison(self.ours, of_answer=self.of_answer)
                trial._under_way = self._under_way
                trial.option(option, candidate, f"{where}|{number}")
                attempts.append(trial.faults)
                self.compared += trial.compared
            best = min(attempts, key=len)
            self.faults += best

    def option(self, theirs: Json, mine: Json, where: str) -> None:
        pair = (id(theirs), id(mine))
        if pair in self._under_way:
            return
        self._under_way.add(pair)
        self.expect(
            mine.get("type") == theirs.get("type"),
            where,
            f"type {theirs.get('type')}, not {mine.get('type')}",
        )
        for bound in BOUNDS:
            if bound in theirs:
                self.expect(
                    mine.get(bound) == theirs[bound],
                    where,
                    f"{bound} {theirs[bound]!r}, not {mine.get(bound)!r}",
                )
        if "enum" in theirs:
            self.expect(
                set(theirs["enum"]) <= set(mine.get("enum", ())), where, f"values {theirs['enum']}"
            )
        if "items" in theirs:
            self.schema(theirs["items"], mine.get("items", {}), f"{where}[]")
        if isinstance(theirs.get("additionalProperties"), dict):
            self.schema(
                theirs["additionalProperties"], mine.get("additionalProperties", {}), f"{where}{{}}"
            )
        for pattern, schema in theirs.get("patternProperties", {}).items():
            self.schema(
                schema, mine.get("patternProperties", {}).get(pattern, {}), f"{where}{{{pattern}}}"
            )
        for name, schema in theirs.get("properties", {}).items():
            self.expect(name in mine.get("properties", {}), where, f"field {name}")
            if name in mine.get("properties", {}):
                self.schema(schema, mine["properties"][name], f"{where}.{name}")
        self.required(theirs, mine, where)
        self._under_way.discard(pair)

    def required(self, theirs: Json, mine: Json, where: str) -> None:
        their_fields, my_fields = set(theirs.get("required", ())), set(mine.get("required", ()))
        if self.of_answer:
            self.expect(their_fields <= my_fields, where, f"always {their_fields - my_fields}")
        else:
            more = (my_fields - their_fields) & set(theirs.get("properties", {}))
            self.expect(not more, where, f"{more} is not required")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_operation(ours: Json, method: str, path: str) -> None:
    theirs, mine = CONTRACT["paths"][path][method], ours["paths"][path][method]
    comparison = Comparison(ours)
    known = {(p["in"], p["name"]): p for p in mine.get("parameters", ())}
    for parameter in theirs.get("parameters", ()):
        place = (parameter["in"], parameter["name"])
        comparison.expect(place in known, path, f"parameter {place}")
        comparison.expect(
            known[place]["required"] == parameter["required"], path, f"{place} required"
        )
        comparison.schema(
            parameter["schema"], known[place]["schema"], f"{path}?{parameter['name']}"
        )
    if "requestBody" in theirs:
        comparison.schema(_body(theirs), _body(mine), f"{path} body")
        required = theirs["requestBody"].get("required", False)
        comparison.expect(mine["requestBody"]["required"] == required, path, "body required")
    for status, answer in theirs["responses"].items():
        comparison.expect(status in mine["responses"], path, f"status {status}")
        content = answer.get("content", {}).get("application/json")
        if content:
            comparison.schema(
                content["schema"],
                mine["responses"][status]["content"]["application/json"]["schema"],
                f"{path} {status}",
            )
    # Which fields an error lacks is said by the contract's facts, not by its schema.
    answers = Comparison(ours, of_answer=True)
    for status, answer in theirs["responses"].items():
        content = answer.get("content", {}).get("application/json")
        if content and status.isdecimal():
            mine_there = mine["responses"][status]["content"]["application/json"]["schema"]
            answers.schema(content["schema"], mine_there, f"{path} {status}")
    assert answers.faults == []
    comparison.expect(("security" in theirs) == ("security" in mine), path, "who may")
    assert comparison.compared > 5
    assert comparison.faults == []


def _body(operation: Json) -> Json:
    return operation["requestBody"]["content"]["application/json"]["schema"]


def test_comparison_can_fail(ours: Json) -> None:
    lacking = json.loads(json.dumps(ours))
    del lacking["components"]["schemas"]["Submission"]["properties"]["cpus"]
    lacking["components"]["schemas"]["Cluster"]["enum"].remove("kbase")
    comparison = Comparison(lacking)
    comparison.schema(
        _body(CONTRACT["paths"]["/jobs"]["post"]), _body(lacking["paths"]["/jobs"]["post"]), "body"
    )
    assert comparison.faults == [
        "body.cluster: values ['perlmutter-jaws', 'lawrencium-jaws', 'kbase']",
        "body: field cpus",
    ]


def test_every_path_of_the_contract_is_there(ours: Json) -> None:
    assert set(CONTRACT["paths"]) <= set(ours["paths"])


def test_it_names_the_url_by_which_users_know_the_service(ours: Json):
    assert describe_at(ROUTES, "") is describe(ROUTES)
    told = describe_at(ROUTES, "https://example.org/apis/cts")
    assert told == {**ours, "servers": [{"url": "https://example.org/apis/cts"}]}
