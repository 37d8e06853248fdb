"""Parsing and validation of a request's path, query and body; every fault is a RequestValidationError."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any, NoReturn, get_args, get_origin
from urllib.parse import parse_qsl

from pydantic import (
    BaseModel,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, core_schema

from cts_core.errors import RequestValidationError
from cts_jupyter.server.http.route import Route

QUICK_BODY = 8 << 10
"""Bytes of a JSON body that is parsed and checked in less time than its way to a thread and back takes."""
MAX_JSON_BODY = 16 << 20
"""Bytes of a JSON body: 10,000 input files with long names take a quarter of it."""
_MAX_DIGITS = 20
"""Digits of a Content-Length: more than any real one has."""
MAX_ENTRIES = 100_000
"""Entries of one list or object of a body. A million invalid entries take minutes and gigabytes to refuse."""
MAX_DEPTH = 100
"""The most nesting of a body: a thread can parse a deeper one, but the event loop could not serialize it again."""
MAX_PARTS = 1_000_000
"""Values of a body, counted by its brackets, braces and commas: more take long to examine."""
_MAX_DETAILS = 1000
"""Faults that one response lists."""
_MAX_FAULTS = 30_000
"""Faults of a body, three of each input, up to which they are listed: pydantic lists all or none, and holds the interpreter meanwhile."""
_MAX_ECHO = 64 << 10
"""Bytes of a body up to which its faulty values are sent back."""

Detail = dict[str, Any]


class Repeatable:
    """Marks a set of values as a parameter of the query that may be given once or several times.

    The fault of a value is reported at the parameter, as it is of a parameter that may be given once.
    """

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        (item,) = get_args(source)
        return core_schema.no_info_wrap_validator_function(
            _read_each, handler.generate_schema(item)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        one = handler(schema)
        return {"anyOf": [one, {"type": "array", "items": one}, {"type": "null"}]}


def _read_each(values: list[str], read: ValidatorFunctionWrapHandler) -> frozenset[Any]:
    return frozenset(map(read, values))


def content_length(headers: Mapping[str, str]) -> int:
    """Return the bytes of the body by its headers; 1 for a chunked one, whose length is unknown, 0 for none."""
    # tornado takes equal lengths as one, and a body whose length is read as none would need no room.
    length = headers.get("Content-Length", "").partition(",")[0]
    if length.isdecimal():
        # Python refuses to read thousands of digits.
        return int(length) if len(length) <= _MAX_DIGITS else sys.maxsize
    return 1 if "Transfer-Encoding" in headers else 0


def read_parameters(route: Route, path_texts: Mapping[str, str], raw_query: str) -> dict[str, Any]:
    """Return the arguments ``path`` and ``query`` of a route's handler."""
    arguments: dict[str, Any] = {}
    details = [
        *_validate(arguments, "path", route.path_model, dict(path_texts)),
        *_validate(arguments, "query", route.query_model, _query(route.query_model, raw_query)),
    ]
    if details:
        raise RequestValidationError(details)
    return arguments


def read_request(
    route: Route,
    path_texts: Mapping[str, str],
    raw_query: str,
    body: bytes,
    content_type: str | None,
) -> dict[str, Any]:
    """Return all arguments of a route's handler; the faults of path, query and body are reported together."""
    if route.body_model is None:
        return read_parameters(route, path_texts, raw_query)
    value = read_json(body, content_type)
    _check_shape(value)
    details: list[Detail] = []
    try:
        arguments = read_parameters(route, path_texts, raw_query)
    except RequestValidationError as e:
        arguments, details = {}, e.details
    if value is None and not (body and route.body_required):
        if route.body_required:
            details.append(_detail("missing", ("body",), "Field required", None))
        arguments["body"] = None
    else:
        details += _validate(arguments, "body", route.body_model, value)
    if details:
        if len(body) > _MAX_ECHO:
            details = [{k: v for k, v in d.items() if k != "input"} for d in details]
        raise RequestValidationError(details[:_MAX_DETAILS])
    _check_text(value)
    return arguments


def _validate(
    arguments: dict[str, Any], place: str, model: type[BaseModel] | None, value: object
) -> list[Detail]:
    if model is None:
        return []
    try:
        arguments[place] = model.model_validate(value)
    except ValidationError as e:
        if e.error_count() > _MAX_FAULTS:
            message = f"There are {e.error_count()} faults, too many to tell them one by one"
            return [_detail("too_many_faults", (place,), message, None)]
        return [
            _detail(d["type"], (place, *d["loc"]), d["msg"], d["input"], d.get("ctx"))
            for d in e.errors(include_url=False)[:_MAX_DETAILS]
        ]
    return []


def _detail(
    kind: str,
    loc: tuple[Any, ...],
    msg: str,
    value: object,
    context: Mapping[str, Any] | None = None,
) -> Detail:
    detail: Detail = {"type": kind, "loc": list(loc), "msg": msg, "input": value}
    if context:
        # Deployed clients expect an exception in the context as an empty object.
        detail["ctx"] = {
            key: {}
            if isinstance(item, Exception)
            else item
            if isinstance(item, str | int | float | bool | None)
            else str(item)
            for key, item in context.items()
        }
    # The details must be JSON, whatever the input was.
    if not isinstance(value, str | int | float | bool | list | dict | None):
        detail["input"] = str(value)
    return detail


def _query(model: type[BaseModel] | None, raw: str) -> dict[str, Any]:
    if model is None:
        return {}
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict")
    except ValueError as e:
        raise RequestValidationError(
            [_detail("string_unicode", ("query",), f"The query cannot be read: {e}", None)]
        ) from e
    values: dict[str, Any] = {}
    for name, text in pairs:
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) in (list, frozenset):
            values.setdefault(name, []).append(text)
        else:
            values[name] = text
    return values


def read_json(body: bytes, content_type: str | None) -> object:
    """Return the value of a JSON body, or the text of a body of another type. Raises RequestValidationError."""
    if not body:
        return None
    if content_type is not None and not _is_json(content_type):
        return body.decode("utf-8", "replace")
    parts = sum(body.count(sign) for sign in (b"[", b"{", b","))
    if parts > MAX_PARTS:
        message = f"A body may have at most {MAX_PARTS} values, and this one seems to have {parts}"
        raise RequestValidationError([_detail("too_long", ("body",), message, None)])
    try:
        return json.loads(
            body,
            parse_constant=_refuse_constant,
            parse_float=_parse_finite,
            object_hook=_yield_interpreter,
        )
    except json.JSONDecodeError as e:
        raise _invalid_json(e.msg, e.pos) from e
    except (ValueError, RecursionError) as e:
        raise _invalid_json(str(e), 0) from e


def _yield_interpreter(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value as it is; the call into Python lets the event loop's thread run, which one long call of C does not."""
    return value


def _check_text(value: object) -> None:
    """Refuse lone surrogates, which JSON can express, and which can neither be stored nor sent."""
    try:
        for part in _parts(value):
            if isinstance(part, str):
                part.encode()
    except UnicodeEncodeError as e:
        raise _invalid_json(str(e), 0) from e


def _check_shape(value: object) -> None:
    parts = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [part for part in parts if isinstance(part, dict | list)]
        if not level:
            return
        for part in level:
            if len(part) > MAX_ENTRIES:
                message = f"No list or object may have more than {MAX_ENTRIES} entries, and one has {len(part)}"
                raise RequestValidationError([_detail("too_long", ("body",), message, None)])
        parts = [
            inner for part in level for inner in (part.values() if isinstance(part, dict) else part)
        ]
    message = f"Lists and objects may lie in each other {MAX_DEPTH} deep, and these lie deeper"
    raise RequestValidationError([_detail("too_deep", ("body",), message, None)])


def _parts(value: object) -> Iterator[object]:
    """Iterate over a value and all values in it, keys included."""
    remaining = [value]
    while remaining:
        part = remaining.pop()
        yield part
        if isinstance(part, dict):
            remaining.extend(part)
            remaining.extend(part.values())
        elif isinstance(part, list):
            remaining.extend(part)


def _invalid_json(reason: str, position: int) -> RequestValidationError:
    return RequestValidationError(
        [_detail("json_invalid", ("body", position), "JSON decode error", {}, {"error": reason})]
    )


def _is_json(content_type: str) -> bool:
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _parse_finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is out of range")
    return number
