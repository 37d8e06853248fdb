"""From the texts of a request to the models that a route asks for; every fault is a RequestValidationError."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any, NoReturn, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from cts_core.errors import RequestValidationError
from cts_jupyter.server.http.route import Route

MAX_JSON_BODY = 16 << 20
"""Bytes of a JSON body: 10,000 input files with long names take a quarter of it."""
_MAX_DIGITS = 20
"""Of the length of a body: more than any has."""
MAX_ENTRIES = 100_000
"""Of one list or object of a body. A million entries, each of them wrong, take minutes and gigabytes to refuse."""
MAX_DEPTH = 100
"""Of the lists and objects of a body: what is read in a thread of its own may be too deep to be written again from the loop."""
MAX_PARTS = 1_000_000
"""Of a body, by the signs that begin lists and objects and part what is in them: more take long to be looked at."""
_MAX_DETAILS = 1000
_MAX_FAULTS = 30_000
"""Of a body whose faults are told one by one, three of each input: pydantic lists all or none, and nothing else runs meanwhile."""
_MAX_ECHO = 64 << 10
"""Bytes of a body whose faulty parts are still sent back."""

Detail = dict[str, Any]


def announced_bytes(headers: Mapping[str, str]) -> int:
    """How long the body is said to be; 1 for one in chunks, which does not say."""
    length = headers.get("Content-Length", "")
    if length.isdecimal():
        # Python refuses to read thousands of digits.
        return int(length) if len(length) <= _MAX_DIGITS else sys.maxsize
    return 1 if "Transfer-Encoding" in headers else 0


def read_parameters(route: Route, path_texts: Mapping[str, str], raw_query: str) -> dict[str, Any]:
    """The handler's ``path`` and ``query``."""
    found: dict[str, Any] = {}
    details = [
        *_validate(found, "path", route.path_model, dict(path_texts)),
        *_validate(found, "query", route.query_model, _query(route.query_model, raw_query)),
    ]
    if details:
        raise RequestValidationError(details)
    return found


def read_request(
    route: Route,
    path_texts: Mapping[str, str],
    raw_query: str,
    body: bytes,
    content_type: str | None,
) -> dict[str, Any]:
    """All that the handler asks for; the faults of path, query and body are reported together."""
    if route.body_model is None:
        return read_parameters(route, path_texts, raw_query)
    value = read_json(body, content_type)
    _check_shape(value)
    details: list[Detail] = []
    try:
        found = read_parameters(route, path_texts, raw_query)
    except RequestValidationError as e:
        found, details = {}, e.details
    if value is None and not (body and route.body_required):
        if route.body_required:
            details.append(_detail("missing", ("body",), "Field required", None))
        found["body"] = None
    else:
        details += _validate(found, "body", route.body_model, value)
    if details:
        if len(body) > _MAX_ECHO:
            details = [{k: v for k, v in d.items() if k != "input"} for d in details]
        raise RequestValidationError(details[:_MAX_DETAILS])
    _check_text(value)
    return found


def _validate(
    found: dict[str, Any], place: str, model: type[BaseModel] | None, value: object
) -> list[Detail]:
    if model is None:
        return []
    try:
        found[place] = model.model_validate(value)
    except ValidationError as e:
        if e.error_count() > _MAX_FAULTS:
            told = f"There are {e.error_count()} faults, too many to tell them one by one"
            return [_detail("too_many_faults", (place,), told, None)]
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
        # Deployed clients know an exception in the context as an empty object.
        detail["ctx"] = {
            key: {}
            if isinstance(item, Exception)
            else item
            if isinstance(item, str | int | float | bool | None)
            else str(item)
            for key, item in context.items()
        }
    # Whatever the input was, the details can be written as JSON.
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
        if field is not None and get_origin(field.annotation) is list:
            values.setdefault(name, []).append(text)
        else:
            values[name] = text
    return values


def read_json(body: bytes, content_type: str | None) -> object:
    """The value of a body, or its text where it is of another type. Raises RequestValidationError."""
    if not body:
        return None
    if content_type is not None and not _is_json(content_type):
        return body.decode("utf-8", "replace")
    parts = sum(body.count(sign) for sign in (b"[", b"{", b","))
    if parts > MAX_PARTS:
        told = f"A body may have at most {MAX_PARTS} values, and this one seems to have {parts}"
        raise RequestValidationError([_detail("too_long", ("body",), told, None)])
    try:
        return json.loads(
            body,
            parse_constant=_refuse_number,
            parse_float=_finite,
            object_hook=_let_others_run,
        )
    except json.JSONDecodeError as e:
        raise _invalid_json(e.msg, e.pos) from e
    except (ValueError, RecursionError) as e:
        raise _invalid_json(str(e), 0) from e


def _let_others_run(found: dict[str, Any]) -> dict[str, Any]:
    """The same: but where Python is called, it may let the event loop go on, and not in one long call of C."""
    return found


def _check_text(value: object) -> None:
    """Refuse halves of characters, which JSON can spell, and which can neither be stored nor sent."""
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
                told = f"No list or object may have more than {MAX_ENTRIES} entries, and one has {len(part)}"
                raise RequestValidationError([_detail("too_long", ("body",), told, None)])
        parts = [
            inner for part in level for inner in (part.values() if isinstance(part, dict) else part)
        ]
    told = f"Lists and objects may lie in each other {MAX_DEPTH} deep, and these lie deeper"
    raise RequestValidationError([_detail("too_deep", ("body",), told, None)])


def _parts(value: object) -> Iterator[object]:
    """All that a value is made of, itself and its keys included."""
    left = [value]
    while left:
        part = left.pop()
        yield part
        if isinstance(part, dict):
            left.extend(part)
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)


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


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is out of range")
    return number
