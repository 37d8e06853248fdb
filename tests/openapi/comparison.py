"""Compatibility of one OpenAPI description with another: what clients may send, and what they rely on in responses."""

from __future__ import annotations

from enum import Enum
from typing import Any

Json = dict[str, Any]

BOUNDS = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "ge", "le"),
        *("minLength", "maxLength", "pattern", "format"),
        *("minItems", "maxItems", "uniqueItems"),
    }
)
"""Keywords that must be equal in both."""
COMPARED = BOUNDS | {
    *("$ref", "anyOf", "type", "enum", "default", "required", "items"),
    *("properties", "additionalProperties", "patternProperties", "propertyNames"),
}
NEW_VALUES = frozenset({"local"})
"""Values in our responses besides those that deployed clients know."""


class Use(Enum):
    """The use of a schema."""

    REQUEST = "request"
    """A request: we accept all that they accept, and require no more."""
    ANSWER = "answer"
    """A response: we send all that they send, and nothing more where their clients accept nothing more."""
    ERROR = "error"
    """An error: we may send all that they may; the contract's facts say which fields an error lacks."""


class Comparison:
    """Collects incompatibilities of ``ours`` with ``theirs``. Raises LookupError for a difference that has no rule."""

    def __init__(self, theirs: Json, ours: Json) -> None:
        self.theirs, self.ours = theirs, ours
        self.faults: list[str] = []
        self._asked: set[str] = set()
        """The parameters of the operation that is compared."""
        self._under_way: set[tuple[int, int, Use]] = set()

    def all(self) -> list[str]:
        """Return the faults of every operation."""
        for path, methods in self.theirs["paths"].items():
            for method in methods:
                self.operation(method, path)
        return self.faults

    def expect(self, holds: object, where: str, what: str) -> bool:
        if not holds:
            self.faults.append(f"{where}: {what}")
        return bool(holds)

    # Operations.

    def operation(self, method: str, path: str) -> None:
        where = f"{method} {path}"
        if not self.expect(method in self.ours["paths"].get(path, {}), where, "operation"):
            return
        theirs, mine = self.theirs["paths"][path][method], self.ours["paths"][path][method]
        known = {"parameters", "requestBody", "responses", "security"}
        if unknown := set(theirs) - known:
            raise LookupError(f"{where}: say how to compare {unknown}")
        self._parameters(theirs.get("parameters", []), mine.get("parameters", []), where)
        self._body(theirs.get("requestBody"), mine.get("requestBody"), where)
        self._asked = {parameter["name"] for parameter in theirs.get("parameters", [])}
        self._responses(theirs["responses"], mine["responses"], where)
        schemes = [
            [
                self._scheme(document, name)
                for needed in operation.get("security", [])
                for name in needed
            ]
            for document, operation in ((self.theirs, theirs), (self.ours, mine))
        ]
        self.expect(schemes[0] == schemes[1], where, f"security {schemes[0]}, not {schemes[1]}")

    def _scheme(self, document: Json, name: str) -> tuple[str, str]:
        scheme = document["components"]["securitySchemes"][name]
        return scheme["type"], scheme["scheme"]

    def _parameters(self, theirs: list[Json], mine: list[Json], where: str) -> None:
        ours = {(p["in"], p["name"]): p for p in mine}
        for parameter in theirs:
            if unknown := set(parameter) - {"in", "name", "required", "schema"}:
                raise LookupError(f"{where}: say how to compare {unknown}")
            place = (parameter["in"], parameter["name"])
            if not self.expect(place in ours, where, f"parameter {place}"):
                continue
            one = ours.pop(place)
            what = f"{place} required {parameter['required']}"
            self.expect(one["required"] == parameter["required"], where, what)
            at = f"{where}?{parameter['name']}"
            self.schema(parameter["schema"], one["schema"], at, Use.REQUEST)
        for place, one in ours.items():
            self.expect(not one["required"], where, f"{place} is not needed")

    def _body(self, theirs: Json | None, mine: Json | None, where: str) -> None:
        if theirs is None:
            self.expect(not (mine or {}).get("required"), where, "no body is needed")
            return
        if not self.expect(mine is not None, where, "body") or mine is None:
            return
        same = theirs.get("required", False) == mine.get("required", False)
        self.expect(same, where, f"body required {theirs.get('required', False)}")
        self._content(theirs["content"], mine["content"], f"{where} body", Use.REQUEST)

    def _responses(self, theirs: Json, mine: Json, where: str) -> None:
        for status, answer in theirs.items():
            if not self.expect(status in mine, where, f"status {status}"):
                continue
            use = Use.ANSWER if status.isdecimal() else Use.ERROR
            content = mine[status].get("content", {})
            self._content(answer.get("content", {}), content, f"{where} {status}", use)
            if status == "204":
                self.expect(not content, where, "204 has no content")
        more = {s for s in mine if s.startswith("2")} - set(theirs)
        self.expect(not more, where, f"{more} are no successes")

    def _content(self, theirs: Json, mine: Json, where: str, use: Use) -> None:
        for media, content in theirs.items():
            if self.expect(media in mine, where, media):
                ours = mine[media]["schema"]
                if use is Use.ANSWER:
                    ours = self._without_unasked(ours)
                self.schema(content["schema"], ours, where, use)
        if theirs and use is not Use.REQUEST:
            self.expect(set(mine) == set(theirs), where, f"only {set(theirs)}")

    def _without_unasked(self, schema: Json) -> Json:
        """Return our response without the alternatives that come only with a parameter that their clients never send."""
        options = schema.get("anyOf", ())
        kept = [option for option in options if option.get("x-parameter", "") in {"", *self._asked}]
        return {**schema, "anyOf": kept} if options else schema

    # Schemas.

    def schema(self, theirs: Json, mine: Json, where: str, use: Use) -> None:
        """Compare alternatives: each of theirs must be one of ours, and in responses also each of ours one of theirs."""
        default = theirs.get("default")
        if default is not None:
            self.expect(mine.get("default") == default, where, f"default {default!r}")
        if "anyOf" in theirs:
            # What stands beside a choice holds for each alternative.
            self._bounds(theirs, mine, where)
        their_options, null = _options(self.theirs, theirs)
        my_options, my_null = _options(self.ours, mine)
        if use is Use.REQUEST:
            self.expect(my_null or not null, where, "may be null")
        elif use is Use.ANSWER:
            self.expect(null or not my_null, where, "is never null")
        if len(their_options) == 1 == len(my_options):
            self._option(their_options[0], my_options[0], where, use)
            return
        for option in their_options:
            self.faults += self._closest(option, my_options, where, use, is_theirs=True)
        if use is Use.ANSWER:
            for option in my_options:
                self.faults += self._closest(option, their_options, where, use, is_theirs=False)

    def _closest(
        self, option: Json, others: list[Json], where: str, use: Use, *, is_theirs: bool
    ) -> list[str]:
        """Return the faults against the alternative that has the fewest."""
        attempts = []
        for other in others:
            trial = Comparison(self.theirs, self.ours)
            trial._under_way = self._under_way
            pair = (option, other) if is_theirs else (other, option)
            trial._option(*pair, where, use)
            attempts.append(trial.faults)
        return min(attempts, key=len, default=[f"{where}: no such alternative"])

    def _option(self, theirs: Json, mine: Json, where: str, use: Use) -> None:
        pair = (id(theirs), id(mine), use)
        if pair in self._under_way:
            return
        self._under_way.add(pair)
        if unknown := set(theirs) - COMPARED:
            raise LookupError(f"{where}: say how to compare {unknown}")
        kinds = theirs.get("type"), mine.get("type")
        self.expect(kinds[0] == kinds[1], where, f"type {kinds[0]}, not {kinds[1]}")
        self._bounds(theirs, mine, where)
        self._values(theirs, mine, where, use)
        if "items" in theirs:
            self.schema(theirs["items"], mine.get("items", {}), f"{where}[]", use)
        for keyword in ("additionalProperties", "propertyNames"):
            if isinstance(theirs.get(keyword), dict):
                self.schema(theirs[keyword], mine.get(keyword, {}), f"{where}{{{keyword}}}", use)
        for pattern, schema in theirs.get("patternProperties", {}).items():
            found = mine.get("patternProperties", {}).get(pattern, {})
            self.schema(schema, found, f"{where}{{{pattern}}}", use)
        self._fields(theirs, mine, where, use)
        self._under_way.discard(pair)

    def _bounds(self, theirs: Json, mine: Json, where: str) -> None:
        for bound in sorted(BOUNDS & set(theirs)):
            what = f"{bound} {theirs[bound]!r}, not {mine.get(bound)!r}"
            self.expect(mine.get(bound) == theirs[bound], where, what)

    def _values(self, theirs: Json, mine: Json, where: str, use: Use) -> None:
        if "enum" not in theirs:
            return
        values, ours = set(theirs["enum"]), set(mine.get("enum", ()))
        self.expect(values <= ours, where, f"values {values - ours}")
        if use is Use.ANSWER:
            more = ours - values - NEW_VALUES
            self.expect(not more, where, f"values {more} are unknown to clients")

    def _fields(self, theirs: Json, mine: Json, where: str, use: Use) -> None:
        fields, ours = theirs.get("properties", {}), mine.get("properties", {})
        for name, schema in fields.items():
            if self.expect(name in ours, where, f"field {name}"):
                self.schema(schema, ours[name], f"{where}.{name}", use)
        needed, given = set(theirs.get("required", ())), set(mine.get("required", ()))
        if use is Use.REQUEST:
            self.expect(given <= needed, where, f"{given - needed} are not needed")
        elif use is Use.ANSWER:
            self.expect(needed <= given, where, f"always {needed - given}")
            if theirs.get("additionalProperties") is False:
                more = set(ours) - set(fields)
                self.expect(not more, where, f"clients take no {more}")


def _resolve(document: Json, schema: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _options(document: Json, schema: Json) -> tuple[list[Json], bool]:
    """Return the alternatives, each resolved, and whether null is one, too."""
    schema = _resolve(document, schema)
    choice = schema.get("anyOf") or schema.get("oneOf")
    if choice is None:
        return ([], True) if schema.get("type") == "null" else ([schema], False)
    found = [_options(document, option) for option in choice]
    return [option for options, _ in found for option in options], any(null for _, null in found)
